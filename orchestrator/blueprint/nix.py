"""Writes an image of a blueprint as a NixOS module: what is built, and what `eject` gives away."""

import json
import re
import typing
import urllib.parse
from collections.abc import Callable

from orchestrator.blueprint.marks import GITHUB, PATHS
from orchestrator.blueprint.model import Blueprint, File, Image, User
from orchestrator.blueprint.tables import BOARDS, SERVICES, Board
from orchestrator.shared.json_reader import read_json
from orchestrator.shared.paths import ROOT
from orchestrator.shared.text import whole

#: A release of NixOS as the value of `nixpkgs`.
RELEASE = re.compile(r"[0-9]{2}\.(05|11)")

#: An attribute's name that needs no quotes.
PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_'-]*")

#: Words of Nix' language, which are no names.
WORDS = frozenset(("assert", "else", "if", "in", "inherit", "let", "or", "rec", "then", "with"))


#: The name of an option: dotted, or its parts if one has dots itself.
Option = str | tuple[str, ...]


#: Beginning of the image builder's own options.
OURS = "nixosImage."


class Code(str):
    """A Nix expression, where a `str` would be a text."""

    __slots__ = ()


def pinned_release() -> str:
    """Return the release of NixOS that flake.lock pins: 26.05."""
    lock = typing.cast(
        "dict[str, typing.Any]", read_json((ROOT / "flake.lock").read_text(), "flake.lock")
    )
    return str(lock["nodes"]["nixpkgs"]["original"]["ref"]).removeprefix("nixos-")


def reference(blueprint: Blueprint) -> str:
    """Return the blueprint's nixpkgs: a path as written, a reference, or "" for the pinned one."""
    asked = blueprint.nixpkgs or ""
    if asked == pinned_release():
        return ""
    return f"github:NixOS/nixpkgs/nixos-{asked}" if RELEASE.fullmatch(asked) else asked


def key_sources(blueprint: Blueprint) -> tuple[str, ...]:
    """Return the keys that are files or GitHub's, as they are written, each once."""
    return tuple(
        dict.fromkeys(
            key for user in blueprint.users for key in user.keys if key.startswith((*PATHS, GITHUB))
        )
    )


def secrets(blueprint: Blueprint) -> tuple[tuple[str, str], ...]:
    """Return the services' secret files: the caller's path as it is written, and the image's."""
    return tuple(
        (value, SERVICES[name].options[option].target)
        for name, given in services(blueprint).items()
        for option, value in given.items()
        if option in SERVICES[name].options and SERVICES[name].options[option].type == "secret"
    )


def services(blueprint: Blueprint) -> dict[str, dict[str, typing.Any]]:
    """Return the options of each service that runs.

    SSH runs where a user has a key, unless the file switches it off.
    """
    asked = (
        blueprint.services.model_dump(by_alias=True, exclude_none=True)
        if blueprint.services
        else {}
    )
    if any(user.keys for user in blueprint.users):
        asked = {"ssh": {"enable": True}} | asked
    return {name: given for name, given in asked.items() if given["enable"]}


def module(
    blueprint: Blueprint,
    name: str,
    *,
    path: Callable[[str], str],
    keys: dict[str, tuple[str, ...]],
) -> str:
    """Return the NixOS module of the image `name` as text.

    `path` returns the Nix path of a module that the file names; `keys` has the lines of each of
    `key_sources`.
    """
    image = blueprint.image[name]
    board = BOARDS[image.board] if image.board else None
    # Options of the image builder, which plain NixOS does not have.
    ours = {**_disk(image), **_board(board), **_offline(blueprint, name)}
    ours = {option: value for option, value in ours.items() if option.startswith(OURS)}
    parts: list[tuple[str, dict[Option, typing.Any]]] = [
        ("", _imports(blueprint, path, ours)),
        ("", _machine(image, name)),
        (board.title if board else "", _without(_board(board), ours)),
        ("Who may log in", _users(blueprint.users, keys)),
        ("Wi-Fi: its name and password are late values, not in this file", _wifi(blueprint, name)),
        *_services(blueprint),
        ("Files", _etc(blueprint.files)),
        ("Open ports", _firewall(blueprint)),
        ("Programs", _packages(blueprint)),
        ("No manuals, for a smaller image", {"documentation.enable": Code("lib.mkDefault false")}),
        (
            "The release whose defaults for stored data this machine keeps: do not change it later",
            {"system.stateVersion": _state_version(blueprint)},
        ),
    ]
    blocks = []
    for title, options in parts:
        lines = [f"  # {title}"] if title and options else []
        lines += [f"  {_path(option)} = {_value(value, 2)};" for option, value in options.items()]
        blocks += ["\n".join(lines)] if lines else []
    body = "\n\n".join(blocks)
    return f"# The image {name} of appliance.toml.\n{{ lib, pkgs, ... }}:\n{{\n{body}\n}}\n"


def flake(systems: dict[str, str], nixpkgs: str) -> str:
    """Return a flake with the module NAME.nix of each image; `systems` has each image's system.

    `nixpkgs` is a reference, a path as the flake may have it, or "" for the pinned release.
    """
    url = nixpkgs or f"github:NixOS/nixpkgs/nixos-{pinned_release()}"
    if nixpkgs.startswith(PATHS):
        url = f"path:{urllib.parse.quote(nixpkgs)}"
    lines = [
        f"      {_name(name)} = nixpkgs.lib.nixosSystem {{"
        f" modules = [ ./{name}.nix {{ nixpkgs.hostPlatform = {_text(system)}; }} ]; }};"
        for name, system in systems.items()
    ]
    return "\n".join(
        [
            "# The images of appliance.toml.",
            "{",
            f"  inputs.nixpkgs.url = {_text(url)};",
            "",
            "  outputs = { nixpkgs, ... }: {",
            "    nixosConfigurations = {",
            *lines,
            "    };",
            "  };",
            "}",
            "",
        ]
    )


def _board(board: Board | None) -> dict[str, typing.Any]:
    return dict(board.set) if board else {}


def _imports(
    blueprint: Blueprint, path: Callable[[str], str], ours: dict[str, typing.Any]
) -> dict[Option, typing.Any]:
    modules = [Code(path(one)) for one in blueprint.modules]
    if ours:
        lines = [f"        {_path(option)} = {_value(value, 8)};" for option, value in ours.items()]
        modules.append(
            Code(
                "# The disk: options of the image builder, which plain NixOS does not have\n"
                "    ({ lib, options, ... }: {\n"
                "      config = lib.optionalAttrs (options ? nixosImage) {\n"
                + "\n".join(lines)
                + "\n      };\n    })"
            )
        )
    return {"imports": modules} if modules else {}


def _without(
    options: dict[str, typing.Any], others: dict[str, typing.Any]
) -> dict[Option, typing.Any]:
    return {option: value for option, value in options.items() if option not in others}


def _machine(image: Image, name: str) -> dict[Option, typing.Any]:
    host = image.host_name or name.replace("_", "-")
    named = {
        "networking.hostName": host,
        "time.timeZone": image.time_zone,
        "i18n.defaultLocale": image.locale,
        "console.keyMap": image.keymap,
    }
    return {option: value for option, value in named.items() if value}


def _disk(image: Image) -> dict[str, typing.Any]:
    size = image.disk_size
    number = whole(size or "")
    named = {
        "nixosImage.diskSize": size if number is None else number,
        "nixosImage.partitionTableType": image.partition_table,
        "nixosImage.fsType": image.root_fs,
        "nixosImage.compression": image.compress,
    }
    return {option: value for option, value in named.items() if value}


def _users(users: tuple[User, ...], keys: dict[str, tuple[str, ...]]) -> dict[Option, typing.Any]:
    found: dict[Option, typing.Any] = {}
    for user in users:
        lines = [line for key in user.keys for line in keys.get(key, (key,))]
        one: dict[str, typing.Any] = {} if user.name == "root" else {"isNormalUser": True}
        one |= {"extraGroups": list(user.groups)} if user.groups else {}
        one |= {"openssh.authorizedKeys.keys": list(dict.fromkeys(lines))} if lines else {}
        one |= {"hashedPassword": user.hashed_password} if user.hashed_password else {}
        found[f"users.users.{user.name}"] = one
    wheel = [user for user in users if "wheel" in user.groups]
    if wheel and not any(user.hashed_password for user in wheel):
        # No administrator has a password that sudo could ask for.
        found["security.sudo.wheelNeedsPassword"] = False
    return found


def _offline(blueprint: Blueprint, name: str) -> dict[str, typing.Any]:
    """Say of an image that does not join the network of others that it gets no Wi-Fi's values."""
    if not blueprint.wifi or blueprint.joins(name):
        return {}
    return {f"{OURS}late.wifi": Code("lib.mkForce false")}


def _wifi(blueprint: Blueprint, name: str) -> dict[Option, typing.Any]:
    if not blueprint.wifi or not blueprint.joins(name):
        return {}
    found: dict[Option, typing.Any] = {"networking.wireless.enable": True}
    if blueprint.wifi.country:
        found["hardware.wirelessRegulatoryDatabase"] = True
        rule = f"options cfg80211 ieee80211_regdom={blueprint.wifi.country}\n"
        found["boot.extraModprobeConfig"] = rule
    return found


def _services(blueprint: Blueprint) -> list[tuple[str, dict[Option, typing.Any]]]:
    found = []
    for name, given in services(blueprint).items():
        row = SERVICES[name]
        options: dict[Option, typing.Any] = {}
        options.update(row.set)
        for option, value in given.items():
            if option == "enable":
                continue
            what = row.options[option]
            value = what.target if what.type == "secret" else value
            value = list(value) if isinstance(value, tuple) else value
            options[what.sets] = [value] if what.many else value
        found.append((row.title, options))
    return found


def _etc(files: tuple[File, ...]) -> dict[Option, typing.Any]:
    found: dict[Option, typing.Any] = {}
    for file in files:
        if file.text is None:
            continue
        one: dict[str, typing.Any] = {"text": file.text}
        if file.mode or file.user or file.group:
            one |= {"mode": (file.mode or "644").zfill(4), "uid": file.user, "gid": file.group}
        found["environment", "etc", file.target.removeprefix("/etc/")] = one
    return found


def _firewall(blueprint: Blueprint) -> dict[Option, typing.Any]:
    rows = [SERVICES[name] for name in services(blueprint)]
    wall = blueprint.firewall
    found: dict[Option, typing.Any] = {}
    if wall and not wall.enable:
        found["networking.firewall.enable"] = False
    tcp = {port for row in rows for port in row.tcp} | set(wall.tcp if wall else ())
    udp = {port for row in rows for port in row.udp} | set(wall.udp if wall else ())
    found |= {"networking.firewall.allowedTCPPorts": sorted(tcp)} if tcp else {}
    return found | ({"networking.firewall.allowedUDPPorts": sorted(udp)} if udp else {})


def _packages(blueprint: Blueprint) -> dict[Option, typing.Any]:
    names = [Code(f"pkgs.{_path(name)}") for name in blueprint.packages]
    return {"environment.systemPackages": names} if names else {}


def _state_version(blueprint: Blueprint) -> str:
    asked = blueprint.nixpkgs or ""
    return blueprint.state_version or (asked if RELEASE.fullmatch(asked) else pinned_release())


def quoted_path(path: str) -> str:
    """Write a path, absolute or beginning with `./`, as an expression of Nix.

    It may have any letters.
    """
    if re.fullmatch(r"\.?(/[A-Za-z0-9._+-]+)+", path):
        return path
    below, whole = path.startswith("./"), path.removeprefix(".")
    return f"({'.' if below else ''}/. + {_text(whole)})"


def _path(option: Option) -> str:
    """Write the name of an option as an attribute path."""
    parts = option.split(".") if isinstance(option, str) else option
    return ".".join(_name(part) for part in parts)


def _name(text: str) -> str:
    return text if PLAIN.fullmatch(text) and text not in WORDS else _text(text)


def _text(text: str) -> str:
    """Write a text as a string of Nix."""
    # Nix has no other escapes; it takes any other character itself.
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    for character, escape in (("\n", "\\n"), ("\r", "\\r"), ("\t", "\\t")):
        escaped = escaped.replace(character, escape)
    return f'"{escaped}"'


def _value(value: object, indent: int) -> str:
    """Write a value as an expression of Nix; `indent` is the depth of its line."""
    room = " " * indent
    match value:
        case Code():
            return str(value)
        case str():
            return _text(value)
        case list() if not value:
            return "[ ]"
        case list():
            lines = [f"{room}  {_value(one, indent + 2)}" for one in value]
            flat = " ".join(line.strip() for line in lines)
            if len(flat) <= 80 and "\n" not in flat:
                return f"[ {flat} ]"
            return "[\n" + "\n".join(lines) + f"\n{room}]"
        case dict() if not value:
            return "{ }"
        case dict():
            lines = [
                f"{room}  {_path(name)} = {_value(one, indent + 2)};" for name, one in value.items()
            ]
            return "{\n" + "\n".join(lines) + f"\n{room}}}"
    return json.dumps(value)
