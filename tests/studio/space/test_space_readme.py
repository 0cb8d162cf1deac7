"""What the README tells a Space: its front matter, and that it holds for this project."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from studio.space.access import FURTHER_OWNERS
from studio.space.home import BUCKET, HOME
from studio.space.visitor_limits import MODEL, MOST_CHARACTERS, MOST_TOKENS

ROOT = Path(__file__).resolve().parents[3]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
README = (ROOT / "README.md").read_text(encoding="utf-8")
# The hub refuses or ignores others; `hardware` is none of them.
KNOWN = {"title", "short_description", "license", "sdk", "sdk_version", "python_version", "app_file", "hf_oauth"}


@pytest.fixture(scope="module")
def front():
    _, front, rest = README.split("---\n", 2)
    assert rest.startswith("\n# nanochat studio\n")
    return yaml.safe_load(front)


def requirement(name: str) -> Requirement:
    return next(found for found in map(Requirement, PROJECT["dependencies"]) if found.name == name)


def test_a_space_installs_what_the_package_asks_for():
    assert (ROOT / "requirements.txt").read_text().splitlines() == PROJECT["dependencies"]


def test_the_front_matter_makes_it_a_gradio_space(front):
    assert front.keys() - KNOWN == {"suggested_hardware"}
    assert (front["sdk"], front["hf_oauth"]) == ("gradio", True)
    assert (ROOT / front["app_file"]).is_file()
    assert len(front["short_description"]) <= 60  # the hub's limit
    assert README.isascii() or not re.search("[\U0001f300-\U0001faff]", README)


def test_its_versions_are_those_of_the_project(front):
    gradio = requirement("gradio")
    assert front["sdk_version"] in gradio.specifier
    assert "oauth" in gradio.extras  # the sign-in's libraries
    assert front["python_version"] == "3.12"
    assert front["python_version"] in SpecifierSet(PROJECT["requires-python"])
    assert "2.11" in requirement("torch").specifier  # the newest that ZeroGPU has


def test_the_section_says_what_the_code_does():
    section = README.split("\n## As a Hugging Face Space\n")[1].split("\n## ")[0]
    for said in (FURTHER_OWNERS, HOME, f":{BUCKET}", f"`{MODEL}`", f"{MOST_CHARACTERS:,}", str(MOST_TOKENS)):
        assert said in section
