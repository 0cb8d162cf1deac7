"""Skills that the calculator does the work of: sums, word problems, comparing numbers, counting letters."""

from nanochat_core.calculator import calculate
from starter.draw import ANIMALS, THINGS, Draw, listed
from starter.exchange import Exchange, by_tool, one
from starter.wording_files import read_wordings

SUMS, PROBLEMS, NUMBERS = read_wordings("sums"), read_wordings("problems"), read_wordings("numbers")
SIGNS = {"+": "+", "-": "-", "*": "*", "//": "/"}


def _operands(draw: Draw) -> tuple[int, str, int]:
    operator = draw.choice(("+", "+", "-", "-", "*", "*", "//"))
    top = draw.choice((9, 20, 99, 999, 9999))
    a, b = draw.integer(1, top), draw.integer(1, top)
    if operator == "*":
        a, b = draw.integer(2, min(top, 99)), draw.integer(2, min(top, 99))
    if operator == "//":
        b = draw.integer(2, 12)
        a = b * draw.integer(2, min(top, 99))
    if operator == "-" and a < b:
        a, b = b, a
    return a, operator, b


def _sum(expression: str) -> tuple[list[dict], int]:
    """The answer with its call of the calculator, and the number that comes out."""
    result = calculate(expression)
    assert isinstance(result, int)
    return by_tool(expression, str(result), f"{expression.replace('//', '/')} = {result}"), result


def arithmetic(draw: Draw) -> Exchange:
    a, operator, b = _operands(draw)
    if draw.chance(0.12):
        c = draw.integer(2, 20)
        expression = draw.choice((f"{a}+{b}+{c}", f"({a}+{b})*{c}", f"{a}+{b}*{c}", f"{a}+{b}-{c}"))
        asked = expression if draw.chance(0.5) else " ".join(_spaced(expression))
        answer, result = _sum(expression)
        return one(draw.wording(SUMS["ask"]).format(x=asked), answer, f"= {result}", match="contains")
    if draw.chance(0.5):
        space = " " if draw.chance(0.7) else ""
        asked = f"{a}{space}{SIGNS[operator]}{space}{b}"
    else:
        asked = draw.wording(SUMS[operator]).format(a=a, b=b)
    answer, result = _sum(f"{a}{operator}{b}")
    turn = (draw.wording(SUMS["ask"]).format(x=asked), answer)
    if not draw.chance(0.15):
        return one(*turn, f"= {result}", match="contains")
    follow, second = draw.wording(SUMS["follow up"]).split("||")
    c = draw.integer(2, 30)
    more, total = _sum(f"{result}{second}{c}")
    return Exchange((turn, (follow.format(b=c), more)), (f"= {total}",), match="contains")


def _spaced(expression: str) -> list[str]:
    for sign in "+-*":
        expression = expression.replace(sign, f" {sign} ")
    return expression.split()


COUNTABLE = (
    [thing for thing in THINGS if not thing.endswith(("sh", "ch", "x", "s", "y", "f"))]
    + [a for a in ANIMALS if a not in ("goldfish", "mouse", "sheep", "pony")]
    + listed("apple orange pear lemon cookie cake egg flower coin stone shell button card marble letter tree")
)


def word_problem(draw: Draw) -> Exchange:
    operator = draw.choice(("+", "-", "*", "//"))
    n, m = draw.names(2)
    low, high = (2, 12) if operator in ("*", "//") else (2, draw.choice((20, 99, 400)))
    a, b = draw.integer(low, high), draw.integer(low, high)
    if operator == "-" and a <= b:
        a, b = b + 1, a
    if operator == "//":
        a = a * b
    question = draw.wording(PROBLEMS[operator]).format(n=n, m=m, a=a, b=b, t=draw.choice(COUNTABLE))
    expression = f"{a}{operator}{b}"
    result = calculate(expression)
    return one(question, by_tool(expression, str(result), f"The answer is {result}."))


def count_letters(draw: Draw) -> Exchange:
    word = draw.word()
    letter = draw.choice(word) if draw.chance(0.8) else draw.choice("abcdefghijklmnopqrstuvwxyz")
    count = word.count(letter)
    quote = draw.choice(("", "", "'", '"'))
    question = draw.wording(NUMBERS["letters"])
    shown = letter if "{l}s" in question or draw.chance(0.7) else f"{quote}{letter}{quote}"
    question = question.format(l=shown, w=f"{quote}{word}{quote}")
    text = f"There {'is' if count == 1 else 'are'} {count} {letter} in {word}."
    return one(question, by_tool(f"'{word}'.count('{letter}')", str(count), text))


def compare(draw: Draw) -> Exchange:
    top = draw.choice((20, 100, 1000, 10000))
    a, b = draw.sample(range(1, top), 2)
    if draw.chance(0.4):
        question = draw.wording(NUMBERS["even or odd"]).format(a=a)
        return one(question, by_tool(f"{a}%2", str(a % 2), f"{a} is {'odd' if a % 2 else 'even'}."))
    more = draw.choice(("larger", "bigger", "greater", "smaller", "less"))
    picked = min(a, b) if more in ("smaller", "less") else max(a, b)
    question = draw.wording(NUMBERS["compare"]).format(a=a, b=b, more=more)
    return one(question, by_tool(f"{a}-{b}", str(a - b), f"{picked} is {more}."))
