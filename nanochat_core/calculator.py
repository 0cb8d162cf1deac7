"""The calculator that a model calls: arithmetic and `"text".count("letter")`, by a small parser of its own.

The expressions come from a model, so nothing is ever handed to Python's eval or compile. There is no power
operator and the text is short, so numbers and time stay small by construction.
"""

import math
import operator
import re
from collections.abc import Callable

MAX_CHARACTERS = 1000
MAX_DEPTH = 50  # of parentheses and signs; each level takes four of Python's stack frames
MAX_DIGITS = 100

_TOKEN = re.compile(
    r"""\s*(?:
        (?P<number> [1-9][0-9]{0,2}(?:,[0-9]{2,3})*,[0-9]{3}(?![0-9,])(?:\.[0-9]*)?  # 1,234.5 and 1,00,000
                  | (?:[1-9][0-9]*|0)(?![0-9])(?:\.[0-9]*)? | \.[0-9]+ )
      | (?P<string> '[^'\\\r\n]*' | "[^"\\\r\n]*" )
      | (?P<sign>   // | [-+*/%()] | \.count\b )
    )\s*""",
    re.VERBOSE,
)

_SUMS = {"+": operator.add, "-": operator.sub}
_PRODUCTS = {"*": operator.mul, "/": operator.truediv, "//": operator.floordiv, "%": operator.mod}


def calculate(expression: str) -> int | float | None:
    """The value, or None when the expression is not one of ours; never raises.

    Numbers (1,234.5 too), + - * / // % and parentheses, signs, and 'strawberry'.count('r'). Whole numbers stay
    whole except through /, as in Python. None for a division by zero, more than 100 digits, infinity, powers, a leading
    zero (0,5 is no 5) and a comma that does not part thousands.
    """
    if not isinstance(expression, str) or len(expression) > MAX_CHARACTERS:
        return None
    try:
        return _Parser(_tokens(expression)).whole()
    except (_Refused, ZeroDivisionError):
        return None


def format_result(value: int | float) -> str:
    """The value as the tool's output: at most 15 digits after rounding, so 0.1+0.2 is "0.3" and 6/2 is "3".

    That is how the training texts write results; Python's own "0.30000000000000004" would only teach noise.
    """
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        value = int(value)
    if isinstance(value, int):
        return str(value)
    text = f"{value:.15g}"
    return text if math.isfinite(float(text)) else repr(value)  # the largest float would round up to infinity


class _Refused(Exception):
    """Not an expression of ours."""


def _tokens(expression: str) -> list[tuple[str, str]]:
    """(kind, text) of each token."""
    tokens, position = [], 0
    while position < len(expression):
        match = _TOKEN.match(expression, position)
        if match is None:
            raise _Refused
        kind = match.lastgroup
        assert kind is not None
        tokens.append((kind, match[kind]))
        position = match.end()
    return tokens


class _Parser:
    """Recursive descent, one method a level: sums of products of signed atoms."""

    def __init__(self, tokens: list[tuple[str, str]]):
        self.tokens = tokens
        self.position = 0
        self.depth = 0

    def whole(self) -> int | float:
        value = self.sum()
        if self.position != len(self.tokens):
            raise _Refused
        return value

    def sum(self) -> int | float:
        value = self.product()
        while operation := _SUMS.get(self.sign()):
            self.position += 1
            value = _bounded(operation(value, self.product()))
        return value

    def product(self) -> int | float:
        value = self.signed()
        while operation := _PRODUCTS.get(self.sign()):
            self.position += 1
            value = _bounded(operation(value, self.signed()))
        return value

    def signed(self) -> int | float:
        if self.sign() not in ("+", "-"):
            return self.atom()
        negative = self.take("sign") == "-"
        value = self.nested(self.signed)
        return -value if negative else value

    def atom(self) -> int | float:
        if self.sign() == "(":
            self.expect("(")
            value = self.nested(self.sum)
            self.expect(")")
            return value
        kind, _ = self.peek()
        return self.count() if kind == "string" else _number(self.take("number"))

    def count(self) -> int:
        text = self.take("string")[1:-1]
        self.expect(".count")
        self.expect("(")
        part = self.take("string")[1:-1]
        self.expect(")")
        return text.count(part)

    def nested(self, level: Callable[[], int | float]) -> int | float:
        self.depth += 1
        if self.depth > MAX_DEPTH:
            raise _Refused
        value = level()
        self.depth -= 1
        return value

    def peek(self) -> tuple[str, str]:
        return self.tokens[self.position] if self.position < len(self.tokens) else ("end", "")

    def sign(self) -> str:
        kind, text = self.peek()
        return text if kind == "sign" else ""

    def take(self, kind: str) -> str:
        found, text = self.peek()
        if found != kind:
            raise _Refused
        self.position += 1
        return text

    def expect(self, sign: str) -> None:
        if self.take("sign") != sign:
            raise _Refused


def _number(text: str) -> int | float:
    text = text.replace(",", "")
    return _bounded(float(text) if "." in text else int(text))


def _bounded(value: int | float) -> int | float:
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _Refused
    elif abs(value) >= 10**MAX_DIGITS:
        raise _Refused
    return value
