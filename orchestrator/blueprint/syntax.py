"""Tells faults of TOML's syntax: where, what, and what to write instead."""

import re
import typing

#: A message of `tomllib`, or of `check_shape`.
MESSAGE = re.compile(
    r"(?P<what>.*) \(at (?:line (?P<line>[0-9]{1,9}), column (?P<column>[0-9]{1,9})|end of .*)\)"
)

#: Characters that look like quotes, and blanks that are none.
QUOTES = re.compile("[\u201c\u201d\u201e\u2018\u2019\u201a\xab\xbb]")
BLANKS = re.compile("[\xa0\u1680\u2000-\u200d\u202f\u205f\u2060\u3000\ufeff]")

#: Words that other languages have for true and false.
TRUTHS = {"true": "true", "yes": "true", "on": "true", "false": "false", "no": "false"} | {
    "off": "false"
}


class Told(typing.NamedTuple):
    """A fault: its place and what is wrong, and what to do."""

    text: str
    hint: str


def tell(error: ValueError, text: str) -> Told:
    """Return the fault of the document `text` that `error` tells."""
    match = MESSAGE.fullmatch(str(error))
    if not match:
        return Told(f"not TOML: {error}", "mend that line")
    lines = text.split("\n")
    number = int(match["line"] or len(lines))
    line = lines[number - 1].removesuffix("\r")
    column = int(match["column"] or len(line) + 1)
    what, hint = _words(match["what"], line, column)
    return Told(f"{number}:{column}: not TOML: {what}", hint)


def _words(what: str, line: str, column: int) -> tuple[str, str]:
    """Return what is wrong in `line`, and what to do."""
    rest = line[column - 1 :]
    if QUOTES.search(rest):
        return "these are not the quotes of TOML", 'write straight ones: "…"'
    if blank := BLANKS.search(rest):
        return f"the line has a blank that is none (U+{ord(blank[0]):04X})", "type it anew"
    if twice := re.fullmatch(r"Cannot declare \((.*)\) twice", what):
        name = ".".join(re.findall(r"'([^']*)'", twice[1]))
        return f"[{name}] is there twice", "put the lines of both below one of them"
    if what == "Cannot overwrite a value":
        return "this key has a value already", "keep one of the lines"
    if what == "Invalid value" and (word := re.match(r"[^\s,\]}#]+", rest)):
        if word[0].lower() in TRUTHS:
            return f"{word[0]} is no value", f"write {TRUTHS[word[0].lower()]}"
        return what[:1].lower() + what[1:], f'a text has quotes: "{word[0]}"'
    if what.startswith("Expected '=' after a key") and rest.startswith((":", " :")):
        return "a colon does not belong here", "write KEY = VALUE, below a line [TABLE]"
    if what.startswith(("Unescaped '\\'", "Invalid hex value")):
        return "a \\ has a meaning in this text", r"write \\, or single quotes: 'C:\keys\id.pub'"
    if what.startswith("Illegal character '\\n'") and not line.startswith("["):
        return "the text has no end", f"add the quote {_quote(line)}"
    if ending := re.fullmatch(r"""Expected ['"](['"]+)['"]""", what):
        return "a text has no end", f"add {ending[1]} where it ends"
    if what.startswith("Expected ']' at the end of a table"):
        return (
            "this is no name of a table",
            "it has letters of A-Z, digits, - and _, and a ] behind",
        )
    if what == "Invalid statement" and line.lstrip().startswith("{"):
        return "this is another language", "-c FILE builds a configuration that is written in Nix"
    return what[:1].lower() + what[1:], "mend that line"


def _quote(line: str) -> str:
    return '"' if line.count('"') % 2 else "'"
