"""Writes an appliance.toml with comments, from the answers of `init`."""

import dataclasses
import json

from orchestrator.blueprint.marks import PATHS
from orchestrator.blueprint.tables import SERVICES

#: Name of the file that `init` writes a typed Wi-Fi password to.
PASSWORD = "wifi-password"  # noqa: S105 - a file's name


@dataclasses.dataclass(frozen=True)
class Answers:
    """What `init` needs to know; empty texts are left out of the file.

    `keys` are lines of public keys or names of files. `password` is a typed Wi-Fi password, which
    goes into a file of its own; `password_file` names a file that exists.
    """

    board: str
    host_name: str
    user: str
    keys: tuple[str, ...]
    time_zone: str = ""
    locale: str = ""
    keymap: str = ""
    ssid: str = ""
    country: str = ""
    password_file: str = ""
    password: str = dataclasses.field(default="", repr=False)
    services: tuple[str, ...] = ()


def write(answers: Answers, schema: str) -> str:
    """Return the text of the file; `schema` is the path of its JSON Schema."""
    head = [
        f"#:schema {schema}",
        "# Images of NixOS. ./run.sh builds them; docs/appliance.md explains every key.",
    ]
    more = [
        "# Programs, by their names in nixpkgs:",
        '# packages = ["vim", "git"]',
        "# NixOS modules, for everything that this file has no key for:",
        '# modules = ["./more.nix"]',
    ]
    image = _table(
        f"[image.{answers.host_name}]",
        ("board", answers.board, ""),
        ("host-name", answers.host_name, ""),
        ("time-zone", answers.time_zone, "Europe/Berlin"),
        ("locale", answers.locale, "de_DE.UTF-8"),
        ("keymap", answers.keymap, "de-latin1"),
        ("disk-size", "", "8G"),
    )
    user = [
        "[[users]]",
        f"name = {_text(answers.user)}",
        f"keys = [{', '.join(_text(key) for key in answers.keys)}]",
        "# An administrator: sudo asks for no password, because the user has none.",
        'groups = ["wheel"]',
    ]
    blocks = ["\n".join(head), "\n".join(more), image, "\n".join(user)]
    if answers.ssid:
        password = PASSWORD if answers.password else answers.password_file
        blocks.append(
            _table(
                "[wifi]",
                ("ssid", answers.ssid, ""),
                ("country", answers.country, "DE"),
                ("password-file", password and _beside(password), "./wifi-password"),
            )
        )
    else:
        blocks.append(
            '# [wifi]\n# ssid = "…"\n# country = "DE"\n# password-file = "./wifi-password"'
        )
    others = [name for name in SERVICES if name not in answers.services]
    lines = ["[services]", *(f"{name} = true" for name in answers.services)]
    blocks.append("\n".join([*lines, f"# Others: {', '.join(others)}"]))
    return "\n\n".join(blocks) + "\n"


def _table(head: str, *rows: tuple[str, str, str]) -> str:
    """Write a table; a key without a value is a comment with its example, if it has one."""
    lines = [head]
    for key, value, example in rows:
        if value:
            lines.append(f"{key} = {_text(value)}")
        elif example:
            lines.append(f"# {key} = {_text(example)}")
    return "\n".join(lines)


def _beside(path: str) -> str:
    return path if path.startswith(PATHS) else f"./{path}"


def _text(text: str) -> str:
    """Write a basic string of TOML: JSON's escapes are TOML's, too."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
