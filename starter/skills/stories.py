"""Short texts with invented facts, each with questions about it: the material of the reading skill."""

from collections.abc import Callable

from starter.draw import COLOURS, JOBS, THINGS, Draw, Wordings, listed, wordings

Story = tuple[str, list[tuple[Wordings, str]]]


def _ask(block: str, answer: str, **values) -> tuple[Wordings, str]:
    """A question in several wordings, with the slots filled in, and its answer."""
    trained, held_out = wordings(block)
    fill = tuple(line.format(**values) for line in trained), tuple(line.format(**values) for line in held_out)
    return Wordings(*fill), answer


def towns(draw: Draw) -> Story:
    people = draw.names(draw.integer(1, 4))
    lives = draw.choice(("lives in", "comes from", "has a house in"))
    homes = [(name, draw.place()) for name in people]
    questions = []
    for name, place in homes:
        questions.append(_ask("""
Where does {n} live?
In which town does {n} live?
Where is the home of {n}?
Which town is the home of {n}?
What is the home town of {n}?
* Do you know where {n} lives?
* In what town does {n} live?
""", f"{name} {lives} {place}.", n=name))  # fmt: skip
        questions.append(_ask("""
Who {lives} {p}?
Which person {lives} {p}?
Who is it that {lives} {p}?
* Tell me who {lives} {p}.
""", f"{name} {lives} {place}.", p=place, lives=lives))  # fmt: skip
    return " ".join(f"{name} {lives} {place}." for name, place in homes), questions


def belongings(draw: Draw) -> Story:
    people = draw.names(draw.integer(1, 3))
    rows = list(zip(people, draw.sample(COLOURS, len(people)), draw.sample(THINGS, len(people))))
    has, have = draw.choice((("has", "have"), ("owns", "own")))
    questions = []
    for name, colour, thing in rows:
        answer = f"{name} {has} a {colour} {thing}."
        questions += [
            _ask("Who {h} the {t}?\nWho {h} a {t}?\nWhich person {h} the {t}?\nWhose {t} is it?\n* Tell me who {h} the {t}.\n* Who is it that {h} a {t}?",
                 answer, t=thing, h=has),
            _ask("What does {n} {h}?\nWhich thing does {n} {h}?\nSay what {n} {t}.\n* Tell me what {n} {t}.\n* What thing does {n} {h}?",
                 answer, n=name, h=have, t=has),
            _ask("What colour is the {t}?\nWhat colour is the {t} of {n}?\nWhich colour does the {t} have?\n* Do you know the colour of the {t}?\n* Which colour is the {t}?",
                 f"The {thing} is {colour}.", t=thing, n=name),
        ]  # fmt: skip
    return " ".join(f"{n} {has} a {c} {t}." for n, c, t in rows), questions


def hours(draw: Draw) -> Story:
    shop, opening, closing, day = draw.business(), draw.integer(6, 11), draw.integer(14, 23), draw.choice(DAYS)
    facts = [
        (draw.choice(("{s} opens at {o} and closes at {c}.", "{s} is open from {o} to {c}.")), None),
        ("It is closed on {d}.", None),
        ("It is in {p}.", None),
        ("The owner is {n}.", None),
    ]
    place, owner = draw.place(), draw.name()
    values = {"s": shop, "o": opening, "c": closing, "d": day, "p": place, "n": owner}
    questions = [
        _ask("When does {s} open?\nAt what time does {s} open?\nFrom when is {s} open?\nWhat is the opening time of {s}?\nWhen can I come to {s}?\n* What time does {s} open?\n* How early does {s} open?",
             f"{shop} opens at {opening}.", **values),
        _ask("When does {s} close?\nAt what time does {s} close?\nUntil when is {s} open?\nHow long is {s} open?\nWhat is the closing time of {s}?\n* What time does {s} close?\n* How late is {s} open?",
             f"{shop} closes at {closing}.", **values),
        _ask("On which day is {s} closed?\nWhen is {s} closed?\nWhich day is {s} closed?\nWhat day is {s} not open?\n* On what day is {s} closed?",
             f"{shop} is closed on {day}.", **values),
        _ask("Where is {s}?\nIn which town is {s}?\nWhere can I find {s}?\n* In what town is {s}?\n* Where do I find {s}?",
             f"{shop} is in {place}.", **values),
        _ask("Who owns {s}?\nWho is the owner of {s}?\nTo whom does {s} belong?\n* Do you know who owns {s}?\n* Can you tell me the owner of {s}?",
             f"The owner is {owner}.", **values),
    ]  # fmt: skip
    first, rest = facts[0], facts[1:]
    draw.rng.shuffle(rest)
    return " ".join(text.format(**values) for text, _ in [first, *rest]), questions


DAYS = listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
GOODS = """tea, coffee, juice, soup, bread, cake, pizza, salad, cheese, milk, honey, a sandwich, a ticket, a room, a bike, a lesson,
a map, a guided tour, rice, pasta, ice cream, water, lemonade, a muffin, a bagel, a haircut, a tent, a boat, a book, a poster"""
GOODS_LIST = [item.strip() for item in GOODS.replace("\n", " ").split(",")]


def prices(draw: Draw) -> Story:
    goods = draw.sample(GOODS_LIST, draw.integer(2, 4))
    if draw.chance(0.4):
        goods = draw.words(len(goods))
    unit = draw.choice(("euros", "dollars", "coins", "pounds"))
    rows = list(zip(goods, draw.sample(range(2, 90), len(goods))))
    questions = [
        _ask("How much is {g}?\nHow much does {g} cost?\nWhat does {g} cost?\nWhat is the price of {g}?\nWhat do I pay for {g}?\nprice of {g}?\n* Can you tell me the price of {g}?\n* How much do I pay for {g}?\n* What's the price of {g}?",
             f"The price of {g} is {p} {unit}.", g=g)
        for g, p in rows
    ]  # fmt: skip
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
            _ask("What is the job of {n}?\nWhat is {n}?\nWhat is {n}'s job?\nWhat does {n} work as?\n* What job does {n} have?\n* Do you know {n}'s job?", answer, n=name),
            _ask("Who is a {j}?\nWho is the {j}?\nWhich person is a {j}?\n* Tell me who the {j} is.\n* Who works as a {j}?", answer, j=job),
        ]  # fmt: skip
    return " ".join(f"{n} is a {j}." for n, j in rows), questions


def meeting(draw: Draw) -> Story:
    n, m = draw.names(2)
    place, day, hour, thing = draw.place(), draw.choice(DAYS), draw.integer(1, 12), draw.thing()
    text = draw.choice((
        f"On {day} at {hour} {n} met {m} in {place}. {m} gave {n} a {thing}.",
        f"{n} met {m} in {place} on {day} at {hour}. {m} gave {n} a {thing}.",
        f"{n} went to {place} on {day}. At {hour} {n} met {m} there. {m} gave {n} a {thing}.",
    ))  # fmt: skip
    values = {"n": n, "m": m}
    return text, [
        _ask("Whom did {n} meet?\nWho did {n} meet?\nWho met {n}?\n* Tell me whom {n} met.\n* Which person did {n} meet?", f"{n} met {m}.", **values),
        _ask("Where did they meet?\nIn which town did they meet?\nWhere did {n} meet {m}?\nWhere was it?\n* In what town did {n} meet {m}?\n* Where did {m} and {n} meet?", f"They met in {place}.", **values),
        _ask("On which day did they meet?\nWhich day was it?\nOn which day did {n} meet {m}?\nWhat day did they meet?\n* On what day did they meet?", f"They met on {day}.", **values),
        _ask("At what time did they meet?\nWhat time did they meet?\nAt what time did {n} meet {m}?\n* At which time did they meet?", f"They met at {hour}.", **values),
        _ask("What did {m} give {n}?\nWhat did {n} get?\nWhat was the gift?\nWhat did {n} get from {m}?\n* What did {n} receive?\n* Which thing did {m} give {n}?", f"{m} gave {n} a {thing}.", **values),
    ]  # fmt: skip


def codes(draw: Draw) -> Story:
    """Arbitrary words paired with arbitrary words or numbers: pure look-up."""
    keys = draw.words(draw.integer(2, 5))
    values = draw.words(len(keys)) if draw.chance(0.5) else [str(v) for v in draw.sample(range(10, 999), len(keys))]
    sign = draw.choice((" = ", ": ", " is "))
    noun = draw.choice(("code", "number", "key", "value"))
    text = draw.choice((", ", ". ", "; ")).join(f"{k}{sign}{v}" for k, v in zip(keys, values)) + "."
    questions = [
        _ask("What is the {x} of {k}?\nWhat is the {x} for {k}?\nWhich {x} does {k} have?\nThe {x} of {k}?\nTell me the {x} of {k}.\n* Give me the {x} of {k}.\n* Can you tell me the {x} for {k}?\n* Which {x} belongs to {k}?",
             f"The {noun} of {key} is {value}." , k=key, x=noun)
        for key, value in zip(keys, values)
    ]  # fmt: skip
    return text, questions


STORIES: tuple[Callable[[Draw], Story], ...] = (towns, belongings, hours, hours, prices, jobs, meeting, codes)
