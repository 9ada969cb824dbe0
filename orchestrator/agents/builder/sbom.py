"""Writes an image's bill of materials (CycloneDX 1.6); equal images have equal documents.

Components are the store paths that the image holds and, for the demo, the Debian packages that Nix
has unpacked into them. The document has no times and no data of the build machine.
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
from orchestrator.agents.builder.nix_package import read_list
from orchestrator.agents.debian import ROLES
from orchestrator.image.closure import closure_of
from orchestrator.image.tree import TreeError
from orchestrator.shared import command as programs
from orchestrator.shared.artifact import SBOM, Material
from orchestrator.shared.debian_package import NIX
from orchestrator.shared.spec import ImageSpec

#: UUID namespace of serial numbers, which are derived from the image's hash; an arbitrary constant.
_NAMESPACE = uuid.UUID("0d6c5d0e-1a55-5b8e-8b1f-52c4b2f7a3c6")

#: Boot loader in each of these packages of the demo. An image has the package only if its partition
#: table needs the loader.
LOADER_PACKAGES = {ROLES["systemd-boot"]: "systemdBoot", ROLES["grub"]: "grub"}

#: Output names of nixpkgs' packages: suffixes of store path names.
OUTPUTS = frozenset(
    "bin data debug dev devdoc doc getent info lib man modules out terminfo".split()
)

#: Length of the hash in a store path's name, with the dash.
HASH_CHARACTERS = 33

#: bom-ref of the image itself.
IMAGE = "image"


@dataclasses.dataclass(frozen=True)
class StorePath:
    """A store path: `nar_hash` is the SRI hash of its Nix archive, `nar_size` its bytes."""

    path: str
    nar_hash: str
    nar_size: int
    references: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class Parts:
    """Content of an image: `roots` are the top-level store paths, `paths` all of them."""

    roots: tuple[str, ...]
    paths: tuple[StorePath, ...]
    packages: tuple[Material, ...]


# --- what an image is made of ---------------------------------------------------------------------


def parts_of_spec(spec: ImageSpec, materials: tuple[Material, ...]) -> Parts:
    """Return a spec's parts: closure, further copied paths, Debian packages of `materials`."""
    loaders = () if spec.onlyNixStore else spec.loaders
    closure = closure_of([spec.toplevel, *spec.additionalPaths])
    copied = [spec.bootLoader.clover]
    copied += [spec.bootLoader.systemdBoot] * ("systemdBoot" in loaders)
    copied += [spec.bootLoader.grub] * ("grub" in loaders)
    if limine := spec.bootLoader.limine:
        copied += [limine.program, limine.bios, *limine.wallpapers, *limine.files.values()]
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
    """Return the parts of a nixpkgs recipe's `output`: closures of the NixOS systems in it.

    Without such a system, it is the closure of `output`. The recipe's tools do not count.
    """
    roots = _systems_inside(str(output)) or [str(output)]
    return Parts(tuple(roots), _described(set(closure_of(roots))), ())


def store_path(path: str) -> str:
    """Return the store path that contains a file of the store."""
    return "/".join(path.split("/")[:4])


def _systems_inside(output: str) -> list[str]:
    """Return NixOS systems among the inputs of `output`; empty if this store did not build it."""
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
                int(one["narSize"]),
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
    """Return the package URL of a Debian package (purl-spec, type `deb`)."""
    place = f"pkg:deb/debian/{_quoted(package)}@{_quoted(version)}"
    return f"{place}?arch={_quoted(arch)}&distro={_quoted(distribution)}"


def nix_purl(name: str, version: str, output: str) -> str:
    """Return the package URL of a nixpkgs package; the type `nix` is proposed, and in use."""
    place = f"pkg:nix/{_quoted(name)}@{_quoted(version)}"
    return f"{place}?output={_quoted(output)}" if output else place


def _quoted(text: str) -> str:
    return urllib.parse.quote(text, safe=":~")  # purl-spec: a colon is never encoded


def parse_name(path: str) -> tuple[str, str, str]:
    """Split a store path's name into name, version and output ("" if missing).

    As in Nix, the version begins after the first dash that is not followed by a letter.
    """
    text = path.rpartition("/")[2][HASH_CHARACTERS:]
    if not (match := re.fullmatch(r"(.+?)-([^A-Za-z].*)", text)):
        return text, "", ""
    name, version = match.groups()
    rest, _, output = version.rpartition("-")
    return (name, rest, output) if rest and output in OUTPUTS else (name, version, "")


def installed(nix: pathlib.Path = NIX) -> tuple[Material, ...]:
    """Return the Debian packages of this container, which are the tools that make images.

    `nix` is Nix' folder, whose packages are not in dpkg's database.
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
    """Write the bill of materials of `image` beside it; returns its path."""
    target = image.with_name(f"{image.name}{SBOM}")
    target.write_text(json.dumps(document(image.name, sha256, parts), indent=1) + "\n")
    return target


def document(name: str, sha256: str, parts: Parts) -> dict[str, typing.Any]:
    """Make the CycloneDX document of the image `name`."""
    packages = [_package(one) for one in parts.packages]
    # No Nix purl for the demo: its store paths are unpacked Debian packages.
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
    # The NAR hash is a property: as the component's hash it would be taken for a file's.
    properties = [
        {"name": "nix:output_path", "value": one.path},
        {"name": "nix:nar_hash", "value": one.nar_hash},
        {"name": "nix:nar_size", "value": str(one.nar_size)},
    ]
    return {key: value for key, value in component.items() if value} | {"properties": properties}
