"""Closed facts, one relation at a time: each can be asked through a noun phrase in many frames, or directly."""

from typing import NamedTuple

from starter.draw import DAYS, MONTHS, Draw, listed
from starter.exchange import Exchange, one
from starter.wording_files import Wordings, read_wordings

KNOWLEDGE = read_wordings("knowledge")
FRAMES = KNOWLEDGE["frames"]


Pairs = tuple[tuple[str, str], ...]


class Relation(NamedTuple):
    """`pairs` maps a subject to a value; `nouns` fill FRAMES; `direct` are questions of their own."""

    pairs: Pairs
    answer: str
    nouns: Wordings
    direct: Wordings


def _pairs(block: str) -> Pairs:
    entries = [entry.strip() for entry in block.replace("\n", ",").split(",") if entry.strip()]
    return tuple(tuple(part.strip() for part in entry.split("=")) for entry in entries)


def _both_ways(pairs: Pairs) -> Pairs:
    return pairs + tuple((b, a) for a, b in pairs)


def _cycle(names: str, step: int) -> Pairs:
    items = listed(names)
    return tuple((item, items[(index + step) % len(items)]) for index, item in enumerate(items))


RELATIONS: dict[str, Relation] = {
    "capital": Relation(
        _pairs("""
France=Paris, Germany=Berlin, Italy=Rome, Spain=Madrid, Portugal=Lisbon, Austria=Vienna, Poland=Warsaw
Greece=Athens, Ireland=Dublin, Norway=Oslo, Sweden=Stockholm, Finland=Helsinki, Denmark=Copenhagen
Hungary=Budapest, Belgium=Brussels, Switzerland=Bern, Russia=Moscow, Ukraine=Kyiv, Turkey=Ankara, Egypt=Cairo
Kenya=Nairobi, Japan=Tokyo, China=Beijing, India=New Delhi, Canada=Ottawa, Mexico=Mexico City, Brazil=Brasilia
Argentina=Buenos Aires, Chile=Santiago, Peru=Lima, Cuba=Havana, Australia=Canberra, Thailand=Bangkok
Vietnam=Hanoi, Iran=Tehran, Iraq=Baghdad, Morocco=Rabat, Nigeria=Abuja, Ghana=Accra, Colombia=Bogota
Iceland=Reykjavik, Romania=Bucharest, Bulgaria=Sofia, Croatia=Zagreb, Serbia=Belgrade, Scotland=Edinburgh
England=London, Wales=Cardiff, the United States=Washington, South Korea=Seoul
"""),
        "The capital of {a} is {b}.",
        KNOWLEDGE["capital noun"],
        KNOWLEDGE["capital question"],
    ),
    "opposite": Relation(
        _both_ways(
            _pairs("""
hot=cold, big=small, fast=slow, happy=sad, light=dark, up=down, left=right, old=young, good=bad, rich=poor
full=empty, open=closed, wet=dry, hard=soft, high=low, long=short, early=late, loud=quiet, clean=dirty
strong=weak, thick=thin, heavy=weightless, day=night, love=hate, win=lose, begin=end, push=pull, buy=sell
give=take, true=false, near=far, first=last, inside=outside, above=below, always=never, cheap=expensive
easy=difficult, sweet=bitter, deep=shallow, wide=narrow, smooth=rough, awake=asleep, brave=cowardly
friend=enemy, summer=winter, north=south, east=west, sharp=blunt, alive=lifeless, safe=dangerous, polite=rude
tall=tiny, laugh=cry, remember=forget
""")
        ),
        "The opposite of {a} is {b}.",
        KNOWLEDGE["opposite noun"],
        KNOWLEDGE["opposite question"],
    ),
    "colour": Relation(
        _pairs("""
grass=green, snow=white, coal=black, blood=red, a lemon=yellow, a banana=yellow, the sky=blue, a carrot=orange
milk=white, chocolate=brown, a tomato=red, a frog=green, the sun=yellow, a strawberry=red, an elephant=grey
a cucumber=green, a crow=black, a flamingo=pink, the sea=blue, wood=brown, a plum=purple, rice=white
"""),
        "The colour of {a} is {b}.",
        KNOWLEDGE["colour noun"],
        KNOWLEDGE["colour question"],
    ),
    "sound": Relation(
        _pairs("""
a cat=meow, a dog=woof, a cow=moo, a sheep=baa, a duck=quack, a pig=oink, a horse=neigh, a lion=roar
a snake=hiss, a bee=buzz, a frog=croak, an owl=hoot, a mouse=squeak, a rooster=cock-a-doodle-doo, a wolf=howl
a bird=tweet
"""),
        "The sound of {a} is {b}.",
        KNOWLEDGE["sound noun"],
        KNOWLEDGE["sound question"],
    ),
    "legs": Relation(
        _pairs("""
a dog=4, a spider=8, a bird=2, an ant=6, a cat=4, a horse=4, a snake=0, a fish=0, a bee=6, a cow=4
a chicken=2, a person=2, a beetle=6, a frog=4, a worm=0, a duck=2, an elephant=4, a fly=6
"""),
        "The number of legs of {a} is {b}.",
        KNOWLEDGE["legs noun"],
        KNOWLEDGE["legs question"],
    ),
    "young": Relation(
        _pairs("""
a cat=kitten, a dog=puppy, a cow=calf, a horse=foal, a sheep=lamb, a hen=chick, a lion=cub, a frog=tadpole
a goat=kid, a duck=duckling, a goose=gosling, a deer=fawn, a pig=piglet, a bear=cub, a swan=cygnet
a kangaroo=joey
"""),
        "The young of {a} is a {b}.",
        KNOWLEDGE["young noun"],
        KNOWLEDGE["young question"],
    ),
    "plural": Relation(
        _pairs("""
mouse=mice, child=children, foot=feet, tooth=teeth, man=men, woman=women, goose=geese, person=people
leaf=leaves, knife=knives, wolf=wolves, city=cities, baby=babies, box=boxes, dish=dishes, sheep=sheep
fish=fish, cat=cats, dog=dogs, car=cars, house=houses, tree=trees, book=books, bus=buses, party=parties
wife=wives, potato=potatoes, tomato=tomatoes, fox=foxes, day=days
"""),
        "The plural of {a} is {b}.",
        KNOWLEDGE["plural noun"],
        KNOWLEDGE["plural question"],
    ),
    "next": Relation(
        _cycle(DAYS, 1) + _cycle(MONTHS, 1),
        "After {a} comes {b}.",
        KNOWLEDGE["next noun"],
        KNOWLEDGE["next question"],
    ),
    "before": Relation(
        _cycle(DAYS, -1) + _cycle(MONTHS, -1),
        "Before {a} comes {b}.",
        KNOWLEDGE["before noun"],
        KNOWLEDGE["before question"],
    ),
    "amount": Relation(
        _pairs("""
days are in a week=7, months are in a year=12, hours are in a day=24, minutes are in an hour=60
seconds are in a minute=60, days are in a year=365, weeks are in a year=52, letters are in the alphabet=26
years are in a century=100, years are in a decade=10, sides are in a triangle=3, sides are in a square=4
wheels are on a car=4, wheels are on a bicycle=2, fingers are on a hand=5, players are in a football team=11
things are in a dozen=12, centimetres are in a metre=100, metres are in a kilometre=1000
grams are in a kilogram=1000
"""),
        "The number is {b}.",
        KNOWLEDGE["amount noun"],
        KNOWLEDGE["amount question"],
    ),
    "job": Relation(
        _pairs("""
baker=bakes bread, teacher=teaches in a school, doctor=helps sick people, farmer=grows food
pilot=flies planes, tailor=makes clothes, gardener=looks after gardens, fisherman=catches fish
barber=cuts hair, builder=builds houses, waiter=serves food, driver=drives a car or a bus, writer=writes books
painter=paints pictures, dentist=looks after teeth, singer=sings songs, cook=prepares meals
librarian=looks after books, photographer=takes pictures, nurse=cares for sick people
"""),
        "A {a} {b}.",
        KNOWLEDGE["job noun"],
        KNOWLEDGE["job question"],
    ),
}
LANGUAGES = {
    "Spanish": _pairs("""
dog=perro, cat=gato, house=casa, water=agua, bread=pan, book=libro, sun=sol, moon=luna, tree=arbol
friend=amigo, milk=leche, red=rojo, hello=hola, good=bueno, night=noche, school=escuela, fish=pez, door=puerta
"""),
    "French": _pairs("""
dog=chien, cat=chat, house=maison, water=eau, bread=pain, book=livre, sun=soleil, moon=lune, tree=arbre
friend=ami, milk=lait, red=rouge, hello=bonjour, good=bon, night=nuit, school=ecole, fish=poisson, door=porte
"""),
    "German": _pairs("""
dog=Hund, cat=Katze, house=Haus, water=Wasser, bread=Brot, book=Buch, sun=Sonne, moon=Mond, tree=Baum
friend=Freund, milk=Milch, red=rot, hello=hallo, good=gut, night=Nacht, school=Schule, fish=Fisch, door=Tür
"""),
}
for _language, _words in LANGUAGES.items():
    RELATIONS[_language] = Relation(
        _words,
        f"The {_language} word for {{a}} is {{b}}.",
        *(KNOWLEDGE[f"language {form}"].filled(l=_language, a="{a}") for form in ("noun", "question")),
    )
# Noun phrases that are clauses ("what comes after May") do not follow "What is" or "Name".
CLAUSES = {"next", "before", "amount", "legs", "job"}


def knowledge(draw: Draw) -> Exchange:
    relation_name = draw.choice(
        [name for name, relation in RELATIONS.items() for _ in range(len(relation.pairs) // 12 + 1)]
    )
    relation = RELATIONS[relation_name]
    a, b = draw.choice(relation.pairs)
    if draw.chance(0.5):
        question = draw.wording(relation.direct).format(a=a)
    else:
        phrase = draw.wording(relation.nouns).format(a=a)
        frame = draw.wording(FRAMES)
        if relation_name in CLAUSES and not (
            frame.endswith(("tell me {np}?", "know {np}?", "know {np}.", "tell me {np}."))
        ):
            frame = draw.choice(FRAMES.held_out[-1:]) if draw.new_wordings else "Tell me {np}."
        question = frame.format(np=phrase)
    question = question[0].upper() + question[1:] if draw.chance(0.85) else question
    return one(question, relation.answer.format(a=a, b=b))
