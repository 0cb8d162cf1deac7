"""Closed facts, one relation at a time: each can be asked through a noun phrase in many frames, or directly."""

from typing import NamedTuple

from starter.draw import Draw, Wordings, wordings
from starter.exchange import Exchange, one

FRAMES = wordings("""
What is {np}?
What's {np}?
Tell me {np}.
Can you tell me {np}?
Do you know {np}?
Name {np}.
{np}?
Give me {np}.
I would like to know {np}.
Please tell me {np}.
What is {np} called?
Say {np}.
I forgot {np}. What is it?
Which word is {np}?
What do you know about {np}?
* Could you tell me {np}?
* Please name {np}.
* I want to know {np}.
* Would you tell me {np}?
""")


class Relation(NamedTuple):
    """`pairs` maps a subject to a value; `nouns` fill FRAMES; `direct` are questions of their own."""

    pairs: tuple[tuple[str, str], ...]
    answer: str
    nouns: Wordings
    direct: Wordings


def _pairs(block: str) -> tuple[tuple[str, str], ...]:
    entries = [entry.strip() for entry in block.replace("\n", ",").split(",") if entry.strip()]
    return tuple(tuple(part.strip() for part in entry.split("=")) for entry in entries)


def _both_ways(pairs):
    return pairs + tuple((b, a) for a, b in pairs)


def _cycle(names: str, step: int) -> tuple[tuple[str, str], ...]:
    items = names.split()
    return tuple((item, items[(index + step) % len(items)]) for index, item in enumerate(items))


DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
MONTHS = "January February March April May June July August September October November December"

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
        wordings("""
the capital of {a}
the capital city of {a}
{a}'s capital
* the name of the capital of {a}
* {a}'s capital city
"""),
        wordings("""
Which city is the capital of {a}?
What city is the capital of {a}?
Where is the government of {a}?
In which city does the government of {a} sit?
capital of {a}
* Which city is {a}'s capital?
* What is the name of the capital city of {a}?
"""),
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
        wordings("""
the opposite of {a}
the opposite of the word {a}
the reverse of {a}
the word that means the opposite of {a}
* the antonym of {a}
* the exact opposite of {a}
"""),
        wordings("""
What word is the opposite of {a}?
Which word means the opposite of {a}?
What is the contrary of {a}?
{a} is the opposite of what?
Give me an antonym of {a}.
Antonym of {a}?
opposite of {a}
* Which word is the opposite of {a}?
* What means the opposite of {a}?
"""),
    ),
    "colour": Relation(
        _pairs("""
grass=green, snow=white, coal=black, blood=red, a lemon=yellow, a banana=yellow, the sky=blue, a carrot=orange
milk=white, chocolate=brown, a tomato=red, a frog=green, the sun=yellow, a strawberry=red, an elephant=grey
a cucumber=green, a crow=black, a flamingo=pink, the sea=blue, wood=brown, a plum=purple, rice=white
"""),
        "The colour of {a} is {b}.",
        wordings("""
the colour of {a}
the color of {a}
the usual colour of {a}
* the normal colour of {a}
"""),
        wordings("""
What colour is {a}?
What color is {a}?
Which colour does {a} have?
What colour does {a} have?
Which colour is {a}?
What is {a}'s colour?
* Which color is {a}?
* What colour has {a}?
* What color does {a} have?
"""),
    ),
    "sound": Relation(
        _pairs("""
a cat=meow, a dog=woof, a cow=moo, a sheep=baa, a duck=quack, a pig=oink, a horse=neigh, a lion=roar
a snake=hiss, a bee=buzz, a frog=croak, an owl=hoot, a mouse=squeak, a rooster=cock-a-doodle-doo, a wolf=howl
a bird=tweet
"""),
        "The sound of {a} is {b}.",
        wordings("""
the sound of {a}
the sound that {a} makes
the noise of {a}
* the noise that {a} makes
"""),
        wordings("""
What sound does {a} make?
What noise does {a} make?
What does {a} say?
Which sound does {a} make?
How does {a} sound?
How does {a} go?
* Which noise does {a} make?
* What kind of sound does {a} make?
"""),
    ),
    "legs": Relation(
        _pairs("""
a dog=4, a spider=8, a bird=2, an ant=6, a cat=4, a horse=4, a snake=0, a fish=0, a bee=6, a cow=4
a chicken=2, a person=2, a beetle=6, a frog=4, a worm=0, a duck=2, an elephant=4, a fly=6
"""),
        "The number of legs of {a} is {b}.",
        wordings("""
the number of legs of {a}
how many legs {a} has
* the number of legs that {a} has
"""),
        wordings("""
How many legs does {a} have?
How many legs has {a}?
On how many legs does {a} walk?
How many feet does {a} have?
Count the legs of {a}.
* How many legs are there on {a}?
* How many legs does {a} normally have?
"""),
    ),
    "young": Relation(
        _pairs("""
a cat=kitten, a dog=puppy, a cow=calf, a horse=foal, a sheep=lamb, a hen=chick, a lion=cub, a frog=tadpole
a goat=kid, a duck=duckling, a goose=gosling, a deer=fawn, a pig=piglet, a bear=cub, a swan=cygnet
a kangaroo=joey
"""),
        "The young of {a} is a {b}.",
        wordings("""
the young of {a}
the baby of {a}
the name for the baby of {a}
the word for the young of {a}
* the name of the young of {a}
* the word for the baby of {a}
"""),
        wordings("""
What is the baby of {a} called?
What do you call the baby of {a}?
What is the young of {a} called?
How do you call the young of {a}?
What is a young animal of {a} called?
* What do you call the young of {a}?
* How is the baby of {a} called?
"""),
    ),
    "plural": Relation(
        _pairs("""
mouse=mice, child=children, foot=feet, tooth=teeth, man=men, woman=women, goose=geese, person=people
leaf=leaves, knife=knives, wolf=wolves, city=cities, baby=babies, box=boxes, dish=dishes, sheep=sheep
fish=fish, cat=cats, dog=dogs, car=cars, house=houses, tree=trees, book=books, bus=buses, party=parties
wife=wives, potato=potatoes, tomato=tomatoes, fox=foxes, day=days
"""),
        "The plural of {a} is {b}.",
        wordings("""
the plural of {a}
the plural form of {a}
the plural of the word {a}
* the plural form of the word {a}
"""),
        wordings("""
What is {a} in the plural?
One {a}, two what?
Which word is the plural of {a}?
How do you write the plural of {a}?
plural of {a}
* What do you call more than one {a}?
* How do you form the plural of {a}?
"""),
    ),
    "next": Relation(
        _cycle(DAYS, 1) + _cycle(MONTHS, 1),
        "After {a} comes {b}.",
        wordings("""
what comes after {a}
the one after {a}
* what follows after {a}
"""),
        wordings("""
What comes after {a}?
What follows {a}?
Which comes after {a}?
What is next after {a}?
What comes right after {a}?
{a} is followed by what?
* What comes next after {a}?
* Which one follows {a}?
"""),
    ),
    "before": Relation(
        _cycle(DAYS, -1) + _cycle(MONTHS, -1),
        "Before {a} comes {b}.",
        wordings("""
what comes before {a}
the one before {a}
* what goes before {a}
"""),
        wordings("""
What comes before {a}?
Which comes before {a}?
What is right before {a}?
What comes just before {a}?
What precedes {a}?
* Which one comes before {a}?
* What comes right before {a}?
"""),
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
        wordings("""
how many {a}
* exactly how many {a}
"""),
        wordings("""
How many {a}?
How many {a}, please?
So how many {a}?
Tell me, how many {a}?
* Say, how many {a}?
"""),
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
        wordings("""
what a {a} does
the work of a {a}
the job of a {a}
* what a {a} does at work
"""),
        wordings("""
What does a {a} do?
What is the job of a {a}?
What does a {a} do all day?
Describe the work of a {a}.
What is a {a}?
* What kind of work does a {a} do?
* What does a {a} do for a living?
"""),
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
        wordings(f"""
the {_language} word for {{a}}
the word for {{a}} in {_language}
{{a}} in {_language}
the {_language} for {{a}}
* the {_language} name for {{a}}
"""),
        wordings(f"""
How do you say {{a}} in {_language}?
What does {{a}} mean in {_language}?
Translate {{a}} into {_language}.
Translate {{a}} to {_language}.
How is {{a}} called in {_language}?
What do you call {{a}} in {_language}?
{{a}} in {_language}
* How would you say {{a}} in {_language}?
* Please translate {{a}} into {_language}.
* What is {{a}} called in {_language}?
"""),
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
