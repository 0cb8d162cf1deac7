"""Categories: naming several different members, and telling what kind of thing a member is."""

from starter.draw import DAYS, MONTHS, Draw, listed
from starter.exchange import Exchange, one
from starter.wording_files import read_wordings

# Each list is a circle: a reply starts anywhere and goes on in this order, so it never names one thing twice.
CATEGORIES: dict[tuple[str, str], list[str]] = {
    ("fruit", "fruits"): listed("apple banana cherry grape lemon mango orange peach pear plum"),
    ("vegetable", "vegetables"): listed("carrot potato onion cabbage spinach broccoli pea bean leek pumpkin"),
    ("animal", "animals"): listed("dog cat horse cow lion elephant rabbit tiger sheep monkey"),
    ("bird", "birds"): listed("robin eagle owl sparrow swan parrot pigeon duck penguin crow"),
    ("colour", "colours"): listed("red blue green yellow orange purple black white brown pink"),
    ("color", "colors"): listed("red blue green yellow orange purple black white brown pink"),
    ("drink", "drinks"): listed("water tea coffee milk juice lemonade cocoa soda"),
    ("tool", "tools"): listed("hammer saw drill wrench screwdriver pliers axe shovel"),
    ("sport", "sports"): listed("football tennis hockey swimming boxing rowing golf rugby"),
    ("country", "countries"): listed("France Japan Brazil Egypt Canada India Norway Kenya Spain Peru"),
    ("city", "cities"): listed("Paris London Tokyo Rome Cairo Berlin Madrid Moscow Vienna Athens"),
    ("flower", "flowers"): listed("rose tulip daisy lily violet orchid sunflower iris"),
    ("tree", "trees"): listed("oak pine maple birch willow beech elm cedar"),
    ("planet", "planets"): listed("Mercury Venus Earth Mars Jupiter Saturn Uranus Neptune"),
    ("metal", "metals"): listed("iron gold silver copper tin lead zinc nickel"),
    ("instrument", "instruments"): listed("piano guitar violin drum flute trumpet harp cello"),
    ("month", "months"): listed(MONTHS),
    ("day of the week", "days of the week"): listed(DAYS),
    ("season", "seasons"): listed("spring summer autumn winter"),
    ("job", "jobs"): listed("teacher doctor baker farmer pilot nurse painter driver"),
    ("piece of furniture", "pieces of furniture"): listed("chair table bed sofa desk shelf wardrobe bench"),
    ("piece of clothing", "pieces of clothing"): listed("shirt coat hat dress skirt jacket scarf sock"),
    ("part of the body", "parts of the body"): listed("head arm leg hand foot nose ear knee"),
    ("insect", "insects"): listed("ant bee fly beetle butterfly moth wasp mosquito"),
    ("vehicle", "vehicles"): listed("car bus train bicycle truck plane boat tram"),
    ("language", "languages"): listed("English French Spanish German Italian Chinese Arabic Hindi"),
}
NUMBERS = {2: "two", 3: "three", 4: "four", 5: "five"}
LISTS = read_wordings("lists")
# Members that belong to two lists would have two right answers.
AMBIGUOUS = {"orange", "violet", "iris", "lead", "duck", "Mercury", "plum", "rose", "fly"}
MEMBERS = [
    (item, single)
    for (single, _), items in CATEGORIES.items()
    if single not in ("color", "job", "sport", "drink", "part of the body")
    for item in items
    if item not in AMBIGUOUS
]


def name_some(draw: Draw) -> Exchange:
    single, plural = draw.choice(list(CATEGORIES))
    items = CATEGORIES[single, plural]
    if draw.chance(0.15):
        question = draw.wording(LISTS["one"]).format(c=single).replace(" a a", " an a").replace(" a i", " an i")
        start = draw.integer(0, len(items) - 1)
        return one(question, f"{_capital(items[start])}.", *(f"{_capital(item)}." for item in items))
    count = draw.choice((2, 3, 3, 3, 4, 4, 5)) if len(items) > 4 else draw.choice((2, 3, 4))
    number = NUMBERS[count] if draw.chance(0.7) else str(count)
    replies = [_listed([items[(start + k) % len(items)] for k in range(count)]) for start in range(len(items))]
    question = draw.wording(LISTS["several"]).format(n=number, c=plural)
    return one(question[0].upper() + question[1:], draw.choice(replies), *replies)


def _capital(text: str) -> str:
    return text[0].upper() + text[1:]


def _listed(items: list[str]) -> str:
    return _capital(", ".join(items[:-1]) + " and " + items[-1] + ".")


def _article(noun: str) -> str:
    return f"an {noun}" if noun[0] in "aeiou" else f"a {noun}"


def _subject(item: str, kind: str) -> str:
    return item if item[0].isupper() or kind in ("colour", "metal", "season") else _article(item)


def kind_of(draw: Draw) -> Exchange:
    item, kind = draw.choice(MEMBERS)
    subject = _subject(item, kind)
    return one(draw.wording(LISTS["what kind"]).format(x=subject), _capital(f"{subject} is {_article(kind)}."))
