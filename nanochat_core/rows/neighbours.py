"""For each of some questions, the others that are most like it: by the words that they share, the rarer the better."""

import math
from collections import defaultdict
from collections.abc import Sequence

from nanochat_core.rows.wording import words_of

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
