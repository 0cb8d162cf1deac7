"""Copying words out of the question: repeating, picking, reversing, joining, and a dictionary entry."""

from starter.draw import Draw, glosses, listed
from starter.exchange import Exchange, one
from starter.wording_files import read_wordings

COPYING = read_wordings("copying")
VERBS = listed("likes sees knows calls helps meets")
ORDERS = ("first", "last", "reversed")


def copying(draw: Draw) -> Exchange:
    form = draw.rng.random()
    if form < 0.2:
        word, text = draw.choice(glosses())
        if draw.new_content or draw.chance(0.7):  # mostly no true pairs: they would be learned by heart
            word, text = draw.word(), text if draw.chance(0.3) else draw.phrase()
        return one(draw.wording(COPYING["meaning"]).format(w=word, g=text), f"The word {word} means: {text}.")
    if form < 0.35:
        word, count = draw.word(), draw.choice((("two", 2), ("three", 3), ("four", 4)))
        number = count[0] if draw.chance(0.7) else str(count[1])
        return one(draw.wording(COPYING["times"]).format(x=word, n=number), " ".join([word] * count[1]))
    if form < 0.65:
        order = draw.choice(ORDERS)
        words = draw.words(draw.integer(3, 5) if order != "reversed" else 3)
        answer = {"first": words[0], "last": words[-1], "reversed": " ".join(words[::-1])}
        return one(draw.wording(COPYING[order]).format(x=" ".join(words)), answer[order])
    text = " ".join(draw.words(draw.integer(1, 6)))
    if draw.chance(0.4):
        text = draw.choice(glosses())[1] if draw.chance(0.3) else draw.phrase()
    if draw.chance(0.3):
        text = f"{draw.name()} {draw.choice(VERBS)} {draw.name()} in {draw.place()}"
    return one(draw.wording(COPYING["repeat"]).format(x=text), text)
