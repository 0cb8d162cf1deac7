"""Start the app: `python app.py`, then open the address it prints. Also the entry of a Hugging Face Space."""

import sys

from studio.__main__ import main

if __name__ == "__main__":
    sys.exit(main())
