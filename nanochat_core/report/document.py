"""The report of a run beside its base, or of a run beside another one: what it says, part by part."""

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from nanochat_core.config import settings
from nanochat_core.evaluation.today import snapshot, unasked_words
from nanochat_core.report import facts
from nanochat_core.report.blocks import Block, Chart, Code, Document, Heading, Table, Text
from nanochat_core.report.facts import Asked, Read
from nanochat_core.runs import curves
from nanochat_core.runs.as_code import shell_command
from nanochat_core.runs.distance import distance_words
from nanochat_core.runs.run import Run
from nanochat_core.show.palette import Series
from nanochat_core.system.words import without_paths

SMOOTHING = 0.8
_FLIPS_OPEN = 10
"""So few flips are shown at once; more are folded."""


SaidOfData = Callable[[Run], list[str]]
"""What is found in a run's data, in sentences."""


def report_of(tag: str, compare: str | None = None, said_of_data: SaidOfData = facts.said_of_data) -> Document:
    """The report of run `tag`, beside its base or the run `compare`. ValueError when there is no such run."""
    run = Run.open(tag)
    other = Run.open(compare) if compare else None
    if other is not None and other.tag == run.tag:
        raise ValueError(f"'{tag}' is compared with itself. Name another run with --compare, or none.")
    title = f"Run {run.tag}" if other is None else f"Run {run.tag} beside run {other.tag}"
    blocks: list[Block] = [Text(said, "bad") for one in (run, other) if one and (said := facts.unfinished(one))]
    blocks += [*_better(run, other), *_cost(run, other), *_curves(run, other), *_data(run, other, said_of_data)]
    blocks += [*_settings(run, other), *_samples(run, other), *_repeat(run)]
    return Document(title, time.strftime("%Y-%m-%d %H:%M"), blocks)


def public_results(run: Run) -> list[Block]:
    """What came of a run without a line of its data: verdicts and figures, for the card of a model."""
    blocks: list[Block] = []
    for one in facts.asked_around(run):
        blocks += _verdict(one, is_public=True)
    if (nats := facts.distance(run)) is not None:
        blocks.append(Text(distance_words(nats)))
    return [*blocks, Table(("", ""), list(facts.cost(run).items()))]


def _better(run: Run, other: Run | None) -> Iterator[Block]:
    yield Heading("Did it get better")
    ours, theirs = facts.ended(run), facts.ended(other) if other else facts.began(run)
    name, its = ours.name, theirs.name
    asked = facts.asked_both(run, other) if other else facts.asked_around(run)
    asked += facts.asked_later(ours, theirs)
    read, tasks = facts.read_later(ours, theirs), facts.tasks_later(ours, theirs)
    if not asked and not read and not tasks:
        said = "Nothing was asked of both models."
        if ours.step is not None and (other is None or theirs.step is not None):  # without a checkpoint none can be
            command = f"nanochat eval --model {shlex.quote(name)} --compare {shlex.quote(its)} --questions FILE"
            said += f" Give the run a questions_path, or measure both now: {command}"
        yield Text(said)
    for one in asked:
        yield from _verdict(one)
    for found in read:
        yield Text(f"{found.title}: {found.proof['verdict']}", facts.is_better(found.proof))
        if not_read := found.proof.get("not_read"):
            yield Text(f"{found.title}: {not_read}")
    rows = [*_scores(asked), *_figures(read), *_tasks(tasks)] + ([] if other else _losses(run))
    if rows:
        yield Table(("", f"{its} (before)" if other is None else its, name), rows)
    for one in asked:
        yield from _flips(one, *((other.tag, run.tag) if other else ("Before", "Now")))


def _verdict(asked: Asked, is_public: bool = False) -> Iterator[Text]:
    """Who is better, and what that does not say. is_public: without a word of the questions."""
    if asked.this["total"]:
        yield Text(f"{asked.title}: {asked.proof['verdict']}", "" if is_public else facts.is_better(asked.proof))
    if words := unasked_words(asked.unasked, names=not is_public):
        yield Text(f"{asked.title}: {words}")
    if asked.as_then and not is_public:
        yield Text(f"{asked.title}: {asked.as_then}")


def _scores(asked: Sequence[Asked]) -> list[tuple[str, str, str]]:
    return [(one.title, _share(one.other), _share(one.this)) for one in asked if one.this["total"]]


def _share(result: dict[str, Any]) -> str:
    return f"{result['correct']} of {result['total']} ({100 * result['correct'] / result['total']:.0f}%)"


def _figures(read: Sequence[Read]) -> list[tuple[str, str, str]]:
    rows = []
    for one in read:
        before, after = one.proof["compare"], one.proof["model"]
        rows.append((f"{one.title}: loss", f"{before['loss']:.4f}", f"{after['loss']:.4f}"))
        bits = "bits_per_byte"
        rows.append((f"{one.title}: bits per byte", f"{before[bits]:.4f}", f"{after[bits]:.4f}"))
        right, tokens = f"{one.title}: tokens right", "token_accuracy"
        rows.append((right, f"{100 * before[tokens]:.1f}%", f"{100 * after[tokens]:.1f}%"))
    return rows


def _tasks(done: Read | None) -> list[tuple[str, str, str]]:
    if done is None:
        return []
    proof = done.proof
    return [
        (f"{task}, {done.title}: {metric}", f"{proof['compare'][task][metric]:.4f}", f"{value:.4f}")
        for task, metrics in proof["model"].items()
        for metric, value in metrics.items()
        if metric in proof["compare"].get(task, {})
    ]


def _losses(run: Run) -> list[tuple[str, str, str]]:
    words = {"val_loss": "Validation loss", "val_bpb": "Validation bits per byte"}
    return [(words[name], f"{first:.4f}", f"{last:.4f}") for name, (first, last) in facts.losses(run).items()]


def _flips(asked: Asked, before: str, now: str) -> Iterator[Block]:
    head = ("Question", "Expected", before, now)
    for kind in ("lost", "learnt"):
        rows = asked.flipped(kind)
        if rows:
            title = f"{asked.title}: {len(rows)} {kind}"
            is_long = len(rows) > _FLIPS_OPEN or kind == "learnt"
            if not is_long:
                yield Text(title)
            yield Table(head, rows, folded=title if is_long else "")


def _cost(run: Run, other: Run | None) -> Iterator[Block]:
    yield Heading("What it cost")
    nats, its = facts.distance(run), facts.distance(other) if other else None
    if nats is not None:
        also = f" Run {other.tag} is {its:.3f} nats from its own." if other and its is not None else ""
        yield Text(distance_words(nats) + also)
    ours = facts.cost(run)
    if other is None:
        yield Table(("", ""), list(ours.items()))
    else:
        theirs = facts.cost(other)
        names = dict.fromkeys([*ours, *theirs])
        yield Table(("", other.tag, run.tag), [(name, theirs.get(name, "–"), ours.get(name, "–")) for name in names])


def _curves(run: Run, other: Run | None) -> Iterator[Block]:
    yield Heading("Curves")
    if other is None:
        yield Chart(curves.losses(run, smoothing=SMOOTHING))
        return
    lines: list[Series] = []
    for which in ("Both", "Distance"):
        for place, one in enumerate((run, other)):
            lines += curves.losses(one, "step", SMOOTHING, which, place)
    yield Chart(lines)


def _data(run: Run, other: Run | None, said_of_data: SaidOfData) -> Iterator[Block]:
    yield Heading("Data")
    for one in (run, other):
        if one is not None and (one is run or one.record().get("data") != run.record().get("data")):
            record = one.record()
            data = record.get("data", {})
            rows = [("File", Path(str(data.get("path", ""))).name), ("Conversations", f"{data.get('rows', 0):,}")]
            rows += [("Version (SHA-256)", str(data.get("sha256", "")))]
            split = record.get("settings", {}).get("val_split")
            rows += [("Kept for validation", f"{100 * split:g}%")] if split else []
            if other:
                same = other.record().get("data") == run.record().get("data")
                yield Text("Of both runs:" if same else f"Of run {one.tag}:")
            yield Table(("", ""), rows)
            yield from (Text(sentence) for sentence in said_of_data(one))


def _settings(run: Run, other: Run | None) -> Iterator[Block]:
    yield Heading("Settings")
    ours = without_paths(run.record().get("settings", {}))
    if other is None:
        defaults = {setting.name: setting.default for setting in settings()}
        changed = [(name, str(value)) for name, value in ours.items() if value != defaults.get(name)]
        yield Table(("Changed from the default", ""), changed)
        yield Table(("", ""), [(name, str(value)) for name, value in ours.items()], folded="All settings")
        return
    theirs = without_paths(other.record().get("settings", {}))
    names = [name for name in dict.fromkeys([*ours, *theirs]) if ours.get(name) != theirs.get(name)]
    names = [name for name in names if name not in ("output_tag", "resume")]
    if not names:
        yield Text("Both runs have the same settings.")
        return
    yield Table(
        ("Different", other.tag, run.tag),
        [(name, str(theirs.get(name, "–")), str(ours.get(name, "–"))) for name in names],
    )


def _samples(run: Run, other: Run | None) -> Iterator[Block]:
    before = snapshot(other, "after") if other else snapshot(run, "before")
    replies: dict[str, list[str]] = {}
    for question, reply in before.get("replies", []):
        replies.setdefault(question, []).append(reply)
    after = snapshot(run, "after").get("replies", [])
    # In turn, since talks that begin otherwise may end with the same question.
    rows = [(question, replies[question].pop(0), reply) for question, reply in after if replies.get(question)]
    if rows:
        yield Heading("Samples")
        yield Table(("Question", other.tag if other else "Before", run.tag if other else "Now"), rows)


def _repeat(run: Run) -> Iterator[Block]:
    yield Heading("How to repeat it")
    record = run.record()
    versions = ", ".join(f"{name} {version}" for name, version in record.get("versions", {}).items())
    yield Text(f"Made {str(record.get('created', ''))[:19].replace('T', ' ')} UTC with {versions}.")
    try:
        yield Code("bash", shell_command(run.settings(), int(run.read_launch().get("nproc", 1) or 1)))
    except ValueError as error:  # the run that it started from is gone
        yield Text(str(error))
    yield Text("The same file, settings and seed give the same order of conversations and the same validation set.")
