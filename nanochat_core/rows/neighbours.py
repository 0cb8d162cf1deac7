"""For each of some questions, the others that are most like it: by the words that they share, the rarer the better."""

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from nanochat_core.rows.wording import agrees, words_of

_MOST_WITH = 400
"""Questions that are looked at of those that share a word: a word of more of them tells little."""


class Neighbours:
    """Finds like texts among those that it is made of."""

    def __init__(self, texts: Sequence[str]):
        self._words = [frozenset(words_of(text)) for text in texts]
        self._with: dict[str, list[int]] = defaultdict(list)
        for place, words in enumerate(self._words):
            for word in words:
                self._with[word].append(place)
        total = len(texts) + 1
        self._weight = {word: math.log(total / len(places)) for word, places in self._with.items()}
        self._length = [sum(self._weight[word] ** 2 for word in words) ** 0.5 or 1.0 for words in self._words]

    def of(self, place: int, most: int) -> list[tuple[int, float]]:
        """(place, likeness above 0 and at most 1) of the likest others, the likest first."""
        scores: dict[int, float] = defaultdict(float)
        for word in sorted(self._words[place], key=lambda word: (len(self._with[word]), word)):
            for other in self._with[word][:_MOST_WITH]:
                scores[other] += self._weight[word] ** 2
        scores.pop(place, None)
        found = [(other, score / (self._length[place] * self._length[other])) for other, score in scores.items()]
        return sorted(found, key=lambda one: (-one[1], one[0]))[:most]


@dataclass(frozen=True)
class Answered:
    """One question and its answer, of a row."""

    row: int
    prompt: str
    answer: str


class Around:
    """What the rows with the likest questions answer."""

    def __init__(self, answers: Sequence[Answered]):
        self.answers = answers
        self._neighbours = Neighbours([one.prompt for one in answers])
        self._times = Counter(one.answer for one in answers)

    def doubt(self, place: int) -> float:
        """0 when the likest rows answer as this one does, 1 when none does, 0.5 when that says nothing.

        An answer that only one row has is no sign of what a question like this is answered with.
        """
        mine, agreed, total = self.answers[place], 0.02, 0.04
        for other, likeness in self._neighbours.of(place, 5):
            weight, is_told = likeness**2, self._times[self.answers[other].answer] > 1
            total += weight
            if self._agree(place, other) and self.answers[other].row != mine.row:
                agreed += weight
            elif not is_told:
                agreed += weight / 2
        return 1 - agreed / total

    def rivals(self, place: int, most: int) -> list[int]:
        """The likest places that answer otherwise, each with another answer."""
        found, said = list[int](), {self.answers[place].answer}
        for other, _ in self._neighbours.of(place, 4 * most):
            if self.answers[other].answer not in said and not self._agree(place, other):
                said.add(self.answers[other].answer)
                found.append(other)
        return found[:most]

    def _agree(self, one: int, other: int) -> bool:
        return agrees(self.answers[one].answer, self.answers[other].answer, self.answers[one].prompt)
