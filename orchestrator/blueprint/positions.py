"""Finds where each key and value of a TOML document stands: line and column.

`tomllib` reads values, but does not tell their places, which an error message must name. The
document must be valid TOML, and pass `check_shape`.
"""

import re
import typing

#: A place: names of tables and keys, and indices of arrays.
Path = tuple[str | int, ...]

#: Line and column, both from 1.
Position = tuple[int, int]

#: One token. Strings come first, because they may contain everything else; a quote that begins no
#: string comes last.
TOKEN = re.compile(
    r"""
    (?P<string>"{3}(?:[^\\]|\\.)*?"{3}"{0,2} | '{3}.*?'{3}'{0,2} | "(?:[^"\\]|\\.)*" | '[^']*')
    | (?P<comment>\#[^\n]*)
    | (?P<space>[ \t\r\n]+)
    | (?P<mark>\[\[|\]\]|[\[\]{}=,.])
    | (?P<bare>[^\s\[\]{}=,."'\#]+)
    | (?P<endless>["'])
    """,
    re.VERBOSE | re.DOTALL,
)

ESCAPE = re.compile(r'\\(?:u([0-9A-Fa-f]{4})|U([0-9A-Fa-f]{8})|(["\\bfnrte/]))')
SHORT = {"b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "e": "\x1b"}


#: Arrays, tables and dotted keys in each other, at most. The time that tomllib needs for a key
#: grows with the square of its depth, and it has no limit of its own but Python's stack.
DEEPEST = 20

#: Longest bare key, number or date. Python refuses to write, or to read, longer numbers.
LONGEST = 200


class Token(typing.NamedTuple):
    """A token with its kind (a group of `TOKEN`), its text and its offset."""

    kind: str
    text: str
    offset: int


def check_shape(text: str) -> None:
    """Raise `ValueError` if `text` would take too long to read; it need not be valid TOML."""
    brackets = dots = 0
    for match in TOKEN.finditer(text):
        kind, word = match.lastgroup, match[0]
        if kind == "endless":  # tomllib reads no further
            return
        if kind == "bare" and len(word) > LONGEST:
            raise ValueError(f"a word of {len(word)} letters is too long{_at(text, match)}")
        if kind != "mark":
            continue
        dots = dots + 1 if word == "." else 0
        brackets += len(word) if word[0] in "[{" else -len(word) if word[0] in "]}" else 0
        brackets = max(brackets, 0)
        if brackets + dots > DEEPEST:
            what = f"more than {DEEPEST} arrays, tables or parts of a key in each other"
            raise ValueError(f"{what}{_at(text, match)}")


def _at(text: str, match: re.Match[str]) -> str:
    """Return where `match` is, as tomllib's messages end."""
    column = match.start() - text.rfind("\n", 0, match.start())
    return f" (at line {text.count('\n', 0, match.start()) + 1}, column {column})"


def positions(text: str) -> dict[Path, Position]:
    """Return the position of each table, key and array element of the TOML document `text`.

    A key's position is that of its last part; an element's that of its value.
    """
    return _Scanner(text).found


class _Scanner:
    """Walks over the tokens of a valid document."""

    def __init__(self, text: str) -> None:
        self.found: dict[Path, Position] = {}
        self._text = text
        self._starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._tokens = [
            Token(str(match.lastgroup), match[0], match.start())
            for match in TOKEN.finditer(text)
            if match.lastgroup not in {"space", "comment"}
        ]
        self._next = 0
        self._arrays: dict[Path, int] = {}  # the last index of each array of tables
        table: Path = ()
        while self._next < len(self._tokens):
            mark = self._tokens[self._next].text
            if self._is_mark("[", "[["):
                table = self._header(many=mark == "[[")
            else:
                self._pair(table)

    def _is_mark(self, *marks: str) -> bool:
        if self._next >= len(self._tokens):
            return False
        token = self._tokens[self._next]
        return token.kind == "mark" and token.text in marks

    def _take(self) -> Token:
        token = self._tokens[self._next]
        self._next += 1
        return token

    def _note(self, path: Path, offset: int) -> None:
        line = self._text.count("\n", 0, offset)
        self.found.setdefault(path, (line + 1, offset - self._starts[line] + 1))

    def _header(self, *, many: bool) -> Path:
        self._take()
        path = self._key((), in_header=True)
        offset = self._tokens[self._next - 1].offset
        self._take()  # ] or ]]
        if many:
            self._arrays[path] = self._arrays.get(path, -1) + 1
            self._note(path, offset)
            path = (*path, self._arrays[path])
        self._note(path, offset)
        return path

    def _key(self, table: Path, *, in_header: bool = False) -> Path:
        """Read a dotted key. A header's parts mean the last element of arrays of tables."""
        path = table
        while True:
            token = self._take()
            path = (*path, _unquoted(token.text) if token.kind == "string" else token.text)
            if not self._is_mark("."):
                return path
            self._take()
            self._note(path, token.offset)
            if in_header and path in self._arrays:
                path = (*path, self._arrays[path])

    def _pair(self, table: Path) -> None:
        path = self._key(table)
        self._note(path, self._tokens[self._next - 1].offset)
        self._take()  # =
        self._value(path)

    def _value(self, path: Path) -> None:
        if self._is_mark("[", "[["):
            self._array(path)
        elif self._is_mark("{"):
            self._take()
            while not self._is_mark("}"):
                self._pair(path)
                if self._is_mark(","):
                    self._take()
            self._take()
        else:  # a date with a time of day, or a number with a fraction, is several tokens
            line = self._text.count("\n", 0, self._take().offset)
            while (
                self._next < len(self._tokens)
                and not self._is_mark(",", "]", "]]", "}", "[", "[[")
                and self._text.count("\n", 0, self._tokens[self._next].offset) == line
            ):
                self._take()

    def _array(self, path: Path) -> None:
        # In an array `[[` and `]]` are two brackets each.
        self._split()
        self._take()
        index = 0
        while not self._is_mark("]", "]]"):
            self._note((*path, index), self._tokens[self._next].offset)
            self._value((*path, index))
            if self._is_mark(","):
                self._take()
            index += 1
        self._split()
        self._take()

    def _split(self) -> None:
        token = self._tokens[self._next]
        if len(token.text) == 2:
            halves = [Token("mark", token.text[0], token.offset + half) for half in (0, 1)]
            self._tokens[self._next : self._next + 1] = halves


def _unquoted(text: str) -> str:
    if text.startswith("'"):
        return text[1:-1]

    def meant(match: re.Match[str]) -> str:
        digits = match[1] or match[2]
        return chr(int(digits, 16)) if digits else SHORT.get(match[3], match[3])

    return ESCAPE.sub(meant, text[1:-1])
