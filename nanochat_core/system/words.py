"""Words for sentences: plurals, quotes, numbers of lines, durations."""


def plural(number: int, noun: str) -> str:
    """`1 line`, `2 lines`."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def name_numbers(noun: str, numbers: list[int], limit: int = 5) -> str:
    """`Message 3`, `Messages 3 and 5`, `Messages 1, 2, 3, 4, 5 and 99,995 more`."""
    assert numbers
    if len(numbers) == 1:
        return f"{noun} {numbers[0]}"
    if len(numbers) > limit:
        return f"{noun}s {', '.join(map(str, numbers[:limit]))} and {len(numbers) - limit:,} more"
    return f"{noun}s {', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"


def quoted(text: str, limit: int = 40) -> str:
    """A foreign text in quotes, shortened, safe to print: no control characters, nothing that cannot be encoded."""
    cut = text[:limit]
    safe = "".join(letter if letter.isprintable() else f"\\u{ord(letter):04x}" for letter in cut)
    return f"'{safe}{'...' if len(text) > limit else ''}'"


def duration(seconds: float | None) -> str:
    """A time as people say it; a dash when it is not known."""
    if seconds is None:
        return "–"
    seconds = max(0, round(seconds))
    if seconds < 60:
        return f"{seconds} s"
    if seconds < 3600:
        return f"{seconds // 60} min {seconds % 60:02d} s"
    return f"{seconds // 3600} h {seconds % 3600 // 60:02d} min"
