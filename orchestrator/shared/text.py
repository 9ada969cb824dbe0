"""Text for a terminal: removes control sequences, formats tables."""

import re

#: Control sequences and control strings (ECMA-48, sections 5.4 and 5.6; xterm also ends the latter
#: with BEL), and single control characters. A string ends where another one begins: so each letter
#: is looked at a few times, however many strings have no end.
_ANSI = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"
    r"|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x90\x98\x9c-\x9f\n]*(?:\x07|\x1b\\|\x9c)"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)

#: Harmless characters that str.isprintable rejects.
_SPACES = frozenset("\n\t\N{NO-BREAK SPACE}")

#: Control characters except the tab.
_CONTROLS = re.compile(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]")


#: Name of a user or a group, as NixOS allows it. It is safe as a word of a shell, of a file of
#: accounts and of a path.
USER_NAME = r"[a-z_][a-z0-9_-]{0,31}"


def whole(text: str) -> int | None:
    """Return the number that `text` writes in ASCII digits; None for anything else.

    A number of more than 18 digits is none: Python refuses to read one of more than 4300.
    """
    return int(text) if re.fullmatch("[0-9]{1,18}", text) else None


def is_line(text: str) -> bool:
    """Whether `text` is one line without control characters (tabs are allowed)."""
    return not _CONTROLS.search(text)


def plain(text: str) -> str:
    """Remove control sequences, so that a builder's output cannot control the terminal.

    Other unprintable characters are removed, too: bidirectional marks could make the text look like
    another one.
    """
    text = _ANSI.sub("", text)
    if text.isprintable():
        return text
    return "".join(letter for letter in text if letter.isprintable() or letter in _SPACES)


def columns(rows: list[tuple[str, ...]]) -> str:
    """Format `rows` as lines with aligned columns."""
    widths = [max(len(cell) for cell in column) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
    return "".join(f"{line}\n" for line in lines)


def public(text: str) -> str:
    """Return a URL, or a text with URLs, without user names and passwords.

    A password may have an `@`, though it should not.
    """
    return re.sub(r"(?<=://)[^/?#\s]*@", "", text)
