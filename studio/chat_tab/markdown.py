"""What a model, or anybody, wrote, as Markdown in which nothing is HTML and nothing is fetched.

Text is shown as it is: `<`, `&` and the bracket of a picture are escaped, so that no tag, entity or picture comes of
them. Code shows them as they are, so they stay there; where it is not certain what is code, they are escaped too (which
is then seen). The page sanitizes what comes of it.
"""

import re
from collections.abc import Iterable
from itertools import groupby

_FENCE = re.compile(r"(`{3,}(?=[^`]*$)|~{3,})")
_ODD_FENCE = re.compile(r"^(?!`{3}|~{3}).*(?:`{3}|~{3})", re.MULTILINE)
_CODE_SPAN = re.compile(r"(?<![`\\])(`+)(?!`)([^`]|(?!\1(?!`))`+)+?(?<!`)\1(?!`)")
_SPECIAL = re.compile(r"\\+(?=[<&])|[<&]|(?<=!)\[")


def as_markdown(text: str) -> str:
    """Markdown that shows `text`, with its headings, lists, emphasis, links and code, and no HTML or picture."""
    if _ODD_FENCE.search(text):  # in a list, a quotation or indented: where such code ends is another matter
        return "\n".join(_escape(line) for line in text.split("\n"))
    lines: list[str] = []
    prose: list[str] = []
    fence = ""
    for line in text.split("\n"):
        mark = _FENCE.match(line)
        if fence:
            lines.append(line)
            if mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif mark:
            lines += _escape_prose(prose)
            prose, fence = [], mark[1]
            lines.append(fence + _language(line[len(fence) :]))
        else:
            prose.append(line)
    lines += _escape_prose(prose)
    return "\n".join([*lines, fence] if fence else lines)  # a reply in the making, or cut off


def code_block(text: str) -> str:
    """Markdown that shows `text` as it is, in a block of code."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _language(info: str) -> str:
    """The word after a fence, for colours; a diagram would be drawn from it, so that one is left out."""
    word = re.sub(r"^\s*([\w+#-]*).*", r"\1", info, flags=re.DOTALL)
    return "" if word.lower() == "mermaid" else word


def _escape_prose(lines: list[str]) -> Iterable[str]:
    """Escape lines outside their spans of code, paragraph by paragraph: a span may cross lines, but no empty one."""
    for is_empty, group in groupby(lines, key=lambda line: not line.strip()):
        paragraph = list(group)
        certain = all("`" not in _CODE_SPAN.sub("", line) for line in paragraph)
        yield from paragraph if is_empty else map(_escape_around_code if certain else _escape, paragraph)


def _escape_around_code(line: str) -> str:
    done, pieces = 0, []
    for span in _CODE_SPAN.finditer(line):
        pieces += [_escape(line[done : span.start()]), span[0]]
        done = span.end()
    return "".join([*pieces, _escape(line[done:])])


def _escape(text: str) -> str:
    return _SPECIAL.sub(lambda match: match[0] * 2 if match[0][0] == "\\" else "\\" + match[0], text)
