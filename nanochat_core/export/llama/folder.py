"""The folder of a GGUF export: the file itself, Ollama's Modelfile, and what is different from here."""

from collections.abc import Callable
from pathlib import Path

from gguf import GGML_QUANT_VERSION, GGUFWriter

from nanochat_core.export.llama.conversations import conversations_for
from nanochat_core.export.llama.differences import Differences, measure_differences
from nanochat_core.export.llama.ollama import modelfile
from nanochat_core.export.llama.quants import Quant
from nanochat_core.export.llama.report import report
from nanochat_core.export.llama.tokenizer import add_tokenizer, llama_tokenizer
from nanochat_core.export.llama.weights import ARCHITECTURE, add_shape, write_tensors
from nanochat_core.model.gpt import GPT
from nanochat_core.paths import ModelFiles
from nanochat_core.system.files import write_json
from nanochat_core.tokenizer.pickle_file import EncodingState
from nanochat_core.tokenizer.tokenizer import Tokenizer


def write_gguf(path: Path, model: GPT, encoding: EncodingState, quant: Quant, name: str) -> None:
    """Write one GGUF file. `name` is what programs show."""
    writer = GGUFWriter(path, ARCHITECTURE)
    try:
        writer.add_name(name)
        writer.add_type("model")
        writer.add_file_type(quant.file_type)
        writer.add_quantization_version(GGML_QUANT_VERSION)
        add_shape(writer, model.config)
        add_tokenizer(writer, encoding)
        write_tensors(writer, model, quant)
    finally:
        writer.close()


def write_folder(
    folder: Path,
    files: ModelFiles,
    model: GPT,
    encoding: EncodingState,
    quant: Quant,
    say: Callable[[str], object] = lambda text: None,
) -> Differences:
    """Fill the empty `folder` with the checkpoint in `files`, read as `model`; what is different from here.

    The file, Modelfile, and the differences as README.md and differences.json.
    """
    name = public_name(files)
    path = folder / f"{name}-{quant.label}.gguf"
    write_gguf(path, model, encoding, quant, name)
    ours, theirs = Tokenizer(encoding), llama_tokenizer(encoding)
    data = conversations_for(files, ours, model.config.sequence_len)
    found = measure_differences(path, model, ours, theirs, data, say)
    facts = {"model": name, "step": files.step, "file": path.name, "quant": quant.name, **found.to_dict()}
    write_json(folder / "differences.json", facts)
    (folder / "Modelfile").write_text(modelfile(path.name, model.config.sequence_len), encoding="utf-8")
    (folder / "README.md").write_text(report(name, files.step, path.name, quant, found), encoding="utf-8")
    return found


def public_name(files: ModelFiles) -> str:
    """What the model is called elsewhere: as its folder."""
    return files.folder.resolve().name
