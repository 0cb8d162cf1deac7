"""Memory: something told, other talk, then the question for it."""

from typing import NamedTuple

from starter.draw import ANIMALS, COLOURS, JOBS, Draw, listed
from starter.exchange import Exchange, one
from starter.wording_files import Wordings, read_wordings

WORDINGS = read_wordings("memory")


class Memory(NamedTuple):
    """What the person tells, the reply to it, the later questions and the answer to those."""

    told: Wordings
    reply: str
    asked: Wordings
    answer: str


def _memory(title: str, answer: str, what: str = "", reply: str = "I will remember that.") -> Memory:
    told, asked = (WORDINGS[f"{title} {part}"].filled(what=what, v="{v}") for part in ("told", "asked"))
    return Memory(told, reply, asked, answer)


RELATIVES = listed(
    "brother sister mother father son daughter friend cat dog horse parrot rabbit teacher boss neighbour"
)
FAVOURITES = listed("colour food animal book drink song sport number word city")
MEMORIES: dict[str, Memory] = {
    "name": _memory("name", "Your name is {v}.", reply="Nice to meet you, {v}!"),
    **{f"{kind}'s name": _memory("called", f"Your {kind}'s name is {{v}}.", kind) for kind in RELATIVES},
    **{f"favourite {kind}": _memory("favourite", f"Your favourite {kind} is {{v}}.", kind) for kind in FAVOURITES},
    "town": _memory("town", "You live in {v}."),
    "job": _memory("job", "You work as a {v}."),
    "age": _memory("age", "You are {v} years old."),
}
NOT_TOLD = "You have not told me that yet."


def _value(draw: Draw, what: str) -> str:
    if "colour" in what:
        return draw.choice(COLOURS)
    if "animal" in what:
        return draw.choice(ANIMALS)
    if "number" in what or what == "age":
        return str(draw.integer(8, 99))
    if what == "job":
        return draw.choice(JOBS)
    if "city" in what or what == "town":
        return draw.place()
    return draw.word() if "favourite" in what else draw.name()


def memory(draw: Draw) -> Exchange:
    """Something told, then, after whatever the caller puts between, the question for it."""
    what = "name" if draw.chance(0.4) else draw.choice(list(MEMORIES))
    telling, reply, questions, answer = MEMORIES[what]
    if draw.chance(0.1):
        return one(draw.wording(questions), NOT_TOLD)
    value = _value(draw, what)
    opening = [(draw.wording(telling).format(v=value), reply.format(v=value))]
    if draw.chance(0.3):
        other = draw.choice([name for name in MEMORIES if name != what])
        more = _value(draw, other)
        opening.append((draw.wording(MEMORIES[other].told).format(v=more), MEMORIES[other].reply.format(v=more)))
    final = (draw.wording(questions), answer.format(v=value))
    return Exchange((final,), (final[1],), opening=tuple(opening))
