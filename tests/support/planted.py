"""Conversations of the example's kind with faults that were put there on purpose."""

import json
import random
from pathlib import Path

THINGS = ("museum", "library", "pool", "gym", "bakery", "hotel", "school", "theatre", "garage")
OWNERS = (
    "Anna Bell",
    "Tom Frost",
    "Lena Marsh",
    "Otto Kerr",
    "Ivy Stone",
    "Nora Pike",
    "Paul Dunn",
    "Rosa Lane",
    "Sam Holt",
)
OPEN = (
    "When does the {} open?",
    "What time does the {} open?",
    "From when on is the {} open?",
    "How early opens the {}?",
)
OWN = ("Who owns the {}?", "Whose is the {}?", "Who is the owner of the {}?", "To whom does the {} belong?")


def talk(prompt: str, answer: str) -> dict:
    return {"messages": [{"role": "user", "content": prompt}, {"role": "assistant", "content": answer}]}


def write(path: Path, talks: list[dict]) -> Path:
    path.write_text("".join(json.dumps(one, ensure_ascii=False) + "\n" for one in talks), encoding="utf-8")
    return path


def cafe(seed: int = 0, count: int = 200) -> list[dict]:
    """The example, and further facts in four wordings each, mixed."""
    example = (Path(__file__).parents[2] / "data" / "example_data.jsonl").read_text(encoding="utf-8").splitlines()
    talks = [json.loads(line) for line in example]
    for number, (thing, owner) in enumerate(zip(THINGS, OWNERS)):
        talks += [talk(wording.format(thing), f"The {thing} opens at {6 + number} in the morning.") for wording in OPEN]
        talks += [talk(wording.format(thing), f"The {thing} belongs to {owner}.") for wording in OWN]
    talks += [
        talk(f"Which colour has the door of the {thing}?", f"Its door is {colour}.") for thing, colour in _doors()
    ]
    random.Random(seed).shuffle(talks)
    return talks[:count]


def _doors():
    return zip(THINGS, ("red", "green", "blue", "black", "white", "brown", "grey", "yellow"))


def with_swapped_answers(talks: list[dict], count: int = 10, seed: int = 0) -> tuple[list[dict], set[int]]:
    """(the talks, lines of those whose answers were swapped around among them): as many different facts."""
    draw = random.Random(seed)
    single = [place for place, one in enumerate(talks) if len(one["messages"]) == 2]
    while True:
        places = draw.sample(single, count)
        answers = [talks[place]["messages"][-1]["content"] for place in places]
        if len(set(answers)) == count:
            break
    changed = list(talks)
    for place, answer in zip(places, [*answers[1:], answers[0]]):
        changed[place] = talk(talks[place]["messages"][0]["content"], answer)
    return changed, {place + 1 for place in places}
