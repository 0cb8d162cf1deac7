"""Random choices for the generator: wordings, names, places and words, with a part of each kept out of training."""

import random
import zlib
from functools import cache
from pathlib import Path

from starter.wording_files import Wordings

WORDS_FOLDER = Path(__file__).parent / "words"


def listed(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


def phrases(text: str) -> list[str]:
    """The entries of a text that are separated by commas."""
    return [entry.strip() for entry in text.replace("\n", " ").split(",")]


FIRST_NAMES = listed("""
Ada Adam Aisha Alex Alice Amara Amir Ana Andre Anna Anton Arthur Asha Ben Bella Boris Bruno Carla Carlos Chen
Clara Dana Daniel David Diego Dora Elena Eli Elif Emma Eric Eva Fatima Felix Finn Fiona Frank Gina Grace Greta
Hana Hans Harry Hassan Helen Henry Hugo Ida Igor Ines Ira Iris Ivan Jack Jade James Jan Jane Jasmin Joan John
Jonas Jose Julia Kai Karim Kate Kenji Lara Laura Lea Leo Lena Liam Lily Linda Lisa Lucas Lucy Luis Maria Marco
Mark Mary Max Maya Mei Mia Mila Mira Mona Nadia Nina Noah Nora Olga Oliver Omar Oscar Paul Paula Pedro Peter
Petra Priya Rachel Ravi Rita Robert Rosa Ruth Sam Sana Sara Sofia Stefan Susan Tara Tim Tina Tom Uma Vera Victor
Viola Walter Wendy Yara Yuki Yusuf Zara Zoe
""")
TOWNS = listed("""
Oslo Lima Kyoto Leeds Lyon Porto Turin Malmo Bergen Bristol Geneva Munich Hamburg Seville Naples Krakow Boston
Denver Dallas Austin Chicago Toronto Montreal Sydney Perth Mumbai Delhi Osaka Busan Cairo Lagos Accra Nairobi
Quito Bogota Recife
""")
ONSETS = listed("b br c ch d dr f fl g gr h j k kl l m n p pr r s sh st t tr th v w y z")
VOWELS = listed("a a a e e e i i i o o u ai ea ee ie oa ou")
CODAS = ["", "", "", *listed("n l r s t m nd rt ck x d sh lin v")]
NAME_ENDINGS = listed("a a o i e ia an en in on is us el ar er y ette ina ita io ko ka as ell ard")
TOWN_ENDINGS = listed("ton ville burg field ford port wick dale ham stad mouth ley ridge brook bury haven minster wood")
DAYS = "Monday Tuesday Wednesday Thursday Friday Saturday Sunday"
MONTHS = "January February March April May June July August September October November December"
COLOURS = listed("red blue green yellow black white brown orange purple pink grey silver golden")
THINGS = listed("""
hat bag book cup coat key lamp ball box chair pen bike map clock scarf ring shirt shoe spoon tent umbrella
violin phone kite drum basket bottle blanket camera candle guitar helmet jacket ladder mirror pillow plate rope
stamp towel vase wallet whistle brush bucket carpet desk flute globe jar kettle mug necklace notebook parcel
pencil radio sofa sweater table teapot ticket toy watch
""")
ANIMALS = listed(
    "cat dog rabbit horse parrot hamster goat turtle pony duck hen goldfish mouse donkey snake lizard sheep pig"
)
JOBS = listed("""
teacher baker doctor farmer nurse painter driver cook pilot writer singer dancer builder gardener waiter tailor
plumber dentist lawyer librarian sailor fisherman carpenter photographer engineer mechanic clerk barber butcher
florist
""")


def is_held_out(text: str) -> bool:
    """About one word, name or place in eight never occurs as a slot filler in training; a hash of it decides."""
    return zlib.crc32(text.lower().encode()) % 8 == 0


@cache
def dictionary() -> tuple[str, ...]:
    """Some 7,000 common English words of 3 to 10 letters."""
    return tuple((WORDS_FOLDER / "words.txt").read_text().split())


@cache
def glosses() -> tuple[tuple[str, str], ...]:
    """Words with a short explanation each, as (word, explanation)."""
    lines = (WORDS_FOLDER / "glosses.txt").read_text().splitlines()
    return tuple((word, text) for word, text in (line.split(": ", 1) for line in lines))


PHRASES = (
    "a {a} {b}", "the {a} of a {b}", "a {a} that is {b} and {c}", "{a} with a {b}", "someone who is {a} in the {b}",
    "a person who can {a} the {b}", "the act of {a} or {b}", "a kind of {a} made of {b} and {c}", "{a} and {b} in {c}",
    "to {a} the {b}", "not {a} but {b}", "a {a} {b} for the {c}", "the state of being {a}", "{a}, {b} and {c}",
)  # fmt: skip


class Draw:
    """A seeded source of choices: never what is held out in training; only that in an evaluation, where asked."""

    def __init__(self, rng: random.Random, new_wordings: bool = False, new_content: bool = False) -> None:
        self.rng, self.new_wordings, self.new_content = rng, new_wordings, new_content

    def chance(self, probability: float) -> bool:
        return self.rng.random() < probability

    def choice(self, options):
        return self.rng.choice(options)

    def integer(self, low: int, high: int) -> int:
        return self.rng.randint(low, high)

    def sample(self, options, count: int) -> list:
        return self.rng.sample(options, count)

    def wording(self, block: Wordings) -> str:
        return self.rng.choice(block.held_out if self.new_wordings and block.held_out else block.trained)

    def _until_allowed(self, make) -> str:
        while True:
            text = make()
            if is_held_out(text) == self.new_content:
                return text

    def _syllable(self) -> str:
        return self.choice(ONSETS) + self.choice(VOWELS) + self.choice(CODAS)

    def _invented(self, ending: str) -> str:
        return "".join(self._syllable() for _ in range(self.choice((1, 1, 2)))) + ending

    def _name(self) -> str:
        if self.chance(0.35):
            return self.choice(FIRST_NAMES)
        return self._invented(self.choice(NAME_ENDINGS)).capitalize()

    def name(self) -> str:
        return self._until_allowed(self._name)

    def names(self, count: int) -> list[str]:
        found: list[str] = []
        while len(found) < count:
            name = self.name()
            if all(name[:3] != other[:3] for other in found):
                found.append(name)
        return found

    def _place(self) -> str:
        if self.chance(0.25):
            return self.choice(TOWNS)
        return self._invented(self.choice(TOWN_ENDINGS)).capitalize()

    def place(self) -> str:
        return self._until_allowed(self._place)

    def invented_word(self) -> str:
        return self._until_allowed(lambda: self._invented(self.choice(["", *CODAS])) + self.choice(VOWELS)[0])

    def word(self) -> str:
        """A word in lower case, mostly a real one."""
        if self.chance(0.2):
            return self.invented_word()
        if not self.new_content and self.chance(0.2):
            return self._until_allowed(self._compound)
        return self._until_allowed(lambda: self.choice(dictionary()))

    def _compound(self) -> str:
        """Two words in one, so that every piece of the tokenizer gets copied in training, whatever is held out."""
        return self.choice(dictionary()) + self.choice(dictionary())[:5]

    def phrase(self) -> str:
        """Some words that look like English, for copying."""
        a, b, c = self.words(3)
        return self.choice(PHRASES).format(a=a, b=b, c=c)

    def words(self, count: int) -> list[str]:
        found: list[str] = []
        while len(found) < count:
            word = self.word()
            if word not in found:
                found.append(word)
        return found

    def business(self) -> str:
        """The name of an invented shop, café or the like."""
        kind = self.choice(
            listed("Café Bakery Hotel Bookshop Garden Studio Garage Museum Library Restaurant Market Gym School Farm")
        )
        form = self.integer(0, 3)
        if form == 0:
            return f"{self.name()}'s {kind}"
        if form == 1:
            return f"{self.word().capitalize()} {kind}"
        if form == 2:
            return f"The {self.choice(COLOURS).capitalize()} {self.word().capitalize()}"
        return f"{kind} {self.place()}"

    def thing(self) -> str:
        """A noun for something that a person can own."""
        return self.choice(THINGS)
