"""The command line with Muon's iteration in fp32: what differs then between one process and several is no rounding."""

import sys
from unittest.mock import patch

import torch

from nanochat_core.cli.main import main

muon_in_fp32 = patch("nanochat_core.training.muon.choose_compute_dtype", lambda *_: torch.float32)

if __name__ == "__main__":
    with muon_in_fp32:
        sys.exit(main())
