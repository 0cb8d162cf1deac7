"""Publish a model: its files, transformers' export, and a card from the run's record, as one commit on the hub."""

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from nanochat_core.checkpoint.adapters import adapter_files, read_adapter
from nanochat_core.checkpoint.checksums import checksum_path, verify_checksum
from nanochat_core.checkpoint.loading import load_exact
from nanochat_core.checkpoint.reading import model_config, read_meta, read_weights
from nanochat_core.checkpoint.writing import save_checkpoint, save_tokenizer
from nanochat_core.evaluation.today import in_both, snapshot
from nanochat_core.export.export import export
from nanochat_core.export.llama.folder import write_folder
from nanochat_core.export.llama.ollama import hub_files
from nanochat_core.export.llama.quants import Quant, quant_named
from nanochat_core.export.llama.report import differences
from nanochat_core.export.llama.weights import check_expressible
from nanochat_core.export.transformers import check_exportable
from nanochat_core.hub.errors import publishing, told_plainly
from nanochat_core.hub.files import check_repo
from nanochat_core.hub.record import DownloadRecord
from nanochat_core.paths import ModelFiles, adapter_base, find_model, home, meta_path, starter_dir, weights_path
from nanochat_core.publish.card import ADAPTER_FOLDER, CardFacts, card
from nanochat_core.publish.repository import CARD, open_repository
from nanochat_core.report.document import public_results
from nanochat_core.report.markdown import blocks_to_markdown
from nanochat_core.runs.metrics import plain
from nanochat_core.runs.run import Run, run_at
from nanochat_core.runs.snapshot import copy_data, opened_data
from nanochat_core.system.files import workspace, write_json
from nanochat_core.system.words import without_paths
from nanochat_core.tokenizer.pickle_file import read_tokenizer_file
from nanochat_core.tokenizer.tokenizer import FILE_NAME, Tokenizer

_SHAPE = ("sequence_len", "vocab_size", "n_layer", "n_head", "n_kv_head", "n_embd")
_TOKENIZER_FILES = ("tokenizer.pkl", "token_bytes.pt")


@dataclass(frozen=True)
class Publication:
    """What was published."""

    repo: str
    step: int
    address: str
    """Address of the commit."""
    is_private: bool
    notes: tuple[str, ...] = ()
    """What was left out or kept as it was, and why."""

    def summary(self) -> str:
        """Text for a person."""
        who = "private: only you can see it" if self.is_private else "public"
        return "\n".join([f"Published step {self.step} to {self.repo} ({who}): {self.address}", *self.notes])


def publish(  # noqa: PLR0913  all but the first two are options
    name: str,
    repo: str,
    public: bool = False,
    with_data: bool = False,
    step: int | None = None,
    with_export: bool = True,
    dtype: str | None = None,
    say: Callable[[str], None] = print,
    gguf: str | None = None,
) -> Publication:
    """Put a checkpoint of the model called `name` on the hub as `repo`, which is made private unless `public`.

    with_data: the training data too; else not a line of it, nor of the replies, leaves the machine. step: that of the
    checkpoint; None takes the newest. with_export: transformers' files, where it has such a model. dtype: theirs
    (float32 or bfloat16). gguf: a GGUF file too, for Ollama and its like, in this quantization. No path of this machine
    and no token is ever published. Raises ValueError with the remedy.
    """
    check_repo(repo)
    quant = quant_named(gguf) if gguf is not None and with_export else None
    files = find_model(name, step)
    run = run_at(files.folder)
    model = f"finetuned/{run.tag}" if run else str(without_paths(name))
    if with_data:
        _check_data(run)
    staging = home() / "models" / f".publishing-{repo.replace('/', '--')}"
    busy = f"Another publication to {repo} is running. Wait until it has ended."
    with told_plainly(publishing(repo, home())), workspace(staging, busy) as folder:
        if files.is_adapter:
            _stage_adapted(files, folder)
        else:
            _stage_checkpoint(files, folder)
        facts = _facts(files, folder, run, repo, with_data, with_export, quant)
        repository = open_repository(repo, model, public)
        if facts.transformers is None:
            say("Writing transformers' files ...")
            _stage_export(folder, files.step, dtype)
        if quant is not None:
            say("Writing the GGUF file, and measuring what is different there ...")
            facts = replace(facts, gguf=quant.label, gguf_differences=_stage_gguf(files, folder, quant))
        if run is not None:
            _stage_run(run, folder, with_data)
        if "starter" in (name, run and run.record().get("original_base")):
            shutil.copyfile(starter_dir() / "NOTICE", folder / "NOTICE")  # its sources ask for that
        facts = replace(facts, has_curves=(folder / "curves.png").is_file())
        (folder / CARD).write_text(card(facts), encoding="utf-8")
        size = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())
        say(f"Sending {size / 1e6:,.1f} MB to {repo} ...")
        address = repository.send(folder, {"model": model, **_record(run)}, f"Step {files.step}")
    return Publication(repo, files.step, address, repository.is_private, tuple(_notes(facts, repository, public)))


def _notes(facts: CardFacts, repository: Any, public: bool) -> list[str]:
    notes = [facts.transformers] if facts.transformers else []
    if repository.edited_card:
        notes.append("The card was changed on the hub, so it was left as it is there.")
    if public and repository.is_private:
        notes.append("The repository was private already and stays so: make it public in its settings on the hub.")
    return notes


def _check_data(run: Run | None) -> None:
    """ValueError when the training data cannot be published, since it is nowhere as it was trained on."""
    if run is None:
        raise ValueError("The training data of this model is not on this machine. Leave --with-data out.")
    try:
        opened_data(run).close()
    except ValueError as error:
        raise ValueError(f"{error} Or leave --with-data out.") from error


def _facts(  # noqa: PLR0913  each is another source of the facts
    files: ModelFiles,
    folder: Path,
    run: Run | None,
    repo: str,
    with_data: bool,
    with_export: bool,
    quant: Quant | None,
) -> CardFacts:
    weights, meta = read_weights(weights_path(folder, files.step)), read_meta(meta_path(folder, files.step))
    config = model_config(meta, weights)
    if quant is not None:
        check_expressible(config, quant)
    facts = CardFacts(
        repo=repo,
        step=files.step,
        parameters=sum(tensor.numel() for tensor in weights.values()),
        generation=config.generation,
        shape={name: getattr(config, name) for name in _SHAPE},
        base_repo=DownloadRecord.owner_of(files.folder),
        transformers=_why_no_export(config, with_export),
        has_adapter=(folder / ADAPTER_FOLDER).is_dir(),
    )
    return facts if run is None else _with_run(facts, run, with_data)


def _why_no_export(config: Any, with_export: bool) -> str | None:
    """None when there is an export for transformers, else a sentence."""
    try:
        check_exportable(config)
    except ValueError:
        return f"transformers has no model of generation {config.generation}, so there are no files for it here."
    return None if with_export else "The files for transformers come when the training is over."


def _with_run(facts: CardFacts, run: Run, with_data: bool) -> CardFacts:
    record, status = without_paths(run.record()), run.status()
    base, base_repo = _base(record)
    done = f"The training {'is still going on' if not status.is_over else f'was {status.state}'}"
    return replace(
        facts,
        base=base,
        base_repo=base_repo,
        data=record.get("data", {}),
        has_data=with_data,
        settings=record.get("settings", {}),
        created=str(record.get("created", "")),
        progress="" if status.state == "finished" else f"{done}: this is step {facts.step} of {status.steps}.",
        results=tuple(_results(run, facts.step)),
        proof="\n\n".join(blocks_to_markdown(public_results(run))) if facts.step == status.step else "",
    )


def _base(record: dict[str, Any]) -> tuple[str, str | None]:
    """(the base model in words, its repository on the hub where it was downloaded from one)."""
    name, origin = str(record.get("base_model", "")), str(record.get("original_base", ""))
    settings = record.get("settings", {})
    repo = None
    with contextlib.suppress(ValueError):  # the base may have been deleted since
        source = settings.get("source") if name == origin and origin.startswith("pretrained/") else None
        repo = DownloadRecord.owner_of(find_model(origin, source=source).folder) if origin else None
    words = {"starter": "nanochat studio's practice model (starter)"}.get(origin, repo or origin or name)
    return (words if name in ("", origin) else f"the run {name.removeprefix('finetuned/')}, itself of {words}"), repo


def _results(run: Run, step: int) -> list[tuple[str, str, str]]:
    """Rows of (what, before, at `step`). Scores only: questions and replies are the data's."""
    rows: list[tuple[str, str, str]] = []
    losses = run.metrics().dropna(subset=["val_loss"])
    losses = losses[losses["step"] <= step]
    if len(losses) > 1:
        rows.append(("Validation loss", f"{losses.val_loss.iloc[0]:.4f}", f"{losses.val_loss.iloc[-1]:.4f}"))
        rows.append(("Validation bits per byte", f"{losses.val_bpb.iloc[0]:.4f}", f"{losses.val_bpb.iloc[-1]:.4f}"))
    if step != run.status().step:
        return rows  # the questions were asked after the last step
    before, after = (snapshot(run, name) for name in ("before", "after"))
    for key, words in (("new", "New questions answered"), ("old", "Old skills kept")):
        then, now = before.get(key), after.get(key)
        if isinstance(then, dict) and isinstance(now, dict):
            if then.get("answers") and now.get("answers"):
                then, now = in_both(then, now)
            rows.append((words, f"{then['correct']} of {then['total']}", f"{now['correct']} of {now['total']}"))
    return rows


def _record(run: Run | None) -> dict[str, Any]:
    """What the repository keeps of the run beside its card, for programs."""
    if run is None:
        return {}
    status = run.status()
    told = {"state": status.state, "step": status.step, "steps": status.steps, "best_step": status.best_step}
    return {**without_paths(run.record()), "status": plain(told)}


def _stage_checkpoint(files: ModelFiles, folder: Path) -> None:
    """nanochat's own files, verified. The weights by a second name: the trainer may meanwhile remove the first."""
    weights = folder / files.weights.name
    try:
        _second_name(files.weights, weights)
        if checksum_path(files.weights).is_file():
            shutil.copyfile(checksum_path(files.weights), checksum_path(weights))
            verify_checksum(weights)
            checksum_path(weights).unlink()
        write_json(folder / files.meta.name, without_paths(json.loads(files.meta.read_text(encoding="utf-8"))))
    except FileNotFoundError as error:
        raise ValueError(
            f"The checkpoint of step {files.step} was replaced by a newer one meanwhile. Repeat the publication."
        ) from error
    save_tokenizer(folder, Tokenizer.from_directory(files.tokenizer_dir))
    for name in _TOKENIZER_FILES:  # rather as they are, where they are
        if (files.tokenizer_dir / name).is_file():
            shutil.copyfile(files.tokenizer_dir / name, folder / name)


def _stage_adapted(files: ModelFiles, folder: Path) -> None:
    """Of a run with LoRA the merged model, which every reader loads, and beside it the adapter alone."""
    model, tokenizer, meta = load_exact(files)
    meta = {name: value for name, value in without_paths(meta).items() if name != "adapter"}
    save_checkpoint(folder, files.step, model, meta)
    checksum_path(weights_path(folder, files.step)).unlink()
    save_tokenizer(folder, tokenizer)
    base = adapter_base(files)
    (folder / ADAPTER_FOLDER).mkdir()
    for name, content in adapter_files(read_adapter(files.weights.parent), base.name).items():
        (folder / ADAPTER_FOLDER / name).write_bytes(content)


def _second_name(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileNotFoundError:
        raise
    except OSError:  # another disk, or one that has no links
        shutil.copyfile(source, target)


def _stage_export(folder: Path, step: int, dtype: str | None) -> None:
    exported = export(str(folder), folder / "export", dtype=dtype, step=step)
    for path in exported.iterdir():
        os.replace(path, folder / path.name)
    exported.rmdir()


def _stage_gguf(files: ModelFiles, folder: Path, quant: Quant) -> tuple[str, ...]:
    """The GGUF file of the checkpoint in `folder`, and what Ollama looks for beside it; what is different there."""
    staged = find_model(str(folder), files.step)
    model, _, _ = load_exact(staged)
    place = folder / "gguf"
    place.mkdir()
    found = write_folder(place, files, model, read_tokenizer_file(folder / FILE_NAME), quant)
    for path in [*place.glob("*.gguf"), place / "differences.json"]:
        os.replace(path, folder / path.name)
    shutil.rmtree(place)
    for name, content in hub_files(model.config.sequence_len).items():
        (folder / name).write_text(content, encoding="utf-8")
    return tuple(differences(found))


def _stage_run(run: Run, folder: Path, with_data: bool) -> None:
    """Metrics, their picture, and the data when asked for. Neither the log nor the replies: they quote the data."""
    if run.metrics_file.is_file():
        shutil.copyfile(run.metrics_file, folder / "metrics.jsonl")
        run.plot().savefig(folder / "curves.png")
    if with_data:
        copy_data(run, folder / "data.jsonl")
