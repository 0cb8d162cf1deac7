"""Files written one tensor at a time are torch.save's, and nothing but one tensor is in memory for them."""

import io
import weakref
import zipfile

import pytest
import torch

from nanochat_core.checkpoint.one_by_one import Later, size_of, take_part, write_one_by_one

CONTENT = {
    "matrix": torch.arange(15.0).view(3, 5),
    "turned": torch.arange(24.0).view(4, 6).t(),
    "part": torch.arange(24.0)[3:9],
    "table": torch.arange(14.0, dtype=torch.bfloat16).view(7, 2),
    "numbers": {"step": torch.tensor(3.0), "none": torch.empty(0, 3), "lr": 0.5, "saved": [1, 2], "best": None},
    "list": [torch.ones(2, dtype=torch.float16)],
}


def written(content) -> bytes:
    file = io.BytesIO()
    write_one_by_one(content, file)
    return file.getvalue()


def same(one, other) -> bool:
    if isinstance(one, torch.Tensor):
        is_alike = (one.dtype, one.shape, one.stride()) == (other.dtype, other.shape, other.stride())
        return is_alike and not one.requires_grad and torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def by_torch(content):
    file = io.BytesIO()
    torch.save(content, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=True)


@pytest.mark.parametrize("mapped", [False, True])
def test_torch_reads_the_same_as_of_its_own(tmp_path, mapped):
    path = tmp_path / "file.pt"
    path.write_bytes(written(CONTENT))
    found = torch.load(path, weights_only=True, mmap=mapped)
    expected = by_torch(CONTENT) | {"turned": CONTENT["turned"].contiguous()}
    assert same(found, expected)


def test_a_trained_parameter_comes_back_as_plain_numbers():
    parameter = torch.nn.Parameter(torch.ones(3))
    assert same(torch.load(io.BytesIO(written([parameter])), weights_only=True), [torch.ones(3)])


def test_the_file_is_a_sound_archive_whose_numbers_lie_where_a_mapping_reads_them():
    data = written(CONTENT)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        for record in archive.infolist():
            header = data[record.header_offset :]
            start = 30 + int.from_bytes(header[26:28], "little") + int.from_bytes(header[28:30], "little")
            assert (record.header_offset + start) % 64 == 0
            assert record.compress_type == zipfile.ZIP_STORED
            assert header[start : start + record.file_size] == archive.read(record)


def test_equal_content_is_an_equal_file():
    assert written(CONTENT) == written(CONTENT)


def test_another_type_of_numbers_is_refused_before_anything_is_written():
    file = io.BytesIO()
    with pytest.raises(KeyError):
        write_one_by_one([torch.ones(2, dtype=torch.complex64)], file)
    assert file.getvalue() == b""


class Made:
    """Tensors made one after the other, and what was still there of those before."""

    def __init__(self):
        self.order, self.left, self._last = [], 0, lambda: None

    def later(self, number: int, *, gives: bool = True) -> Later:
        def make():
            self.order.append(number)
            self.left += self._last() is not None
            tensor = torch.full((4, 3), float(number))
            self._last = weakref.ref(tensor)
            return tensor if gives else None

        return Later(torch.Size((4, 3)), torch.float32, make, lambda: self.order.append(-number))


def test_one_tensor_is_in_memory_at_a_time():
    made = Made()
    content = {"b": made.later(1), "a": [made.later(2), {"c": made.later(3)}], "d": torch.ones(2)}
    found = torch.load(io.BytesIO(written(content)), weights_only=True)
    assert made.order == [1, -1, 2, -2, 3, -3]
    assert made.left == 0
    assert (found["b"][0, 0], found["a"][0][3, 2], found["a"][1]["c"][1, 1]) == (1, 2, 3)
    assert size_of(content) == 3 * 4 * 3 * 4 + 2 * 4


def test_who_takes_part_makes_the_same_in_the_same_order():
    writing, helping = Made(), Made()
    content = [
        {"b": maker.later(1, gives=maker is writing), "a": [maker.later(2, gives=maker is writing)]}
        for maker in (writing, helping)
    ]
    written(content[0])
    take_part(content[1])
    assert helping.order == writing.order
