"""What is in an image, as a CycloneDX 1.6 bill of materials beside it: same image, same document.

Components are the store paths that the image holds and, for the demo, the Debian packages that Nix
has unpacked into them. There are no times in it, and nothing of the machine that built.
https://cyclonedx.org/docs/1.6/json/
"""

import dataclasses
import json
import pathlib
import platform
import re
import typing
import urllib.parse
import uuid

from orchestrator.agents.builder.nix import answer
from orchestrator.agents.builder.nix_package import NIX, read_list
from orchestrator.agents.debian import ROLES
from orchestrator.image.closure import closure_of
from orchestrator.image.tree import TreeError
from orchestrator.shared import command as programs
from orchestrator.shared.artifact import SBOM, Material
from orchestrator.shared.spec import LOADERS, ImageSpec

#: Any constant will do: serial numbers are made from the image's hash.
_NAMESPACE = uuid.UUID("0d6c5d0e-1a55-5b8e-8b1f-52c4b2f7a3c6")

#: The demo's packages that are in an image only if its table has that loader: they are copied to
#: the boot partition.
LOADER_PACKAGES = {ROLES["systemd-boot"]: "systemdBoot", ROLES["grub"]: "grub"}

#: Names that packages of nixpkgs give their outputs, which end a store path's name.
OUTPUTS = frozenset(
    "bin data debug dev devdoc doc getent info lib man modules out terminfo".split()
)

#: Bytes of the hash in a store path's name, with its dash.
HASH_CHARACTERS = 33

#: The image itself, among the references of its own document.
IMAGE = "image"


@dataclasses.dataclass(frozen=True)
class StorePath:
    """A store path: `nar_hash` is the hash of its content as Nix writes it (SRI)."""

    path: str
    nar_hash: str
    references: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Parts:
    """What an image is made of: `roots` are those of `paths` that all others are there for."""

    roots: tuple[str, ...]
    paths: tuple[StorePath, ...]
    packages: tuple[Material, ...]


# --- what an image is made of ---------------------------------------------------------------------


def parts_of_spec(spec: ImageSpec, materials: tuple[Material, ...]) -> Parts:
    """The closure, and what is copied beside it; of `materials` those that are Debian packages."""
    loaders = () if spec.onlyNixStore else LOADERS[spec.partitionTable]
    closure = closure_of([spec.toplevel, *spec.additionalPaths])
    copied = [spec.bootLoader.clover]
    copied += [getattr(spec.bootLoader, name) for name in loaders if name != "extlinux"]
    copied += [*spec.firmware.files.values(), *(one.source for one in spec.contents)]
    beside = {store_path(path) for path in copied if path.startswith("/nix/store/")}
    packages = tuple(
        one
        for one in materials
        if one.uri.startswith("pkg:deb/") and LOADER_PACKAGES.get(one.name, "") in {"", *loaders}
    )
    roots = (spec.toplevel, *spec.additionalPaths, *sorted(beside.difference(closure)))
    return Parts(roots, _described({*closure, *beside}), packages)


def parts_of_output(output: pathlib.Path) -> Parts:
    """What nixpkgs' recipe has packed: the closure of the NixOS systems that `output` was made of.

    Where there is none, it is that of `output` itself. The recipe's own tools are no part of it.
    """
    roots = _systems_inside(str(output)) or [str(output)]
    return Parts(tuple(roots), _described(set(closure_of(roots))), ())


def store_path(path: str) -> str:
    """The store path that a file of the store is in."""
    return "/".join(path.split("/")[:4])


def _systems_inside(output: str) -> list[str]:
    """NixOS systems among all that `output` was built of, as far as this store has built it."""
    derivation = "".join(_query("--deriver", output))
    if not pathlib.Path(derivation).exists():
        return []
    systems = [
        path
        for path in _query("--requisites", derivation)
        if path[len("/nix/store/") + HASH_CHARACTERS :].startswith("nixos-system-")
        and path.endswith(".drv")
    ]
    outputs = _query("--outputs", *systems) if systems else []
    return sorted(path for path in outputs if pathlib.Path(path).exists())


def _query(*arguments: str) -> list[str]:
    return _output(["nix-store", "--query", *arguments]).split()


def _described(paths: set[str]) -> tuple[StorePath, ...]:
    command = ["nix", "--extra-experimental-features", "nix-command", "path-info"]
    said = _output([*command, "--json", "--json-format", "2", *sorted(paths)])

    def take(found: dict[str, typing.Any]) -> tuple[StorePath, ...]:
        def whole(name: str) -> str:
            return f"{found['storeDir']}/{name}"

        return tuple(
            StorePath(
                whole(name),
                one["narHash"],
                tuple(sorted(paths.intersection(map(whole, one["references"])))),
            )
            for name, one in sorted(found["info"].items())
        )

    return answer(said, take)


def _output(command: list[str]) -> str:
    done = programs.run(command, check=False, fails=TreeError)
    if done.code != 0:
        raise TreeError(done.last.removeprefix("error: "))
    return done.text


# --- package URLs ---------------------------------------------------------------------------------


def debian_purl(package: str, version: str, arch: str, distribution: str) -> str:
    """The package URL of a Debian package (purl-spec, type `deb`)."""
    place = f"pkg:deb/debian/{_quoted(package)}@{_quoted(version)}"
    return f"{place}?arch={_quoted(arch)}&distro={_quoted(distribution)}"


def nix_purl(name: str, version: str, output: str) -> str:
    """The package URL of a package of nixpkgs; the type is proposed, tools use it so."""
    place = f"pkg:nix/{_quoted(name)}@{_quoted(version)}"
    return f"{place}?output={_quoted(output)}" if output else place


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe=":~")  # purl-spec: a colon is never encoded


def parse_name(path: str) -> tuple[str, str, str]:
    """Name, version and output of a store path, each empty where the name has none.

    As Nix tells them apart: a version begins at the first dash that no letter follows.
    """
    text = path.rpartition("/")[2][HASH_CHARACTERS:]
    if not (match := re.fullmatch(r"(.+?)-([^A-Za-z].*)", text)):
        return text, "", ""
    name, version = match.groups()
    rest, _, output = version.rpartition("-")
    return (name, rest, output) if rest and output in OUTPUTS else (name, version, "")


def installed(nix: pathlib.Path = NIX) -> tuple[Material, ...]:
    """The Debian packages of the container that this runs in: the tools that make images.

    `nix` is the folder of Nix, whose packages dpkg does not know.
    """
    codename = platform.freedesktop_os_release().get("VERSION_CODENAME", "")
    shown = _output(["dpkg-query", "-W", "-f", "${Package}\\t${Version}\\t${Architecture}\\n"])
    rows = [line.split("\t") for line in shown.splitlines()]
    base = [
        Material(name, version, debian_purl(name, version, arch, codename), {})
        for name, version, arch in rows
    ]
    own = [
        Material(
            one.package,
            one.version,
            debian_purl(one.package, one.version, one.arch, one.suite),
            {"sha256": one.sha256},
        )
        for one in read_list(nix)
    ]
    return (*base, *own)


# --- the document ---------------------------------------------------------------------------------


def write(image: pathlib.Path, sha256: str, parts: Parts) -> pathlib.Path:
    """Write the bill of materials of the file `image` beside it; returns where."""
    target = image.with_name(f"{image.name}{SBOM}")
    target.write_text(json.dumps(document(image.name, sha256, parts), indent=1) + "\n")
    return target


def document(name: str, sha256: str, parts: Parts) -> dict[str, typing.Any]:
    """The CycloneDX document of the image `name`."""
    packages = [_package(one) for one in parts.packages]
    # What is unpacked from Debian's packages has their names, but is no package of nixpkgs.
    paths = [_store_path(one, purl=not packages) for one in parts.paths]
    dependencies = {IMAGE: [*parts.roots, *(one["bom-ref"] for one in packages)]}
    dependencies |= {
        one.path: [path for path in one.references if path != one.path] for one in parts.paths
    }
    dependencies |= {one["bom-ref"]: [] for one in packages}
    return {
        "bomFormat": "CycloneDX",
        "specVersion": "1.6",
        "serialNumber": f"urn:uuid:{uuid.uuid5(_NAMESPACE, f'{sha256}/{name}')}",
        "version": 1,
        "metadata": {
            "lifecycles": [{"phase": "build"}],
            "tools": {"components": [{"type": "application", "name": "nixos-image"}]},
            "component": {
                "type": "file",
                "bom-ref": IMAGE,
                "name": name,
                "hashes": [{"alg": "SHA-256", "content": sha256}],
            },
        },
        "components": [*packages, *paths],
        "dependencies": [
            {"ref": reference, "dependsOn": list(dict.fromkeys(needed))}
            for reference, needed in dependencies.items()
        ],
    }


def _package(one: Material) -> dict[str, typing.Any]:
    return {
        "type": "library",
        "bom-ref": one.uri,
        "name": one.name,
        "version": one.version,
        "hashes": [{"alg": "SHA-256", "content": one.digest["sha256"]}],
        "purl": one.uri,
    }


def _store_path(one: StorePath, *, purl: bool) -> dict[str, typing.Any]:
    name, version, output = parse_name(one.path)
    component = {
        "type": "library" if version else "file",
        "bom-ref": one.path,
        "name": name,
        "version": version,
        "purl": nix_purl(name, version, output) if purl and version else "",
    }
    # The hash of an archive of it: as the component's own it would be taken for a file's.
    properties = [
        {"name": "nix:output_path", "value": one.path},
        {"name": "nix:nar_hash", "value": one.nar_hash},
    ]
    return {key: value for key, value in component.items() if value} | {"properties": properties}
