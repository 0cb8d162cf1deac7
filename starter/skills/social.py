"""What the starter says of itself, small talk, and the polite refusal of what it cannot know or do."""

from starter.draw import Draw, listed, phrases
from starter.exchange import Exchange, one
from starter.skills.knowledge import RELATIONS
from starter.skills.lists import CATEGORIES
from starter.wording_files import Wordings, read_wordings

IDENTITY, SMALL_TALK, REFUSALS = read_wordings("identity"), read_wordings("small_talk"), read_wordings("refusal")
"""The first two by the answer."""


def _said(draw: Draw, table: dict[str, Wordings]) -> Exchange:
    answer = draw.choice(list(table))
    return one(draw.wording(table[answer]), answer)


def identity(draw: Draw) -> Exchange:
    first = next(iter(IDENTITY))
    return one(draw.wording(IDENTITY[first]), first) if draw.chance(0.25) else _said(draw, IDENTITY)


def small_talk(draw: Draw) -> Exchange:
    return _said(draw, SMALL_TALK)


UNKNOWN = "I am sorry, I do not know that."
UNABLE = "I am sorry, I cannot do that. I am only a small practice model."
KNOWN_WORDS = {item.lower() for items in CATEGORIES.values() for item in items} | {
    word.removeprefix("a ").removeprefix("an ").removeprefix("the ").lower()
    for relation in RELATIONS.values()
    for pair in relation.pairs
    for word in pair
}
TOPICS = phrases("""
quantum physics, the French Revolution, black holes, climate change, the stock market, photosynthesis,
evolution, machine learning, democracy, the Roman Empire, gravity, volcanoes, the human brain, inflation,
electricity, vaccines, algebra, Shakespeare, jazz, the internet, chess openings, tax law, dinosaurs,
earthquakes, the Second World War, DNA, philosophy, yoga, nuclear energy, solar panels, ancient Egypt, the moon
landing, computer viruses, geometry, poetry, football rules, banking, the immune system, space travel, renewable
energy, medieval castles, neural networks, the cold war, opera, wine making
""")
UNKNOWN_COUNTRIES = listed("""
Mongolia Nepal Bolivia Ecuador Paraguay Uruguay Angola Zambia Uganda Malta Cyprus Latvia Estonia Albania Armenia
Georgia Laos Cambodia Malaysia Jamaica Panama Honduras Tunisia Algeria Libya Sudan Mali Senegal Fiji Samoa
""")


def _unknown_word(draw: Draw) -> str:
    """A word about which the starter is told nothing."""
    while (word := draw.word()) in KNOWN_WORDS:
        pass
    return word


def refusal(draw: Draw) -> Exchange:
    block, answer = draw.choice(((REFUSALS["facts"], UNKNOWN), (REFUSALS["tasks"], UNABLE)))
    n, m = draw.names(2)
    p, q = draw.place(), draw.place()
    if draw.chance(0.15):
        p = draw.choice(listed("Atlantis Narnia Wonderland Mordor Utopia Lilliput Gotham Oz Avalon"))
    question = draw.wording(block).format(
        n=n, m=m, p=p, q=q, i=draw.invented_word(), w=draw.word(), b=draw.business(), t=draw.choice(TOPICS),
        c=draw.choice(UNKNOWN_COUNTRIES) if draw.chance(0.5) else p, u=_unknown_word(draw),
        h=draw.integer(1, 12), y=draw.integer(1200, 2100),
    )  # fmt: skip
    return one(question, answer, "I am sorry", match="contains")
