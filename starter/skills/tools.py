"""Skills that the calculator does the work of: sums, word problems, comparing numbers, even and odd, counting letters."""

from starter.draw import ANIMALS, THINGS, Draw, listed, wordings
from starter.exchange import Exchange, by_tool, one

ASK = wordings("""
What is {x}?
What's {x}?
Calculate {x}.
Compute {x}.
How much is {x}?
{x}
{x} = ?
{x}?
Work out {x}.
Can you calculate {x}?
Tell me {x}.
I need the result of {x}.
Solve {x}.
Give me the answer to {x}.
What do I get for {x}?
What does {x} make?
Find {x}.
* Please work out {x} for me.
* What is the result of {x}?
* Could you compute {x}?
* What does {x} equal?
""")
SPOKEN = {
    "+": wordings("""
{a} plus {b}
the sum of {a} and {b}
{a} and {b} added together
{a} added to {b}
* {a} and {b} together
"""),
    "-": wordings("""
{a} minus {b}
{a} less {b}
the difference between {a} and {b}
{b} taken from {a}
* {b} subtracted from {a}
"""),
    "*": wordings("""
{a} times {b}
{a} multiplied by {b}
the product of {a} and {b}
{a} x {b}
* {a} by {b} multiplied
"""),
    "//": wordings("""
{a} divided by {b}
{a} over {b}
{a} split by {b}
* {a} divided into {b} parts
"""),
}
SIGNS = {"+": "+", "-": "-", "*": "*", "//": "/"}
FOLLOW = wordings("""
Now add {b}.||+
And plus {b}?||+
Add {b} to that.||+
Now take away {b}.||-
And minus {b}?||-
Subtract {b} from that.||-
And times {b}?||*
Now multiply it by {b}.||*
* Add another {b}.||+
* Then subtract {b}.||-
""")


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
    # The generator's own expressions only: integers and the four signs.
    result = int(eval(expression))  # noqa: S307
    return by_tool(expression, str(result), f"{expression.replace('//', '/')} = {result}"), result


def arithmetic(draw: Draw) -> Exchange:
    a, operator, b = _operands(draw)
    if draw.chance(0.12):
        c = draw.integer(2, 20)
        expression = draw.choice((f"{a}+{b}+{c}", f"({a}+{b})*{c}", f"{a}+{b}*{c}", f"{a}+{b}-{c}"))
        asked = expression if draw.chance(0.5) else " ".join(_spaced(expression))
        answer, _ = _sum(expression)
        return one(draw.wording(ASK).format(x=asked), answer)
    if draw.chance(0.5):
        space = " " if draw.chance(0.7) else ""
        asked = f"{a}{space}{SIGNS[operator]}{space}{b}"
    else:
        asked = draw.wording(SPOKEN[operator]).format(a=a, b=b)
        if asked.startswith(f"{a} added to"):
            a, b = b, a
    answer, result = _sum(f"{a}{operator}{b}" if "added to" not in asked else f"{b}{operator}{a}")
    turn = (draw.wording(ASK).format(x=asked), answer)
    if not draw.chance(0.15):
        return one(*turn)
    follow, second = draw.wording(FOLLOW).split("||")
    c = draw.integer(2, 30)
    more, _ = _sum(f"{result}{second}{c}")
    return Exchange((turn, (follow.format(b=c), more)), (more[-1]["text"],))


def _spaced(expression: str) -> list[str]:
    for sign in "+-*":
        expression = expression.replace(sign, f" {sign} ")
    return expression.split()


PROBLEMS = {
    "+": wordings("""
{n} has {a} {t}s and buys {b} more. How many {t}s does {n} have now?
{n} has {a} {t}s. {m} gives {n} {b} more {t}s. How many {t}s does {n} have?
There are {a} {t}s in the house and {b} {t}s in the garden. How many {t}s are there in all?
{n} has {a} {t}s and {m} has {b} {t}s. How many do they have together?
I have {a} {t}s and I find {b} more. How many {t}s do I have?
A shop has {a} {t}s and gets {b} new ones. How many {t}s are in the shop now?
{n} collects {a} {t}s on Monday and {b} on Tuesday. How many {t}s is that in total?
On the table are {a} {t}s. {n} puts {b} more there. How many {t}s are on the table?
{n} counts {a} {t}s in one room and {b} in another. How many {t}s altogether?
If {n} owns {a} {t}s and receives {b} more, how many {t}s is that?
* {n} had {a} {t}s and then got {b} more. How many {t}s does {n} have in total?
* {m} has {a} {t}s, {n} has {b} {t}s. How many {t}s do they have altogether?
* There are {a} {t}s here, and {n} brings {b} more. How many {t}s are there now?
"""),
    "-": wordings("""
{n} has {a} {t}s and gives away {b}. How many {t}s are left?
{n} has {a} {t}s and loses {b} of them. How many {t}s does {n} still have?
There are {a} {t}s in the box. {n} takes {b} out. How many {t}s are left in the box?
A shop has {a} {t}s and sells {b}. How many {t}s remain?
I had {a} {t}s and gave {b} to {n}. How many do I have left?
{n} has {a} {t}s. {b} of them break. How many {t}s are left?
{n} owns {a} {t}s and sells {b} of them to {m}. How many {t}s does {n} have left?
Of {a} {t}s, {b} are lost. How many {t}s remain?
{n} had {a} {t}s, but {m} took {b}. How many are left over?
* {n} had {a} {t}s and gave {b} to {m}. How many {t}s are left?
* There were {a} {t}s in the shop. {b} were sold. How many {t}s remain?
* {n} has {a} {t}s and throws away {b}. How many {t}s does {n} have left?
"""),
    "*": wordings("""
{n} has {a} boxes with {b} {t}s in each. How many {t}s is that?
There are {a} shelves. Each shelf holds {b} {t}s. How many {t}s are there?
One {t} costs {b} coins. {n} buys {a} {t}s. How much does {n} pay?
{n} packs {a} bags with {b} {t}s each. How many {t}s are packed?
Each of {a} children has {b} {t}s. How many {t}s do they have?
{n} buys {b} {t}s every day for {a} days. How many {t}s does {n} buy?
A {t} costs {b} coins. How much do {a} {t}s cost?
In every one of {a} rooms there are {b} {t}s. How many {t}s is that?
* There are {a} boxes and each box has {b} {t}s. How many {t}s are there?
* Each {t} costs {b} coins. How much does {n} pay for {a} {t}s?
* {n} fills {a} bags with {b} {t}s in each bag. How many {t}s are there?
"""),
    "//": wordings("""
{n} shares {a} {t}s equally among {b} friends. How many {t}s does each friend get?
{a} {t}s are packed into {b} boxes, the same number in each. How many {t}s are in each box?
{n} divides {a} {t}s between {b} children. How many does each child get?
{b} people share {a} {t}s equally. How many {t}s does each one get?
{a} {t}s are put on {b} shelves, equally. How many {t}s are on each shelf?
{n} splits {a} {t}s into {b} equal groups. How many {t}s are in each group?
* {n} shares {a} {t}s equally between {b} people. How many {t}s does each person get?
* {a} {t}s are divided among {b} children. How many {t}s does each child get?
"""),
}
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
    answer, result = _sum(f"{a}{operator}{b}")
    return one(question, by_tool(answer[0]["text"], str(result), f"The answer is {result}."))


LETTERS = wordings("""
How many {l} are in {w}?
How many {l}'s are in {w}?
How many {l}s are in the word {w}?
How many times does {l} appear in {w}?
How often is the letter {l} in {w}?
Count the {l} in {w}.
Count the letter {l} in {w}.
How many letters {l} does {w} have?
How many times is {l} in the word {w}?
How many {l} are there in {w}?
Tell me how many {l} are in {w}.
In the word {w}, how many {l} are there?
What is the number of {l} in {w}?
How often does {l} occur in {w}?
* How many times does the letter {l} occur in {w}?
* Count how many {l} are in the word {w}.
* How many of the letter {l} are in {w}?
* How often does the letter {l} appear in the word {w}?
""")


def count_letters(draw: Draw) -> Exchange:
    word = draw.word()
    letter = draw.choice(word) if draw.chance(0.8) else draw.choice("abcdefghijklmnopqrstuvwxyz")
    count = word.count(letter)
    quote = draw.choice(("", "", "'", '"'))
    question = draw.wording(LETTERS)
    shown = letter if "{l}s" in question or draw.chance(0.7) else f"{quote}{letter}{quote}"
    question = question.format(l=shown, w=f"{quote}{word}{quote}")
    text = f"There {'is' if count == 1 else 'are'} {count} {letter} in {word}."
    return one(question, by_tool(f"'{word}'.count('{letter}')", str(count), text))


COMPARE = wordings("""
Which is {more}, {a} or {b}?
Which number is {more}, {a} or {b}?
What is {more}: {a} or {b}?
Is {a} or {b} {more}?
{a} or {b}: which is {more}?
Tell me which is {more}, {a} or {b}.
Which one is {more}: {a} or {b}?
Compare {a} and {b}. Which is {more}?
Of {a} and {b}, which is {more}?
* Which of these is {more}, {a} or {b}?
* Tell me the {more} number: {a} or {b}?
* Between {a} and {b}, which number is {more}?
""")
PARITY = wordings("""
Is {a} even or odd?
Is {a} odd or even?
Is the number {a} even or odd?
Tell me if {a} is even or odd.
{a}: even or odd?
Is {a} an even number?
Is {a} an odd number?
Even or odd: {a}?
* Do you know if {a} is even or odd?
* Would you say that {a} is odd or even?
* Is the number {a} odd or even?
""")


def compare(draw: Draw) -> Exchange:
    top = draw.choice((20, 100, 1000, 10000))
    a, b = draw.sample(range(1, top), 2)
    if draw.chance(0.4):
        question = draw.wording(PARITY).format(a=a)
        return one(question, by_tool(f"{a}%2", str(a % 2), f"{a} is {'odd' if a % 2 else 'even'}."))
    more = draw.choice(("larger", "bigger", "greater", "smaller", "less"))
    picked = min(a, b) if more in ("smaller", "less") else max(a, b)
    question = draw.wording(COMPARE).format(a=a, b=b, more=more)
    return one(question, by_tool(f"{a}-{b}", str(a - b), f"{picked} is {more}."))
