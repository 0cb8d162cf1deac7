"""SECURITY.md states the limits that the code has."""

import re

from nanochat_core.paths import PROJECT_ROOT
from nanochat_core.system.spawn import is_secret
from studio.__main__ import AUTH
from studio.datasets.apart import MEMORY_BYTES, PROCESSOR_SECONDS, UNPACKED_BYTES
from studio.parts.uploads import CLEAN_SECONDS, DEFAULT_UPLOAD
from studio.space.guesses import FREE_GUESSES, LONGEST_SECONDS

TEXT = " ".join((PROJECT_ROOT / "SECURITY.md").read_text(encoding="utf-8").split())


def test_the_limits_of_the_page_are_those_of_the_code():
    assert f"at most {MEMORY_BYTES >> 30} GB of memory, {UNPACKED_BYTES >> 30} GB of unpacked text" in TEXT
    assert f"{PROCESSOR_SECONDS // 60} minutes of processor time" in TEXT
    assert f"{DEFAULT_UPLOAD // 1000**2} MB for each file" in TEXT
    assert CLEAN_SECONDS[1] == 3600
    assert "at the latest an hour later" in TEXT
    assert (FREE_GUESSES, LONGEST_SECONDS) == (5, 30)


def test_the_secrets_that_it_names_are_known_as_such():
    named = set(re.findall(r"`([A-Z][A-Z_]+)`", TEXT))
    assert {"HF_TOKEN", "OAUTH_CLIENT_SECRET", AUTH} <= named
    assert all(is_secret(name) for name in named)


def test_readme_leads_there():
    assert "(SECURITY.md)" in (PROJECT_ROOT / "README.md").read_text(encoding="utf-8")
