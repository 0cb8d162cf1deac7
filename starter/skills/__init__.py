"""Every skill of the starter: its function, how often it is trained and the evaluation task that it belongs to."""

from collections.abc import Callable
from typing import NamedTuple

from starter.draw import Draw
from starter.exchange import Exchange
from starter.skills import copying, given, knowledge, lists, memory, social, tools


class Skill(NamedTuple):
    make: Callable[[Draw], Exchange]
    weight: float
    task: str


SKILLS: dict[str, Skill] = {
    "arithmetic": Skill(tools.arithmetic, 1.0, "arithmetic"),
    "word_problem": Skill(tools.word_problem, 1.2, "word_problems"),
    "count_letters": Skill(tools.count_letters, 1.4, "letters"),
    "compare": Skill(tools.compare, 0.7, "arithmetic"),
    "knowledge": Skill(knowledge.knowledge, 2.2, "knowledge"),
    "lists": Skill(lists.name_some, 0.9, "lists"),
    "kinds": Skill(lists.kind_of, 1.0, "lists"),
    "identity": Skill(social.identity, 0.9, "self"),
    "small_talk": Skill(social.small_talk, 0.7, "self"),
    "refusal": Skill(social.refusal, 1.2, "refusals"),
    "memory": Skill(memory.memory, 1.7, "memory"),
    "reading": Skill(given.reading, 3.0, "reading"),
    "persona": Skill(given.persona, 1.5, "self"),
    "copying": Skill(copying.copying, 3.0, "copying"),
}
