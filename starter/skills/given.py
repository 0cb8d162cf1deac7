"""Skills that work with what is given first: a text to read, a system message with facts, a role or a manner."""

from starter.draw import Draw, listed
from starter.exchange import Exchange
from starter.skills.knowledge import knowledge
from starter.skills.stories import READING, STORIES
from starter.wording_files import read_wordings

PERSONA = read_wordings("persona")


def reading(draw: Draw) -> Exchange:
    """A short text and a question whose answer stands in it; now and then the text comes first, on its own."""
    text, questions = draw.choice(STORIES)(draw)
    draw.rng.shuffle(questions)
    asked = [(draw.wording(wording), answer) for wording, answer in questions]
    question, answer = asked[0]
    later = tuple(asked[1:2]) if draw.chance(0.3) else ()
    if draw.chance(0.2):
        told = (f"{text}", "I have read it.")
        return Exchange((told, asked[0], *later), (later[-1][1] if later else answer,))
    shape = draw.wording(READING["layout"]).replace("\\n", "\n")
    first = (shape.format(text=text, question=question), answer)
    return Exchange((first, *later), (later[-1][1] if later else answer,))


ROLES = listed("helper assistant guide clerk receptionist waiter bot")


def persona(draw: Draw) -> Exchange:
    """A system message that gives facts, a name and a job, or a manner of answering."""
    return draw.choice((_facts, _role, _role, _manner))(draw)


def _facts(draw: Draw) -> Exchange:
    text, questions = draw.choice(STORIES)(draw)
    chosen = draw.sample(questions, draw.choice((1, 2)))
    turns = tuple((draw.wording(wording), answer) for wording, answer in chosen)
    return Exchange(turns, (turns[-1][1],), system=text)


def _role(draw: Draw) -> Exchange:
    n, b, r = draw.name(), draw.business(), draw.choice(ROLES)
    who = (draw.wording(PERSONA["name"]), f"I am {n}, the {r} of {b}.")
    work = (draw.wording(PERSONA["work"]), f"I work as the {r} of {b}.")
    turns = draw.choice(((who,), (work,), (who, work), (work, who)))
    return Exchange(turns, (turns[-1][1],), system=draw.wording(PERSONA["given"]).format(n=n, b=b, r=r))


def _manner(draw: Draw) -> Exchange:
    """Every answer ends with a given word."""
    word = draw.word()
    facts = [knowledge(draw).turns[0] for _ in range(draw.choice((1, 1, 2)))]
    turns = tuple((question, f"{answer} {word}!") for question, answer in facts)
    return Exchange(turns, (turns[-1][1],), system=draw.wording(PERSONA["end"]).format(w=word), alone=True)
