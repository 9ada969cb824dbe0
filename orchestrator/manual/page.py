"""Makes the man page, from the same texts as the help (man-pages(7), groff_man(7))."""

import re

from orchestrator.manual.command_line import Option, verbs
from orchestrator.shared.errors import leaves
from orchestrator.shared.variables import VARIABLES
from orchestrator.shared.version import NAME, product_version

HEAD = """\
.\\" Made by `python3 -m orchestrator.manual`.
.TH {title} 1 "" "{name} {version}" "User Commands"
.SH NAME
{name} \\- make bootable NixOS images with nothing but Docker
.SH SYNOPSIS
.B ./run.sh
.RI [ VERB ]
.RI [ OPTIONS ]
.SH DESCRIPTION
.B run.sh
builds bootable NixOS images, for the CPU of this computer or another one, boots them in QEMU,
checks them, and writes them to cards.
It needs Docker and nothing else: no Nix, no Python, no emulator.
Options without a verb belong to
.BR build .
.SH COMMANDS
"""

TAIL = """\
.SH FILES
.TP
.I appliance.toml
describes images without Nix; it is built if neither
.B \\-c
nor
.B \\-\\-flake
is given
.TP
.I config/sd\\-card.nix
the configuration that is built where there is no
.I appliance.toml
.TP
.I out/
the images, and
.I result.json
.SH EXAMPLES
.EX
\\&./run.sh demo
\\&./run.sh
\\&./run.sh \\-c configuration.nix \\-f qcow\\-efi
\\&./run.sh \\-\\-flake .#server \\-f amazon \\-\\-system aarch64\\-linux
\\&./run.sh flash out/pi.img /dev/sdb
.EE
.SH SEE ALSO
.BR docker (1),
.BR nix (1),
.BR qemu (1)
.PP
The pages in
.I docs/
of the checkout.
"""


def page() -> str:
    """Return the man page."""
    parts = [HEAD.format(title=NAME.upper(), name=_text(NAME), version=product_version())]
    for verb in verbs():
        # Without "usage" and line breaks; a verb's usage can be long, its options follow anyway.
        words = [verb.argument.shown] if verb.argument else []
        parts.append(f".SS ./run.sh {_text(' '.join([verb.name, *words]))}\n")
        parts.append(_paragraphs(verb.description))
        parts += [_option(option) for option in verb.options if "--help" not in option.names]
        if verb.epilog:
            parts.append(f".PP\n.EX\n{_lines(verb.epilog)}.EE\n")
    parts.append(".SH EXIT STATUS\n.TP\n.B 0\nsuccess\n")
    parts += [
        f".TP\n.B {kind.exit_code}\n{_text(kind.__doc__ or '').replace('`', '')}\n"
        for kind in leaves()
    ]
    parts.append(".SH ENVIRONMENT\n")
    parts += [
        f".TP\n.B {_text(one.name)}\n{_text(one.meaning).replace('`', '')}"
        f"{f' (default: {_text(one.default)})' if one.default else ''}\n"
        for one in VARIABLES.values()
        if one.setter == "a person"
    ]
    return "".join([*parts, TAIL])


def _option(option: Option) -> str:
    values = " ".join(f"\\fI{_text(value.shown)}\\fR" for value in option.values)
    names = ", ".join(f"\\fB{_text(name)}\\fR" for name in option.names)
    words = [word for value in option.values for word in value.words]
    help_ = _text(" ".join(option.help.split()))
    help_ = f"{help_}." if help_ and (words or option.repeatable) else help_
    choices = f"One of: {_text(', '.join(words))}." if words else ""
    several = "May be given several times." if option.repeatable else ""
    body = "".join(f"{part}\n" for part in (help_, choices, several) if part)
    return f".TP\n{names}{f' {values}' if values else ''}\n{body}"


def _paragraphs(text: str) -> str:
    """Return text that roff fills; empty lines separate paragraphs."""
    found = [" ".join(part.split()) for part in re.split(r"\n\s*\n", text) if part.strip()]
    return ".PP\n".join(f"{_text(part)}\n" for part in found)


def _lines(text: str) -> str:
    """Return text whose lines roff leaves as they are."""
    return "".join(f"{_text(line)}\n" for line in text.rstrip().splitlines())


def _text(text: str) -> str:
    """Escape text for roff: its escape character, hyphens, and controls at the start of a line."""
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text.startswith((".", "'")) else text
