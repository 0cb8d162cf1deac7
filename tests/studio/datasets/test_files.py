"""Datasets on disk: nothing is overwritten unseen, nothing outside data/ is reached, saves keep what was there."""

import pytest

from nanochat_core.system.files import sha256_of
from studio.datasets import files
from studio.datasets.files import ConflictError
from tests.support.samples import GOOD

LINE = GOOD.encode() + b"\n"


def write(*lines):
    return lambda file: file.write(b"".join(lines))


def own(home, name="mine.jsonl", content=LINE):
    path = home / "data" / name
    path.parent.mkdir(exist_ok=True)
    path.write_bytes(content)
    return path


def test_the_example_is_listed_last_and_questions_are_not(home):
    own(home), own(home, "b_questions.jsonl"), own(home, ".hidden.jsonl"), own(home, "notes.txt")
    assert [(found.name, found.is_shipped) for found in files.list_datasets()] == [
        ("mine.jsonl", False),
        ("example_data.jsonl", True),
    ]


HIDDEN = ["a\u200bb", "a\u202egnp.exe", "\u3164", "a\u2066b", "a\ufeffb", "a\u00adb", "\u2800x", "a\ufe0fb", "a\u00a0b"]


@pytest.mark.parametrize(
    "name",
    ["", " ", "../x", "a/b", ".hidden", "a\\b", "x" * 90, "a\0b", "end.", "my_questions", "a\nb", "-", *HIDDEN],
)
def test_names_that_could_be_anything_else_are_refused(home, name):
    with pytest.raises(ValueError, match=r"cannot be the name|are kept for"):
        files.checked_name(name)


@pytest.mark.parametrize(
    "upload", ["../../etc/passwd", "a/b.csv", "ü ö.json", "...", "", "x_questions.jsonl", "a" * 300, *HIDDEN]
)
def test_any_uploaded_name_becomes_a_good_one(home, upload):
    assert files.checked_name(files.name_from(upload))


def test_only_listed_files_are_found(home):
    path = own(home)
    secret = home / "secret.jsonl"
    secret.write_bytes(LINE)
    assert files.find_dataset(str(path)).path == path
    for other in (secret, home / "data" / ".." / "secret.jsonl", "/etc/passwd", ""):
        with pytest.raises(ValueError, match="There is no dataset"):
            files.find_dataset(str(other))


def test_save_keeps_the_version_before(home):
    path = own(home)
    old = path.read_bytes()
    sha = files.save(path, write(LINE, LINE), sha256_of(path))
    assert path.read_bytes() == LINE + LINE
    assert sha == sha256_of(path)
    (version,) = files.versions(path)
    assert version.path.read_bytes() == old
    files.save(path, write(old), sha)
    files.save(path, write(LINE, LINE, LINE), sha256_of(path))
    assert [kept.path.read_bytes() for kept in files.versions(path)] == [LINE + LINE, old]  # each content once


def test_a_file_that_changed_meanwhile_is_not_overwritten(home):
    path = own(home)
    opened = sha256_of(path)
    path.write_bytes(b"somebody else\n")
    with pytest.raises(ConflictError, match="changed elsewhere"):
        files.save(path, write(LINE), opened)
    assert path.read_bytes() == b"somebody else\n"
    path.unlink()
    with pytest.raises(ConflictError, match="not there any more"):
        files.save(path, write(LINE), opened)
    assert not path.exists()


def test_a_new_file_never_replaces_one(home):
    path = own(home)
    with pytest.raises(ConflictError, match="already a dataset"):
        files.save(path, write(b"new\n"), None)
    assert path.read_bytes() == LINE


def test_a_failed_save_leaves_the_file(home):
    path = own(home)

    def fail(file):
        file.write(b"half")
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        files.save(path, fail, sha256_of(path))
    assert path.read_bytes() == LINE


def test_duplicate_rename_and_bin(home):
    path = own(home)
    files.save(path, write(LINE, LINE), sha256_of(path))
    copy = files.duplicate(files.find_dataset(path))
    assert copy.name == "mine-2.jsonl"
    renamed = files.rename(files.find_dataset(path), "other")
    assert not path.exists()
    assert len(files.versions(renamed)) == 1
    with pytest.raises(ValueError, match="already a dataset"):
        files.rename(files.find_dataset(renamed), "mine-2")
    where = files.bin_dataset(files.find_dataset(renamed))
    assert where.read_bytes() == LINE + LINE
    assert renamed.name not in {found.name for found in files.list_datasets()}


def test_the_example_is_a_template(home):
    example = files.list_datasets()[-1]
    content = example.path.read_bytes()
    copy = files.duplicate(example)
    assert (copy.parent, copy.name, copy.read_bytes()) == (home / "data", "my_example_data.jsonl", content)
    for change in (files.bin_dataset, lambda found: files.rename(found, "x")):
        with pytest.raises(ValueError, match="shipped example"):
            change(example)
    assert example.path.read_bytes() == content
