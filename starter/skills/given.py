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
STYLES = (
    (PERSONA["end"], "{answer} {w}!"),
    (PERSONA["address"], "{n}, {lower}"),
)


def persona(draw: Draw) -> Exchange:
    """A system message that gives facts, a name and a job, or a manner of answering."""
    n, b, r = draw.name(), draw.business(), draw.choice(ROLES)
    if draw.chance(0.25):
        text, questions = draw.choice(STORIES)(draw)
        turns = tuple(
            (draw.wording(wording), answer) for wording, answer in draw.sample(questions, draw.choice((1, 2)))
        )
        return Exchange(turns, (turns[-1][1],), system=text)
    if draw.chance(0.5):
        system = draw.wording(PERSONA["given"]).format(n=n, b=b, r=r)
        who = (draw.wording(PERSONA["name"]), f"I am {n}, the {r} of {b}.")
        work = (draw.wording(PERSONA["work"]), f"I work as the {r} of {b}.")
        turns = draw.choice(((who,), (work,), (who, work), (work, who)))
        return Exchange(turns, (turns[-1][1],), system=system)
    style, shape = draw.choice(STYLES)
    w = draw.word()
    turns = []
    for _ in range(draw.choice((1, 1, 2))):
        question, answer = knowledge(draw).turns[0]
        lower = answer[0].lower() + answer[1:]
        turns.append((question, shape.format(answer=answer, w=w, n=n, lower=lower)))
    return Exchange(tuple(turns), (turns[-1][1],), system=draw.wording(style).format(w=w, n=n), alone=True)
