"""What was done with a record, for the person whose words it holds."""

from typing import NamedTuple


class Note(NamedTuple):
    """One thing that was done."""

    text: str
    """In few words, as a sentence begins."""
    matters: bool = False
    """Whether words were dropped, left out or given another place or meaning; else only their form is another."""
