"""Short texts with invented facts, each with questions about it: the material of the reading skill."""

from collections.abc import Callable

from starter.draw import COLOURS, DAYS, JOBS, THINGS, Draw, listed, phrases
from starter.wording_files import Wordings, read_wordings

Question = tuple[Wordings, str]
Story = tuple[str, list[Question]]


READING = read_wordings("reading")


def _ask(title: str, answer: str, **values: object) -> Question:
    """A question in the wordings of that title, with the slots filled in, and its answer."""
    return READING[title].filled(**values), answer


def towns(draw: Draw) -> Story:
    people = draw.names(draw.integer(1, 4))
    lives = draw.choice(("lives in", "comes from", "has a house in"))
    homes = [(name, draw.place()) for name in people]
    questions = []
    for name, place in homes:
        questions.append(_ask("town of", f"{name} {lives} {place}.", n=name))
        questions.append(_ask("lives there", f"{name} {lives} {place}.", p=place, lives=lives))
    return " ".join(f"{name} {lives} {place}." for name, place in homes), questions


def belongings(draw: Draw) -> Story:
    people = draw.names(draw.integer(1, 3))
    rows = list(zip(people, draw.sample(COLOURS, len(people)), draw.sample(THINGS, len(people))))
    has, have = draw.choice((("has", "have"), ("owns", "own")))
    questions = []
    for name, colour, thing in rows:
        answer = f"{name} {has} a {colour} {thing}."
        questions += [
            _ask("owner of", answer, t=thing, h=has),
            _ask("belongings of", answer, n=name, h=have, t=has),
            _ask("colour of", f"The {thing} is {colour}.", t=thing, n=name),
        ]
    return " ".join(f"{n} {has} a {c} {t}." for n, c, t in rows), questions


def hours(draw: Draw) -> Story:
    shop, opening, closing, day = draw.business(), draw.integer(6, 11), draw.integer(14, 23), draw.choice(listed(DAYS))
    facts = [
        (draw.choice(("{s} opens at {o} and closes at {c}.", "{s} is open from {o} to {c}.")), None),
        ("It is closed on {d}.", None),
        ("It is in {p}.", None),
        ("The owner is {n}.", None),
    ]
    place, owner = draw.place(), draw.name()
    values = {"s": shop, "o": opening, "c": closing, "d": day, "p": place, "n": owner}
    questions = [
        _ask("opening", f"{shop} opens at {opening}.", **values),
        _ask("closing", f"{shop} closes at {closing}.", **values),
        _ask("closed day", f"{shop} is closed on {day}.", **values),
        _ask("place", f"{shop} is in {place}.", **values),
        _ask("owner", f"The owner is {owner}.", **values),
    ]
    first, rest = facts[0], facts[1:]
    draw.rng.shuffle(rest)
    return " ".join(text.format(**values) for text, _ in [first, *rest]), questions


GOODS = phrases("""
tea, coffee, juice, soup, bread, cake, pizza, salad, cheese, milk, honey, a sandwich, a ticket, a room, a bike,
a lesson, a map, a guided tour, rice, pasta, ice cream, water, lemonade, a muffin, a bagel, a haircut, a tent, a
boat, a book, a poster
""")


def prices(draw: Draw) -> Story:
    goods = draw.sample(GOODS, draw.integer(2, 4))
    if draw.chance(0.4):
        goods = draw.words(len(goods))
    unit = draw.choice(("euros", "dollars", "coins", "pounds"))
    rows = list(zip(goods, draw.sample(range(2, 90), len(goods))))
    questions = [_ask("price", f"The price of {g} is {p} {unit}.", g=g) for g, p in rows]
    if draw.chance(0.5):
        return "Prices: " + ", ".join(f"{g} {p} {unit}" for g, p in rows) + ".", questions
    return " ".join(f"The price of {g} is {p} {unit}." for g, p in rows), questions


def jobs(draw: Draw) -> Story:
    people = draw.names(draw.integer(1, 4))
    rows = list(zip(people, draw.sample(JOBS, len(people))))
    questions = []
    for name, job in rows:
        answer = f"{name} is a {job}."
        questions += [
            _ask("job of", answer, n=name),
            _ask("who is", answer, j=job),
        ]
    return " ".join(f"{n} is a {j}." for n, j in rows), questions


def meeting(draw: Draw) -> Story:
    n, m = draw.names(2)
    place, day, hour, thing = draw.place(), draw.choice(listed(DAYS)), draw.integer(1, 12), draw.thing()
    text = draw.choice(
        (
            f"On {day} at {hour} {n} met {m} in {place}. {m} gave {n} a {thing}.",
            f"{n} met {m} in {place} on {day} at {hour}. {m} gave {n} a {thing}.",
            f"{n} went to {place} on {day}. At {hour} {n} met {m} there. {m} gave {n} a {thing}.",
        )
    )
    values = {"n": n, "m": m}
    return text, [
        _ask("met whom", f"{n} met {m}.", **values),
        _ask("met where", f"They met in {place}.", **values),
        _ask("met on", f"They met on {day}.", **values),
        _ask("met at", f"They met at {hour}.", **values),
        _ask("gift", f"{m} gave {n} a {thing}.", **values),
    ]


def codes(draw: Draw) -> Story:
    """Arbitrary words paired with arbitrary words or numbers: pure look-up."""
    keys = draw.words(draw.integer(2, 5))
    values = draw.words(len(keys)) if draw.chance(0.5) else [str(v) for v in draw.sample(range(10, 999), len(keys))]
    sign = draw.choice((" = ", ": ", " is "))
    noun = draw.choice(("code", "number", "key", "value"))
    text = draw.choice((", ", ". ", "; ")).join(f"{k}{sign}{v}" for k, v in zip(keys, values)) + "."
    questions = [_ask("code", f"The {noun} of {key} is {value}.", k=key, x=noun) for key, value in zip(keys, values)]
    return text, questions


STORIES: tuple[Callable[[Draw], Story], ...] = (towns, belongings, hours, hours, prices, jobs, meeting, codes)
