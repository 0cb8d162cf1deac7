"""Rows that ask the same: with other answers they contradict, with the same ones they repeat, leak, or flatter.

Every different wording of a question is looked at once; wordings that ask the same share a number, their `theme`.
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, combinations

import numpy as np

from nanochat_core.evaluation.questions import Question
from nanochat_core.rows.findings import Finding, excerpt, finding, where
from nanochat_core.rows.minhash import GRAM, signatures, similar_pairs
from nanochat_core.rows.row import Row, Turn, text_of
from nanochat_core.rows.wording import agreement, agrees, nearly_same, question_words, words_of

_CANDIDATES = 0.6
"""Share of 5-grams from which two wordings, which may be long, are looked at word by word."""
_SHORT = 16
"""Words up to which a wording is also compared with those that differ from it in one; of longer ones 5-grams tell."""
_MOST_COMPARED = 60
"""Wordings that are all but for one word the same, up to which each is compared with each: more are a pattern."""
_REPEATS = 0.8
"""Share from which they repeat each other where their answers are the same."""
_LEAKS = 0.7
"""Share from which a row with the expected answer gives a question away."""
_COMMON, _COMMON_LEAST = 0.2, 5
"""Share of the wordings, and how many, from which a word is no sign of what is asked: of an instruction before each."""
OPEN_FROM = 4
"""So many different answers to a question, none of them that of most: it has no one answer, such as a story."""

Words = tuple[str, ...]


class Sets:
    """Numbers that are joined into sets (union-find); each set is called by its lowest number."""

    def __init__(self, count: int):
        self._of = list(range(count))

    def find(self, one: int) -> int:
        """The name of its set."""
        while self._of[one] != one:
            self._of[one] = one = self._of[self._of[one]]
        return one

    def join(self, one: int, other: int) -> None:
        """Both are in one set from now on."""
        a, b = self.find(one), self.find(other)
        self._of[max(a, b)] = min(a, b)

    def groups(self) -> dict[int, list[int]]:
        """The members of each set, ascending."""
        found = defaultdict(list)
        for one in range(len(self._of)):
            found[self.find(one)].append(one)
        return found


class Themes:
    """Which wordings ask the same."""

    def __init__(self, rows: Sequence[Row], questions: Sequence[Question]):
        self._number: dict[Words, int] = {}
        counts: Counter[str] = Counter()
        for row in rows:
            counts.update({word for turn in row.turns for word in self._words(turn.prompt)})
        for question in questions:
            self._words(question.asked)
        self.wordings = list(self._number)
        rare = frozenset(word for word, count in counts.items() if count == 1)
        self.pairs, self.alike = similar_pairs(signatures([" ".join(words) for words in self.wordings]), _CANDIDATES)
        self._look_past_what_is_common()
        self._sets = Sets(len(self.wordings))
        for one, other in chain(self.pairs.tolist(), self._but_for_one_word()):
            if nearly_same(self.wordings[one], self.wordings[other], rare):
                self._sets.join(one, other)

    def _look_past_what_is_common(self) -> None:
        """Two that are alike by the instruction that begins most of the wordings have what else they share instead."""
        times = Counter(word for words in self.wordings for word in set(words))
        least = max(_COMMON_LEAST, _COMMON * len(self.wordings))
        common = frozenset(word for word, count in times.items() if count >= least)
        rest: dict[int, frozenset[str]] = {}
        for at in np.flatnonzero(self.alike >= _LEAKS).tolist():
            pair = self.pairs[at].tolist()
            for number in pair:
                if number not in rest:
                    rest[number] = _grams(" ".join(word for word in self.wordings[number] if word not in common))
            one, other = (rest[number] for number in pair)
            if one or other:
                self.alike[at] = min(self.alike[at], len(one & other) / len(one | other))

    def _but_for_one_word(self) -> Iterator[tuple[int, int]]:
        """Pairs of wordings that differ in one word, or of which one has a word more."""
        with_gap: dict[int, list[int]] = defaultdict(list)  # by hash: a tenth of the memory, and all are compared
        for number, words in enumerate(self.wordings):
            for place in range(len(words) if len(words) <= _SHORT else 0):
                with_gap[hash((*words[:place], "", *words[place + 1 :]))].append(number)
                shorter = self._number.get((*words[:place], *words[place + 1 :]))
                if shorter is not None:
                    yield shorter, number
        for same in with_gap.values():
            if 1 < len(same) <= _MOST_COMPARED:
                yield from combinations(same, 2)

    def _words(self, prompt: str) -> Words:
        words = question_words(prompt)
        self._number.setdefault(words, len(self._number))
        return words

    def wording(self, prompt: str) -> int:
        """The number of its wording, equal for wordings that differ in case, signs and courtesies alone."""
        return self._number[question_words(prompt)]

    def theme(self, prompt: str) -> int:
        """The number that nearly the same questions share."""
        return self.theme_of(self.wording(prompt))

    def theme_of(self, wording: int) -> int:
        """The theme of a wording."""
        return self._sets.find(wording)

    def repeating(self) -> Iterator[tuple[int, int]]:
        """Pairs of wordings that are very much alike, with the same numbers, and not nearly the same."""
        for (one, other), share in zip(self.pairs.tolist(), self.alike.tolist()):
            if share >= _REPEATS and _numbers(self.wordings[one]) == _numbers(self.wordings[other]):
                yield one, other


def _grams(text: str) -> frozenset[str]:
    return (
        frozenset(text[start : start + GRAM] for start in range(max(1, len(text) - GRAM + 1))) if text else frozenset()
    )


def _numbers(words: Words) -> list[str]:
    return [word for word in words if word[0].isdigit()]


@dataclass(frozen=True)
class _Asked:
    """One answer of a row."""

    row: int
    turn: Turn


class Alike:
    """The findings of one data file that come from rows that ask the same."""

    def __init__(self, rows: Sequence[Row], validating: Iterable[int] = (), questions: Sequence[Question] = ()):
        """validating: places among `rows` of those that validate."""
        self.rows, self.questions = rows, questions
        self._validating = frozenset(validating)
        self.themes = Themes(rows, questions)
        self._themes = [[self.themes.theme(turn.prompt) for turn in row.turns] for row in rows]
        self.open_questions = 0
        """Questions that have many answers, and so no wrong one."""

    def findings(self) -> Iterator[Finding]:
        """Contradictions, repetitions and leaks."""
        yield from self._contradictions()
        yield from self._repetitions()
        yield from self._leaks()

    # The same question, another answer

    def _contradictions(self) -> Iterator[Finding]:
        asked: dict[object, list[_Asked]] = defaultdict(list)
        for place, row in enumerate(self.rows):
            said: tuple[object, ...] = ()
            for theme, turn, before in zip(self._themes[place], row.turns, _before(row)):
                said = said if before is None else (before,)
                asked[said, theme].append(_Asked(place, turn))
                said = (*said, theme, tuple(words_of(turn.answer)))
        for same in asked.values():
            if len(same) > 1 and (found := self._contradiction(same)):
                yield found

    def _contradiction(self, same: list[_Asked]) -> Finding | None:
        sides: list[list[_Asked]] = []
        for one in same:
            for side in sides:
                if agrees(side[0].turn.answer, one.turn.answer, one.turn.prompt):
                    side.append(one)
                    break
            else:
                sides.append([one])
                if len(sides) > 64:
                    break
        if len(sides) == 1:
            return None
        sides.sort(key=lambda side: (len(side), -side[0].row))
        most, others = sides[-1], sides[:-1]
        is_outvoted = 2 * len(most) > len(same) and len(most) > 1
        if len(sides) >= OPEN_FROM and not is_outvoted:
            self.open_questions += 1
            return None
        wrong = [one for side in others for one in side]
        lines = self._lines([*wrong, *most])
        question, answer = excerpt(wrong[0].turn.prompt), excerpt(wrong[0].turn.answer)
        difference = 1 - max(agreement(one.turn.answer, most[0].turn.answer, one.turn.prompt) for one in wrong)
        rest = f"{where(self._lines(most)).lower()} {'answer' if len(most) > 1 else 'answers'}"
        reason = (
            f"{question} is answered {answer} on {where(self._lines(wrong)).lower()}, and {rest} "
            f"{excerpt(most[0].turn.answer)}. A model cannot learn both: "
            "keep one, or say in the questions what differs."
        )
        return finding("contradiction", lines, reason, 0.75 + 0.15 * difference + 0.1 * is_outvoted)

    def _lines(self, asked: Iterable[_Asked]) -> list[int]:
        return list(dict.fromkeys(self.rows[one.row].line for one in asked))

    # The same question, the same answer

    def _repetitions(self) -> Iterator[Finding]:
        sets = Sets(len(self.rows))
        by_themes: dict[object, list[int]] = defaultdict(list)
        by_wording: dict[int, dict[object, int]] = defaultdict(dict)  # and by the rest of the row: the first such row
        for place, row in enumerate(self.rows):
            if row.turns:
                by_themes[(*_before(row), *self._themes[place])].append(place)
            if len(row.turns) == 1:
                turn = row.turns[0]
                by_wording[self.themes.wording(turn.prompt)].setdefault((turn.before, *words_of(turn.answer)), place)
        for same in by_themes.values():
            self._join_repeated(sets, same)
        for one, other in self.themes.repeating():
            for rest, first in by_wording[one].items():
                if (second := by_wording[other].get(rest)) is not None:
                    sets.join(first, second)
        for places in sets.groups().values():
            if len(places) > 1:
                yield self._repetition(places)

    def _join_repeated(self, sets: Sets, same: list[int]) -> None:
        """Join the rows of `same`, which ask the same, where they also answer the same."""
        firsts: list[int] = []
        for place in same:
            for first in firsts[:64]:
                pairs = zip(self.rows[first].turns, self.rows[place].turns)
                if all(agrees(one.answer, other.answer, one.prompt) for one, other in pairs):
                    sets.join(first, place)
                    break
            else:
                firsts.append(place)

    def _repetition(self, places: list[int]) -> Finding:
        lines = [self.rows[place].line for place in places]
        first = self.rows[places[0]].turns[0]
        what = f"{excerpt(first.prompt)} with the answer {excerpt(first.answer)}"
        wordings = {tuple(turn.prompt for turn in self.rows[place].turns) for place in places}
        alike = "word for word" if len(wordings) == 1 else "in nearly the same words"
        held = [place for place in places if place in self._validating]
        if held and len(held) < len(places):
            trained = [self.rows[place].line for place in places if place not in self._validating]
            held_lines = [self.rows[place].line for place in held]
            reason = (
                f"{what}: {where(held_lines).lower()} {'validates' if len(held) == 1 else 'validate'}, and "
                f"{where(trained).lower()} {'trains' if len(trained) == 1 else 'train'} the same {alike}. The "
                "validation loss is flattered: delete one, or reword it."
            )
            return finding("split_duplicate", [*held_lines, *trained], reason)
        reason = f"{what} stands {alike} on {where(lines).lower()}. It counts {len(lines)} times in every epoch."
        return finding("near_duplicate", lines, reason, 1.0 if len(wordings) == 1 else 0.8)

    # Questions that are to be asked afterwards

    def _leaks(self) -> Iterator[Finding]:
        if not self.questions:
            return
        places: dict[int, list[tuple[int, int]]] = defaultdict(list)
        for place, row in enumerate(self.rows):
            for number, turn in enumerate(row.turns):
                places[self.themes.wording(turn.prompt)].append((place, number))
        near: dict[int, set[int]] = defaultdict(set)
        for (one, other), share in zip(self.themes.pairs.tolist(), self.themes.alike.tolist()):
            if share >= _LEAKS:
                near[one].add(other)
                near[other].add(one)
        themes: dict[int, set[int]] = defaultdict(set)
        for wording in places:
            themes[self.themes.theme_of(wording)].add(wording)
        for number, question in enumerate(self.questions, 1):
            if found := self._leak(number, question, places, near, themes):
                yield found

    def _leak(
        self,
        number: int,
        question: Question,
        places: dict[int, list[tuple[int, int]]],
        near: dict[int, set[int]],
        themes: dict[int, set[int]],
    ) -> Finding | None:
        text = question.asked
        own, theme = self.themes.wording(text), self.themes.theme(text)
        before = [word for message in question.messages[:-1] for word in words_of(text_of(message["content"]))]
        found: dict[int, Turn] = {}
        for wording in {own, *themes[theme], *near[own]}:
            is_same = wording == own or wording in themes[theme]
            is_alike = is_same or _numbers(self.themes.wordings[wording]) == _numbers(self.themes.wordings[own])
            for place, number_of_turn in places.get(wording, ()):
                turn = self.rows[place].turns[number_of_turn]
                if before and not question.turns and words_of(turn.before) != before:
                    continue
                is_asked = is_same and self._is_after(question, place, number_of_turn)
                if is_asked or (is_alike and question.answered_by(turn.answer)):
                    found.setdefault(place, turn)
        if not found:
            return None
        lines = sorted(self.rows[place].line for place in found)
        turn = next(iter(found.values()))
        reason = (
            f"Question {number} of the questions file, {excerpt(text)}, is trained on {where(lines).lower()} as "
            f"{excerpt(turn.prompt)}: to answer it shows memory, not skill. Delete the row, or reword the question."
        )
        return finding("leak", lines, reason, 1.0 if question.answered_by(turn.answer) else 0.9)

    def _is_after(self, question: Question, place: int, number: int) -> bool:
        """Whether a person has said the same before this turn as in a question of several turns."""
        if not question.turns:
            return True
        users = [text_of(message["content"]) for message in question.messages if message["role"] == "user"]
        said = [turn.prompt for turn in self.rows[place].turns[:number]]
        return [question_words(text) for text in [*users, *question.turns[:-1]]] == [*map(question_words, said)]


def _before(row: Row) -> list[str | None]:
    """What was said before each turn; None where that is the turn before it, and what this one tells."""
    told: list[str | None] = []
    follows = None
    for turn in row.turns:
        told.append(None if turn.before == follows else turn.before)
        follows = "\n".join([*([turn.before] if turn.before else []), turn.prompt, turn.answer])
    return told
