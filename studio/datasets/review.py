"""What the doctor says of an opened dataset, one decision at a time: keep, edit, delete, merge, and take it back.

A card is shown while its rows are what the doctor saw: an edit or a deletion answers it, and undoing that asks again.
Only "keep" has to be remembered: beside the dataset, by the content of the rows, so that it holds when lines move.
"""

import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from nanochat_core.data.tokens.plan import validation_places
from nanochat_core.evaluation.questions import load_questions
from nanochat_core.rows.doctor import Report, examine
from nanochat_core.rows.findings import KINDS, Finding
from nanochat_core.rows.neighbours import Neighbours
from nanochat_core.rows.of_run import told_by
from nanochat_core.rows.row import faults_left_out, row_of, rows_of_lines
from nanochat_core.runs.run import Run
from nanochat_core.system.files import now, read_json, write_json
from nanochat_core.system.words import plural
from studio.datasets.files import versions_dir
from studio.datasets.session import Session

UNDO = 10
"""Decisions that can be taken back."""
MANY = ("contradiction", "near_duplicate", "split_duplicate")
"""Kinds that need two rows; the others are about their first."""
ACTS = ("keep", "delete", "merge")
_MOST = 12
"""Reviews that are held."""


@dataclass(frozen=True)
class Card:
    """Something to decide."""

    key: str
    """The same for the same finding about the same rows, in whatever lines they stand."""
    kind: str
    rows: tuple[int, ...]
    """Ids of the session's rows; the one in question first."""
    texts: tuple[bytes, ...]
    """Their lines when the doctor saw them."""
    reason: str
    score: float

    @property
    def right(self) -> int:
        """The row that merging keeps: of a contradiction one of those that most rows agree with, which come last."""
        return self.rows[-1 if self.kind == "contradiction" else 0]


@dataclass(frozen=True)
class Decided:
    """A decision that can be taken back."""

    card: Card
    act: str
    undone: str
    """What the dataset's undo would take back; "" for a card that was kept."""


class Queue:
    """The review of one session."""

    def __init__(self, session: Session):
        self.session = session
        self.cards: list[Card] = []
        self.notes: tuple[str, ...] = ()
        self.is_looked = False
        self._skipped: list[str] = []
        self._decided: list[Decided] = []
        self._kept: set[str] = set(read_json(self._file).get("kept", {})) if self._file else set()
        self._lock = threading.RLock()

    # Looking

    def look(
        self, run: str = "", questions: str = "", val_split: float = 0.1, report: Report = lambda share, text: None
    ) -> None:
        """Ask the doctor about the rows as they are now.

        run: tag of a run whose record is asked, too, and the folds that it has kept. questions: a questions file that
        the rows must not give away. ValueError when one of them cannot be used.
        """
        asked = load_questions(questions) if questions else []
        with self.session.lock:
            order, data = list(self.session.rows.order), list(self.session.rows.data)
        judged = rows_of_lines((line, data[row]) for line, row in enumerate(order, 1))  # lines as they would be saved
        validating: Iterable[int] = validation_places(len(judged), val_split).tolist()
        more: list[Finding] = []
        notes = faults_left_out(sum(bool(data[row].strip()) for row in order) - len(judged))
        if run:
            told = told_by(Run.open(run), judged, [data[order[row.line - 1]] for row in judged])
            more, notes = told.findings, [*notes, *told.notes]
            validating = validating if told.validating is None else told.validating
        review = examine(judged, self.session.name, validating, asked, more, notes, report)
        cards = [
            _card(one, [(order[line - 1], data[order[line - 1]]) for line in one.lines]) for one in review.findings
        ]
        with self._lock:
            self.cards, self.notes, self.is_looked = cards, review.notes, True
            self._skipped.clear()

    # Asking

    def waiting(self, kind: str = "") -> list[Card]:
        """What is still to be decided, the most suspicious first and what was skipped last, of one kind or of all."""
        with self._lock, self.session.lock:
            there, data = set(self.session.rows.order), self.session.rows.data
            shown = [card for card in self.cards if card.key not in self._kept and (not kind or card.kind == kind)]
            open_cards = [one for card in shown if (one := _still(card, there, data))]
            return sorted(
                open_cards, key=lambda card: self._skipped.index(card.key) if card.key in self._skipped else -1
            )

    def counts(self) -> Counter[str]:
        """How many are to be decided of each kind."""
        return Counter(card.kind for card in self.waiting())

    def like(self, row: int, most: int = 5) -> list[int]:
        """Rows with questions like that of this one, the likest first."""
        with self.session.lock:
            order = list(self.session.rows.order)
            prompts = [self._prompt(other) for other in order]
        return [order[place] for place, _ in Neighbours(prompts).of(order.index(row), most)]

    def _prompt(self, row: int) -> str:
        messages = self.session.rows.messages(row)
        return row_of(0, messages).prompt if messages else ""

    @property
    def can_undo(self) -> str:
        """What the last decision was, in words; "" for none."""
        return f"{self._decided[-1].act}" if self._decided else ""

    # Deciding

    def decide(self, key: str, act: str, row: int) -> str:
        """Decide a card; `row` is the one of its rows that is meant. What was done, in a sentence.

        keep: all stays. delete: `row` goes. merge: `row` stays and the others go. ValueError when the card is gone.
        """
        with self._lock:
            card = self._card(key)
            if row not in card.rows:
                raise ValueError("This row is not among those to decide about any more. Look again.")
            if act == "keep":
                self._keep([card])
                return "Kept; it is not asked again."
            gone = [row] if act == "delete" else [other for other in card.rows if other != row]
            if not gone:
                raise ValueError("There is nothing to merge: only one row is left.")
            self.session.remove(gone, _words(act, len(gone)))
            self._note(Decided(card, act, self.session.undo_label))
            return f"{plural(len(gone), 'row')} deleted; u takes it back."

    def decide_all(self, kind: str, act: str) -> str:
        """The same decision for all cards of a kind, as one step. What was done, in a sentence."""
        with self._lock:
            cards = self.waiting(kind)
            if not cards:
                raise ValueError("There is nothing of this kind left to decide.")
            if act == "keep":
                self._keep(cards)
                return f"{plural(len(cards), 'finding')} kept; u takes the last one back."
            kept = {card.right for card in cards}
            gone = (
                {card.rows[0] for card in cards}
                if act == "delete"
                else {row for card in cards for row in card.rows} - kept
            )
            self.session.remove(sorted(gone), _words(act, len(gone)))
            self._note(Decided(cards[0], act, self.session.undo_label))
            return f"{plural(len(gone), 'row')} deleted; u takes it back."

    def skip(self, key: str) -> None:
        """Ask about this one after all others."""
        with self._lock:
            self._skipped = [one for one in self._skipped if one != key] + [key]

    def undo(self) -> str:
        """Take the last decision back; what it was. ValueError when there is none, or more was changed since."""
        with self._lock:
            if not self._decided:
                raise ValueError("There is no decision to take back.")
            last = self._decided[-1]
            if last.undone and self.session.undo_label != last.undone:
                raise ValueError(
                    f"The dataset was changed since ({self.session.undo_label or 'saved or undone'}): use its own Undo."
                )
            self._decided.pop()
            self._skipped = [key for key in self._skipped if key != last.card.key]
            if not last.undone:
                self._kept.discard(last.card.key)
                self._save()
                return "Asked again."
            return f"Taken back: {self.session.undo()}."

    def _card(self, key: str) -> Card:
        found = next((card for card in self.waiting() if card.key == key), None)
        if found is None:
            raise ValueError("This was decided, or its rows were changed, in the meantime. Look at the next one.")
        return found

    def _keep(self, cards: Sequence[Card]) -> None:
        self._kept.update(card.key for card in cards)
        for card in cards:
            self._note(Decided(card, "keep", ""))
        self._save()

    def _note(self, decided: Decided) -> None:
        self._decided = [*self._decided, decided][-UNDO:]

    def _save(self) -> None:
        if self._file:
            before = read_json(self._file).get("kept", {})
            write_json(self._file, {"kept": {key: before.get(key, now()) for key in sorted(self._kept)}})

    @property
    def _file(self) -> Path | None:
        """Where the decisions of a dataset on disk are kept: with its versions, which move with its name."""
        path = self.session.path
        return versions_dir(path) / "review.json" if path else None


def _words(act: str, rows: int) -> str:
    return f"{'merging' if act == 'merge' else 'deleting'} {plural(rows, 'row')} in the review"


def _card(one: Finding, found: Sequence[tuple[int, bytes]]) -> Card:
    rows, own = zip(*found, strict=True)
    digest = hashlib.sha256("\0".join([one.kind, *sorted(hashlib.sha256(text).hexdigest() for text in own)]).encode())
    return Card(digest.hexdigest()[:32], one.kind, rows, own, one.reason, one.score)


def _still(card: Card, there: set[int], data: Sequence[bytes]) -> Card | None:
    """The card with those of its rows that are as the doctor saw them; None when it has no point any more."""
    same = [(row, text) for row, text in zip(card.rows, card.texts) if row in there and data[row] == text]
    if len(same) == len(card.rows):
        return card
    if len(same) < 2 or card.kind not in MANY:
        return None
    rows, texts = zip(*same, strict=True)
    return Card(card.key, card.kind, rows, texts, card.reason, card.score)


_queues: OrderedDict[str, Queue] = OrderedDict()
_lock = threading.Lock()


def queue_of(session: Session) -> Queue:
    """The review of a session, for as long as the app runs."""
    with _lock:
        found = _queues.get(session.id)
        if found is None or found.session is not session:
            found = _queues[session.id] = Queue(session)
        _queues.move_to_end(session.id)
        while len(_queues) > _MOST:
            _queues.popitem(last=False)
        return found


def kind_choices(counts: Counter[str]) -> list[tuple[str, str]]:
    """(label, kind) to filter by, those with something to decide."""
    kinds = [(f"{words}: {counts[kind]:,}", kind) for kind, words in KINDS.items() if counts[kind]]
    return [(f"All kinds: {counts.total():,}", ""), *kinds]
