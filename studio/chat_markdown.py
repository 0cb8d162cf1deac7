"""What a model, or anybody, wrote, as Markdown in which nothing is HTML and nothing is fetched.

Text is shown as it is: `<`, `&` and image marks are escaped, so that no tag, entity or picture comes of them; in code,
where Markdown shows them as they are, they stay. The page sanitizes what is left.
"""

import re

_FENCE = re.compile(r" {0,3}(`{3,}(?=[^`]*$)|~{3,})")
_CODE_SPAN = re.compile(r"(?<!`)(`+)(?!`)(.+?)(?<!`)\1(?!`)")
_SPECIAL = re.compile(r"\\(?=[<&\[])|[<&]|(?<=!)\[")


def as_markdown(text: str) -> str:
    """Markdown that shows `text`, with its headings, lists, emphasis, links and code, and no HTML or picture."""
    lines, fence = [], ""
    for line in text.splitlines():
        mark = _FENCE.match(line)
        if fence:
            lines.append(line)
            if mark and mark[1].startswith(fence) and not line.strip().strip(fence[0]):
                fence = ""
        elif mark:
            fence = mark[1]
            lines.append(mark[0] + re.sub(r"\W.*|(?i:mermaid)", "", line[mark.end() :].strip()))  # the language alone
        else:
            lines.append(_escape_line(line))
    if fence:  # a reply in the making, or cut off
        lines.append(fence)
    return "\n".join(lines)


def code_block(text: str) -> str:
    """Markdown that shows `text` as it is, in a block of code."""
    longest = max((len(run) for run in re.findall("`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}\n{text}\n{fence}"


def _escape_line(line: str) -> str:
    """Escape a line outside its spans of code."""
    done, pieces = 0, []
    for span in _CODE_SPAN.finditer(line):
        if line[: span.start()].endswith("\\"):  # an escaped backtick opens no code
            continue
        pieces += [_SPECIAL.sub(_escaped, line[done : span.start()]), span[0]]
        done = span.end()
    return "".join([*pieces, _SPECIAL.sub(_escaped, line[done:])])


def _escaped(match: re.Match[str]) -> str:
    return "\\" + match[0]
