"""Text for a terminal: what others have said, and tables."""

import re

#: Control sequences and control strings as ECMA-48, sections 5.4 and 5.6, has them (xterm ends the
#: latter with BEL, too), and single control characters.
_ANSI = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c\n]*(?:\x07|\x1b\\|\x9c)"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)

#: What str.isprintable does not count as such, and is harmless.
_SPACES = frozenset("\n\t\N{NO-BREAK SPACE}")

#: Control characters, but for the tab.
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


def is_line(text: str) -> bool:
    """Whether `text` is one line, of any letters: nothing in it ends a line or is no text."""
    return not _CONTROLS.search(text)


def plain(text: str) -> str:
    """`text` without control sequences: what builders print must not steer the user's terminal.

    Nor may it look like another text: marks that turn the order of letters go, too.
    """
    text = _ANSI.sub("", text)
    if text.isprintable():
        return text
    return "".join(letter for letter in text if letter.isprintable() or letter in _SPACES)


def columns(rows: list[tuple[str, ...]]) -> str:
    """A line for each row, in columns that are as wide as they need."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "".join(f"{line}\n" for line in lines)
