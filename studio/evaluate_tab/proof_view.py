"""Whether one model is better than another, as HTML: the verdict, the scores, and every question that opens."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from nanochat_core.evaluation.pairs import LEVEL
from nanochat_core.evaluation.scores import Answer
from nanochat_core.system.words import plural
from studio.evaluate_tab.known import Pair
from studio.parts import html

_OPEN_UP_TO = 12
"""The group of lost questions is open at first while it is no longer than this."""


@dataclass(frozen=True)
class ProofView:
    """One comparison."""

    pair: Pair
    names: tuple[str, str]
    """The model and the one it is compared with, for people."""
    more: Mapping[str, str] = field(default_factory=dict)
    """Further facts beside the scores."""
    tag: str = ""
    """The run whose rows taught the first model's replies; "" when there is none."""

    def html(self) -> str:
        """All of it; only the further facts when nothing is known of both models."""
        if not self.pair.asked:
            return html.facts(self.more) if self.more else ""
        scores = {
            f"Right: {name}": f"{one.correct} of {one.total}"
            for name, one in zip(self.names, (self.pair.this, self.pair.other))
        }
        return self._verdict() + html.facts({**scores, **self.more}) + self._groups()

    def _verdict(self) -> str:
        flips = self.pair.flips
        kind = ("good" if len(flips.learnt) > len(flips.lost) else "worse") if flips.p < LEVEL else ""
        return f'<p class="verdict {kind}" role="status">{html.escape(flips.verdict)}</p>'

    def _groups(self) -> str:
        flips = self.pair.flips
        flipped = {*flips.learnt, *flips.lost}
        same = [place for place in range(1, flips.total + 1) if place not in flipped]
        right = [place for place in same if self.pair.this.answers[place - 1].correct]
        wrong = [place for place in same if place not in set(right)]
        this, other = self.names
        return (
            self._group("lost", "Lost", f"that only {other} answers", flips.lost)
            + self._group("learnt", "Learnt", f"that only {this} answers", flips.learnt)
            + self._group("wrong", "Wrong in both", "that neither answers", wrong)
            + self._group("right", "Right in both", "that both answer", right)
        )

    def _group(self, kind: str, title: str, what: str, places: list[int]) -> str:
        if not places:
            return ""
        opened = " open" if kind == "lost" and len(places) <= _OPEN_UP_TO else ""
        summary = f"<b>{title}</b> {html.escape(plural(len(places), 'question'))} {html.escape(what)}"
        items = "".join(self._question(place) for place in places)
        return f'<details class="flips {kind}"{opened}><summary>{summary}</summary>{items}</details>'

    def _question(self, place: int) -> str:
        answers = [one.answers[place - 1] for one in (self.pair.this, self.pair.other)]
        told = {"Expected": " or ".join(answers[0].expected), **dict(zip(self.names, map(_said, answers)))}
        listed = "".join(f"<div><dt>{html.escape(n)}</dt><dd>{html.escape(v)}</dd></div>" for n, v in told.items())
        notes = "".join(html.note(answer.note, "warn") for answer in answers if answer.note)
        number, asked = self.pair.asked[place - 1], html.escape(answers[0].question)
        return (
            f'<details class="flip"><summary><span class="number">{number}</span> {asked}</summary>'
            f'<dl class="replies">{listed}</dl>{notes}{self._rows_button(answers[0])}</details>'
        )

    def _rows_button(self, answer: Answer) -> str:
        if not self.tag or not answer.reply.strip():
            return ""
        told = {"act": "behind", "run": self.tag, "reply": answer.reply, "question": answer.question}
        data = " ".join(f'data-{name}="{html.escape(value)}"' for name, value in told.items())
        return f'<button type="button" class="small" {data}>Which rows taught this reply?</button>'


def _said(answer: Answer) -> str:
    return answer.reply.strip() or "(an empty reply)"
