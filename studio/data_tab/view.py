"""What the Data tab shows of an opened dataset, as escaped HTML and plain text. No gradio here."""

from dataclasses import dataclass
from pathlib import Path

from nanochat_core.data.report import Fault
from nanochat_core.runs.presets import preset_of
from nanochat_core.system.words import plural
from studio.data_tab.token_view import token_view
from studio.datasets import diff, files, problems, sessions
from studio.datasets.counting import tokenizer_of
from studio.datasets.drafts import Found
from studio.datasets.edit import editable, messages_of
from studio.datasets.fixes import label_for
from studio.datasets.index import name_of
from studio.datasets.problems import RowProblem
from studio.datasets.session import Session
from studio.parts.html import empty, escape, note

NOTHING_OPEN = empty("No dataset is open", "Pick one above, drop a file, make a new one, or begin with the example.")

NO_VERSION = empty("No version is picked", "Each save keeps the file as it was before; pick one to compare with.")


@dataclass(frozen=True)
class Measure:
    """With what lengths are counted: a model's tokenizer, the longest conversation, the share that validates."""

    model: str
    max_seq_len: int = 2048
    val_split: float = 0.1


def longest_of(model: str) -> int:
    """max_seq_len as it is proposed for a model."""
    return int(preset_of(model).get("max_seq_len", 2048))


def status(session: Session | None) -> str:
    """One line: the file, how much is in it, whether it can be trained on, and what is not saved."""
    if session is None:
        return NOTHING_OPEN
    errors = problems.count_errors(session.rows)
    words = [f"<b>{escape(session.name)}</b>", plural(len(session.rows.order), "conversation")]
    words.append(
        _badge("bad", f"{plural(errors, 'line')} with errors") if errors else _badge("good", "can be trained on")
    )
    if session.is_dirty:
        words.append(_badge("warn", "not saved"))
    elif session.path is None:
        words.append(_badge("", "example: Save makes a copy of your own once you change it"))
    else:
        words.append(_badge("", "saved"))
    notes = "".join(note(text, "good") for text in session.notes)
    if session.journal and session.journal.fault:
        notes += note(session.journal.fault, "bad")
    return f'<div class="data-status" role="status">{" ".join(words)}</div>{notes}'


def draft_question(found: list[Found]) -> str:
    """What was found, from when, and what to know before it is restored."""
    draft = found[0]
    text = f"There are unsaved changes to {draft.meta.name} from {draft.time.astimezone():%d %B, %H:%M}."
    more = f"{plural(len(found) - 1, 'older one')} after this one." if len(found) > 1 else ""
    words = " ".join(filter(None, [sessions.stale_words(draft), more]))
    return note(words, "warn", text)


def _badge(kind: str, text: str) -> str:
    return f'<span class="data-badge {kind}">{escape(text)}</span>'


def heading(session: Session, row: int) -> str:
    """Which conversation is shown, where, and its problems."""
    place = session.rows.order.index(row) + 1
    name = name_of(session.rows, row)
    where = f"Conversation {place:,} of {len(session.rows.order):,} · {name}"
    return f'<div class="data-heading">{escape(where)}</div>'


def row_problems(session: Session, row: int) -> str:
    """The problems of the shown conversation, each with its line and remedy."""
    name = name_of(session.rows, row)
    return "".join(_problem(name, fault) for fault in problems.problems_of(session.rows, row))


def _problem(name: str, fault: Fault, click: str = "") -> str:
    """One problem, with what can be clicked about it. What the command line would do is a button here."""
    words = "Fix does it for you." if fault.can_fix else ""
    text = f"{fault.message} {fault.fix} {words}".rstrip()
    kind = "bad" if fault.level == "error" else "warn"
    return f'<div class="data-problem">{note(text, kind, f"{name.capitalize()}:")}{click}</div>'


def _clicks(problem: RowProblem) -> str:
    """Go to the line, and what one click does about its problem."""
    place = f'type="button" class="data-button" data-row="{problem.row}"'
    go = f'<button {place} data-kind="" aria-label="Go to {escape(problem.name)}">Go to</button>'
    label = label_for(problem.fault)
    if not label:
        return go
    told = f'data-kind="{escape(problem.fault.kind)}" aria-label="{escape(label)}, {escape(problem.name)}"'
    return f"<button {place} {told}>{escape(label)}</button>{go}"


def tokens_html(session: Session | None, row: int | None, measure: Measure) -> str:
    """The shown conversation as the model sees it, or why that cannot be said yet."""
    if session is None or not session.has(row):
        return empty("No conversation is picked", "Pick one in the list to see which of its tokens are trained on.")
    try:
        tokenizer = tokenizer_of(measure.model)
    except ValueError as error:
        return note(str(error), "bad")
    messages = session.rows.messages(row)
    if messages is None:
        value = editable(session.rows.data[row])
        if value is None:
            return note("A line with an error is not trained on. Correct it to see its tokens.", "warn")
        messages = messages_of(value)  # a draft: the renderer says itself what hinders it
    return token_view(messages, tokenizer, measure.max_seq_len)


def problems_html(session: Session | None, kind: str) -> str:
    """The first problems of a kind (or of all), with line, what is wrong and what to do."""
    if session is None:
        return NOTHING_OPEN
    counts = problems.count_kinds(session.rows)
    if not counts:
        return note("No problems: every line follows the rules.", "good")
    shown = problems.first_problems(session.rows, kind)
    total = counts[kind] if kind else counts.total()
    more = note(f"And {total - len(shown):,} more.") if total > len(shown) else ""
    listed = "".join(_problem(problem.name, problem.fault, _clicks(problem)) for problem in shown)
    return f'<div class="data-problems" data-session="{escape(session.id)}">{listed}</div>{more}'


def kind_choices(session: Session | None) -> list[tuple[str, str]]:
    """(label, kind) of what can be listed and fixed at once."""
    if session is None:
        return [("All kinds", "")]
    counts = problems.count_kinds(session.rows)
    kinds = [(f"{problems.kind_words(kind)}: {count:,}", kind) for kind, count in counts.items()]
    return [(f"All kinds: {counts.total():,}", ""), *kinds]


def fix_everything_label(session: Session | None) -> tuple[str, int]:
    """(what the button says, how many lines it fixes)."""
    count = len(problems.fixable_rows(session.rows)) if session else 0
    return f"Fix all that a rule can fix ({plural(count, 'line')})", count


def problem_choices(session: Session | None, kind: str) -> list[tuple[str, int]]:
    """(label, row) of the listed problems' conversations, to jump to."""
    if session is None:
        return []
    listed = problems.first_problems(session.rows, kind)
    first = {problem.row: problem for problem in reversed(listed)}
    return [(f"{problem.name}: {_short(problem.fault.message)}", row) for row, problem in reversed(first.items())]


def _short(text: str, limit: int = 80) -> str:
    return text if len(text) <= limit else f"{text[:limit]}…"


def version_choices(session: Session | None) -> list[tuple[str, str]]:
    """(label, path) of what the dataset can be compared with, those that a run was trained on first."""
    if session is None or session.path is None:
        return []
    kept = files.versions(session.path)
    return [(version.label, str(version.path)) for version in diff.comparable(session.path, session.sha, kept)]


def compare(session: Session | None, version: str) -> str:
    """What is different on the screen from a version of the file."""
    if session is None or version not in {path for _, path in version_choices(session)}:
        return NO_VERSION
    with session.lock:
        now = [session.rows.data[row] for row in session.rows.order]
    return diff.difference_html(diff.difference(diff.file_lines(Path(version)), now))
