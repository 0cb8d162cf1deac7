"""Tensors of a GGUF file: one at a time in memory, never in F16, and only of models that llama.cpp can express."""

import weakref

import pytest
from gguf import GGMLQuantizationType, GGUFReader, GGUFWriter

from nanochat_core.cli.main import main
from nanochat_core.export.export import export
from nanochat_core.export.llama.quants import QUANTS, file_bytes, quant_named
from nanochat_core.model.shape import GPTConfig
from tests.support.exporting import tiny_folder


@pytest.mark.parametrize("generation", "BCDE")
def test_other_generations_are_refused_in_a_sentence_with_the_ways_that_exist(home, tmp_path, capsys, generation):
    folder = tiny_folder(tmp_path / "small", generation=generation)
    assert main(["export", "--model", str(folder), str(tmp_path / "out"), "--format", "gguf"]) == 2
    error = capsys.readouterr().err
    assert error.startswith(f"Error: This model is of nanochat's generation {generation}")
    assert error.count("\n") == 1
    assert all(way in error for way in ("the command serve", "--format nanochat"))
    assert not (tmp_path / "out").exists()


def test_a_width_without_whole_blocks(home, tmp_path):
    folder = str(tiny_folder(tmp_path / "small", n_embd=48))
    with pytest.raises(ValueError, match=r"Q8_0 holds weights in blocks of 32, and a row of this model has 48. Use"):
        export(folder, tmp_path / "out", "gguf")
    assert list(export(folder, tmp_path / "out", "gguf", quant="bf16").glob("*-BF16.gguf"))


@pytest.mark.parametrize("quant", QUANTS)
def test_types_and_sizes(tiny_path, tmp_path, quant):
    [path] = export(tiny_path, tmp_path / "out", "gguf", quant=quant).glob("*.gguf")
    tensors = GGUFReader(path).tensors
    matrices = {tensor.tensor_type for tensor in tensors if tensor.n_elements > 512}
    assert matrices == {QUANTS[quant].matrices} != {GGMLQuantizationType.F16}
    vectors = sum(tensor.n_bytes for tensor in tensors if tensor.n_elements <= 512)
    shape = GPTConfig(sequence_len=256, vocab_size=512, n_layer=2, n_head=2, n_kv_head=2, n_embd=64)
    assert sum(tensor.n_bytes for tensor in tensors) - vectors == file_bytes(shape, quant_named(quant))


def test_rows_that_pad_the_vocabulary_are_left_out(home, tmp_path):
    folder = tiny_folder(tmp_path / "small", vocab_size=512, padded_vocab_size=576)
    [path] = export(str(folder), tmp_path / "out", "gguf", quant="f32").glob("*.gguf")
    rows = {tensor.name: int(tensor.shape[1]) for tensor in GGUFReader(path).tensors if len(tensor.shape) == 2}
    assert (rows["token_embd.weight"], rows["output.weight"]) == (512, 512)


def test_one_converted_tensor_is_in_memory_at_a_time(tiny_path, tmp_path, monkeypatch):
    write, alive, most = GGUFWriter.write_tensor_data, weakref.WeakSet(), []

    class Watched:
        """Weakly referable, as long as the array is."""

    def watched(writer, tensor):
        mark = Watched()
        weakref.finalize(tensor, lambda kept: None, mark)
        alive.add(mark)
        most.append(len(alive))
        write(writer, tensor)

    monkeypatch.setattr(GGUFWriter, "write_tensor_data", watched)
    export(tiny_path, tmp_path / "out", "gguf")
    assert (max(most), len(most)) == (1, 2 + 1 + 2 * 10)
