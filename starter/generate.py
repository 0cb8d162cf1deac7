"""The generator: from a seed to conversations, to the evaluation's questions and to the replay set."""

import argparse
import json
import random
from collections.abc import Iterator
from pathlib import Path

from starter.draw import Draw, dictionary, listed
from starter.exchange import Content, Exchange
from starter.skills import SKILLS
from starter.skills.memory import NOT_TOLD

EVALUATION_SEED, REPLAY_SEED = 2_000, 3_000
QUESTIONS_PER_TASK, REPLAY_CONVERSATIONS = 50, 2_000
FIRST_WORDS = listed("""
a an the my your his her is are am do does did can could would will may must what which who whom whose when where why
how if in on at of for from to with and or not no yes please tell this that these those there hello hi
thanks you we they
""")
PREFIXES = (
    "Please", "Hey,", "Hi,", "Hello,", "OK,", "So,", "Now", "Tell me:", "Question:", "I have a question.", "Well,",
    "Quick question:", "Excuse me,", "Could you help me?", "Help me:", "I wonder:", "I want to know:", "My question:",
    "Here is a question:", "Listen.", "Sorry,", "May I ask:", "All right,", "Hello there!", "Dear model,", "Look:",
)  # fmt: skip
LATER_PREFIXES = (
    "One more thing:", "And", "Next:", "Good.", "Thanks.", "Then", "But", "By the way:", "Something else:", "Fine.",
    "Let us go on.", "Also", "Again:", "Another question:", "Great.", "I see.", "Yes.", "Wait,",
)  # fmt: skip
SUFFIXES = (" please", " Thanks!", " Thank you.", " Please answer.", " I want to know.", " Can you help?", " Tell me!")


def vary(draw: Draw, question: str, first: bool) -> str:
    """Small differences of manner, so that the model reads the question and not its first or last token."""
    if draw.chance(0.15):
        prefix = draw.choice(PREFIXES if first else PREFIXES + LATER_PREFIXES)
        question = f"{prefix} {_lowered(question) if draw.chance(0.7) else question}"
    if draw.chance(0.06):
        question = question + draw.choice(SUFFIXES)
    if draw.chance(0.08):
        question = _lowered(question)
    if draw.chance(0.06):
        question = question.rstrip("?.!")
    if draw.chance(0.02):
        question = question.replace("'", "")
    return question


def _lowered(text: str) -> str:
    """The text with a small first letter, unless it begins with a name."""
    first = text.split()[0].split("'")[0].rstrip(".,:?!").lower()
    return text[0].lower() + text[1:] if first in FIRST_WORDS or first in dictionary() else text


def _messages(system: str, turns: list[tuple[str, Content]]) -> list[dict]:
    messages = [{"role": "system", "content": system}] if system else []
    for user, assistant in turns:
        messages += [{"role": "user", "content": user}, {"role": "assistant", "content": assistant}]
    return messages


def _some_skill(draw: Draw) -> str:
    return draw.rng.choices(list(SKILLS), [skill.weight for skill in SKILLS.values()])[0]


def _distraction(draw: Draw) -> list[tuple[str, Content]]:
    """Turns of another skill: nothing that tells a second name or sets a role."""
    name = "persona"
    while name in ("persona", "memory"):
        name = _some_skill(draw)
    return list(SKILLS[name].make(draw).turns)


def conversation(seed: int) -> dict:
    """Conversation number `seed` of the training distribution: one to four exchanges, {"messages": [...]}."""
    draw = Draw(random.Random(seed))
    names = [_some_skill(draw) for _ in range(draw.choice((1, 1, 2, 2, 3, 4)))]
    system, turns = "", []
    if "persona" in names:  # a system message comes first, holds for the whole conversation, and one is enough
        role = SKILLS["persona"].make(draw)
        system, turns = role.system, list(role.turns)
        names = [] if role.alone else [name for name in names if name not in ("persona", "identity")]
    turns += _joined(draw, [SKILLS[name].make(draw) for name in names])
    varied = [(vary(draw, user, index == 0), assistant) for index, (user, assistant) in enumerate(turns)]
    return {"messages": _messages(system, varied)}


def _joined(draw: Draw, exchanges: list[Exchange]) -> list[tuple[str, Content]]:
    """The exchanges one after another; what was told to be remembered is asked for at the end, after something else."""
    turns, closing = [], []
    for exchange in exchanges:
        if exchange.opening and not closing:
            turns += exchange.opening
            closing += exchange.turns
        elif not exchange.opening and not (closing and exchange.expected == (NOT_TOLD,)):
            turns += exchange.turns
    if closing and len(turns) < 3:
        for _ in range(draw.choice((0, 0, 1, 2))):
            turns += _distraction(draw)
    return turns + closing


def question(task: str, skill: str, seed: int, new_wordings: bool, new_content: bool) -> dict:
    """One question of the evaluation with what is expected; memory is asked after a turn of something else."""
    draw = Draw(random.Random(f"{skill} {seed}"), new_wordings, new_content)
    exchange = SKILLS[skill].make(draw)
    turns = list(exchange.opening)
    if exchange.opening:
        turns += _distraction(Draw(draw.rng))
    turns += exchange.turns
    return {
        "task": task,
        "skill": skill,
        "messages": _messages(exchange.system, turns)[:-1],
        "expected": list(exchange.expected),
        "match": exchange.match,
    }


def evaluation(new_wordings: bool, new_content: bool, seed: int = EVALUATION_SEED) -> list[dict]:
    """Ten tasks of 50 different questions, the skills of a task in turn."""
    tasks: dict[str, list[str]] = {}
    for name, skill in SKILLS.items():
        tasks.setdefault(skill.task, []).append(name)
    questions = []
    for task, skills in tasks.items():
        seen: set[str] = set()
        while len(seen) < QUESTIONS_PER_TASK:
            seed += 1
            made = question(task, skills[seed % len(skills)], seed, new_wordings, new_content)
            key = json.dumps(made["messages"])
            if key not in seen:
                seen.add(key)
                questions.append(made)
    return questions


def replay(count: int = REPLAY_CONVERSATIONS) -> Iterator[dict]:
    """Conversations of the training distribution, of seeds that the training does not use."""
    return (conversation(-REPLAY_SEED - index) for index in range(count))


def write_lines(path: Path, rows) -> None:
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description="print conversations of the training distribution, one a line")
    parser.add_argument("--count", type=int, default=10)
    parser.add_argument("--first", type=int, default=0, help="number of the first conversation")
    options = parser.parse_args()
    for seed in range(options.first, options.first + options.count):
        print(json.dumps(conversation(seed), ensure_ascii=False))


if __name__ == "__main__":
    main()
