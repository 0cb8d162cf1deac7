"""A full disk is one sentence with the path, what was needed and what is free, whichever library was writing."""

import errno
import resource
import subprocess
import sys
import tempfile

import pytest
import torch

from nanochat_core.data.line import write_data
from nanochat_core.paths import PROJECT_ROOT
from nanochat_core.system.disk import DiskFull, cap, need_room
from nanochat_core.system.files import write_atomically
from nanochat_core.system.words import size


@pytest.fixture
def small_files():
    """Files may not grow beyond 100,000 bytes, as with a quota."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "content",
    [bytes(200_000), lambda file: file.write(bytes(200_000)), lambda file: torch.save(torch.ones(50_000), file)],
)
def test_what_has_no_room_is_a_sentence_and_leaves_the_old_file(tmp_path, small_files, content):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    with pytest.raises(DiskFull, match=r"^/.*file cannot be written: .*It needs 200 kB, and .* are free") as full:
        write_atomically(path, content, 200_000)
    known = (full.value.errno, full.value.strerror, full.value.filename)  # for sentences of others
    assert known == (errno.EFBIG, "a limit on the size of files is reached", path)
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_a_data_file_without_room_says_why(tmp_path, small_files):
    with pytest.raises(ValueError, match=r"x cannot be written: a limit on the size of files is reached\. Choose"):
        write_data(tmp_path / "x", lambda file: file.write(bytes(200_000)))


def test_an_error_of_the_place_names_the_file_that_was_to_be_written(tmp_path, monkeypatch):
    def refuse(*_, **__):
        raise OSError(errno.EROFS, "Read-only file system", "/x/.file.abc.tmp")

    monkeypatch.setattr(tempfile, "mkstemp", refuse)
    with pytest.raises(OSError, match="Read-only") as told:
        write_atomically(tmp_path / "file", b"x")
    assert told.value.filename == str(tmp_path / "file")


def test_other_errors_stay_what_they_are(tmp_path):
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError):
        write_atomically(tmp_path / "folder", b"x")
    with pytest.raises(ZeroDivisionError):
        write_atomically(tmp_path / "file", lambda file: 1 / 0)


def test_room_is_asked_for_before_the_work(tmp_path):
    need_room(tmp_path / "not" / "there", 1, "It")
    with pytest.raises(ValueError, match=r"^It needs 1000\.0 TB in .*free there\. Free some space"):
        need_room(tmp_path, 10**15, "It")


def test_sizes_are_said_in_words():
    assert [size(count) for count in (0, 999, 1000, 1_500_000, 16e9)] == ["0 B", "999 B", "1 kB", "1.5 MB", "16.0 GB"]
    assert size(None) == "–"


@pytest.mark.processes
def test_a_long_log_loses_its_oldest_half_while_it_is_written(tmp_path):
    log = tmp_path / "log.txt"
    code = "import sys\nfor number in range(int(sys.argv[1])): print('line', number, flush=True)"
    with open(log, "ab") as file:
        for _ in range(3):
            subprocess.run([sys.executable, "-c", code, "2000"], stdout=file, check=True, cwd=PROJECT_ROOT)
            cap(log, 20_000)
    lines = log.read_text().splitlines()
    assert log.stat().st_size < 20_000
    assert lines[0] == "[The oldest part was dropped here: the log had more than 20 kB.]"
    assert lines[-1] == "line 1999"
    assert all(line.startswith("line ") for line in lines[1:])
