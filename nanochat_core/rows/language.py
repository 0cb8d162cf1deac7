"""In which script and, of the common European ones, in which language a text is: enough to see that it is another one.

By the commonest words of each language. Short texts have no language here, which is the safe answer.
"""

import unicodedata
from collections import Counter, defaultdict
from functools import lru_cache

from nanochat_core.rows.wording import words_of

_COMMON = {
    "English": "the is are was of to and in that it you for with on this we have not be what how your from do can",
    "German": "der die das ist sind und nicht ein eine mit wir ich sie auf für zu den dem wie was haben von im es auch",
    "French": "le la les des est sont et une un dans que qui pour pas nous vous avec sur ce il elle au du je à",
    "Spanish": "el la los las es son y una un en que de para no con por del se su como más está lo al nuestro",
    "Italian": "il lo la gli è sono e una un che di per non con del della si come più questo nel i da anche al",
    "Portuguese": "o a os as é são e uma um em que de para não com por do da se como mais está no na ao",
    "Dutch": "de het een is zijn en van niet wij ik op voor met te dat die hoe wat hebben aan er ook onze naar bij",
    "Polish": "i w nie na jest się z do to że jak po co są dla od o przez ale czy nasz tak już za być",
}
_LANGUAGES = {name: frozenset(words.split()) for name, words in _COMMON.items()}
_SPOKEN: dict[str, list[str]] = defaultdict(list)
for _name, _words in _LANGUAGES.items():
    for _word in _words:
        _SPOKEN[_word].append(_name)
LEAST_WORDS = 6
"""A text of fewer words has no language,"""
LEAST_COMMON = 3
"""nor one with fewer different ones of a language's commonest."""


def language_of(text: str) -> str | None:
    """The name of a text's language; None when it is not clear."""
    words = words_of(text)
    if len(words) < LEAST_WORDS:
        return None
    counts = Counter(name for word in words for name in _SPOKEN.get(word, ()))
    shares = {name: counts[name] / len(words) for name in _LANGUAGES}
    best, second = sorted(shares, key=lambda name: -shares[name])[:2]
    is_clear = shares[best] >= 0.25 and shares[best] >= 1.8 * shares[second]
    return best if is_clear and len(_LANGUAGES[best].intersection(words)) >= LEAST_COMMON else None


def script_of(text: str) -> str | None:
    """The script of more than half of a text's letters, such as LATIN, CYRILLIC or CJK; None for fewer than four."""
    if text.isascii():
        return "LATIN" if sum(map(str.isalpha, text)) >= 4 else None
    counts = Counter(_script(letter) for letter in text if letter.isalpha())
    total = counts.total()
    if total < 4:
        return None
    name, count = counts.most_common(1)[0]
    return name if 2 * count > total else None


@lru_cache(1 << 14)
def _script(letter: str) -> str:
    return unicodedata.name(letter, "?").split()[0]
