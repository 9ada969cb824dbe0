"""Makes an image's provenance: an in-toto Statement with SLSA provenance.

https://slsa.dev/spec/v1.0/provenance, https://github.com/in-toto/attestation/blob/main/spec/v1/

The statement has no secrets, and only file names of the caller's paths. Late values are named
without their values; URLs have no passwords.
"""

import dataclasses
import datetime
import hashlib
import os
import pathlib
import typing

from orchestrator.ask import github
from orchestrator.ask.request import Build, Caller, Demo
from orchestrator.ask.ssh_keys import fingerprints, key_files
from orchestrator.ask.uploads import received, tree_of, trees
from orchestrator.blueprint.marks import GITHUB
from orchestrator.shared.artifact import BUILD_TYPE, Artifact
from orchestrator.shared.paths import ROOT
from orchestrator.shared.text import public

STATEMENT = "https://in-toto.io/Statement/v1"
PREDICATE = "https://slsa.dev/provenance/v1"

#: URN of the builder; docs/supply-chain.md explains the parameters.
BUILDER = "urn:nixos-image:appliance:v1"

#: Fields of a request that the provenance leaves out: they do not affect an image, or are recorded
#: elsewhere.
NOT_RECORDED = frozenset(
    "out boot boot_on_terminal emulation_timeout boot_timeout timeout dry_run as_json yes display"
    " debug_shell sign ssh_key strict memory image nix_options force notes appliance"
    " push written builders".split()
)

#: Image options of one device, or secret: only their names are recorded.
LATE = (
    *("host_name", "wifi_ssid", "wifi_password_file", "injections", "stamp"),
    *("secure_boot_key", "secure_boot_cert", "identity_seed"),
)

#: Options of large trees that are not hashed: the system's store path depends on every file that
#: was read from them.
LOOKED_INTO = frozenset({"--nixpkgs", "--override-input", "-I"})


@dataclasses.dataclass(frozen=True)
class About:
    """Facts of a run for the provenance.

    `emulators` are the registered ones, `nix` is Nix' version, `settings` are its effective
    settings and `others` the names of those that may be secret, `sandbox` the probe's view of Nix'
    sandbox, `builders` the other machines that have built parts. `sent` is the result of the
    function `sent`, `materials` come from the builder, `containers` are image digests by service,
    `began` and `ended` are seconds since 1970.
    """

    request: Demo | Build
    caller: Caller
    emulation: str
    emulators: list[dict[str, str]]
    nix: str
    settings: dict[str, str]
    others: list[str]
    sandbox: dict[str, object]
    builders: list[dict[str, object]]
    sent: list[dict[str, typing.Any]]
    materials: list[dict[str, typing.Any]]
    containers: dict[str, str]
    began: float
    ended: float


def statement(image: Artifact, sbom_sha256: str, about: About) -> dict[str, typing.Any]:
    """Return the unsigned provenance of `image`."""
    return {
        "_type": STATEMENT,
        "subject": [{"name": image.file_name, "digest": {"sha256": image.sha256}}],
        "predicateType": PREDICATE,
        "predicate": {
            "buildDefinition": {
                "buildType": BUILD_TYPE,
                "externalParameters": parameters(about.request, about.caller),
                "internalParameters": {
                    "system": image.system,
                    "format": image.format,
                    "storePath": image.toplevel,
                    "emulation": about.emulation,
                    "emulators": [
                        {key: one.get(key, "") for key in ("emulator", "version")}
                        for one in about.emulators
                    ],
                    "nix": about.nix,
                    "nixSettings": about.settings,
                    "otherNixSettings": list(about.others),
                    "sandbox": about.sandbox,
                    "builders": about.builders,
                },
                "resolvedDependencies": [
                    *locks(ROOT, about.request),
                    *about.sent,
                    *(
                        {"name": f"{service}'s image", "digest": {"sha256": digest[-64:]}}
                        for service, digest in about.containers.items()
                    ),
                    *(
                        {key: one[key] for key in ("name", "uri", "digest") if one[key]}
                        for one in about.materials
                    ),
                ],
            },
            "runDetails": {
                "builder": {"id": BUILDER, "version": {"checkout": about.caller.source}},
                "metadata": {
                    "invocationId": about.caller.run,
                    "startedOn": _time(about.began),
                    "finishedOn": _time(about.ended),
                },
                "byproducts": [
                    {
                        "name": pathlib.PurePosixPath(image.sbom).name,
                        "digest": {"sha256": sbom_sha256},
                        "mediaType": "application/vnd.cyclonedx+json; version=1.6",
                    }
                ],
            },
        },
    }


def parameters(request: Demo | Build, who: Caller) -> dict[str, typing.Any]:
    """Return the given parameters of the request that affect the image.

    The name of the caller's computer is one if it chooses a configuration of the flake.
    """
    image = dataclasses.asdict(request.image)
    late = [name for name in LATE if image.pop(name)]
    recorded = {
        field.name: _recorded(getattr(request, field.name))
        for field in dataclasses.fields(request)
        if field.name not in NOT_RECORDED
    }
    if request.appliance:
        recorded["appliance"] = request.appliance.path.name
        recorded["machines"] = [machine.name for machine in request.appliance.machines]
    if isinstance(request, Build):
        recorded |= {name: _recorded(value) for name, value in request.nix_options.recorded.items()}
        recorded["computer"] = who.computer if request.flake and not request.attribute else ""
        recorded["options"] = {name: public(value) for name, value in request.nix_options.options}
    recorded |= {"image": {name: value for name, value in image.items() if value}, "late": late}
    command = {"command": "demo" if isinstance(request, Demo) else "build"}
    return command | {name: value for name, value in recorded.items() if value}


def locks(home: pathlib.Path, request: Demo | Build) -> list[dict[str, typing.Any]]:
    """Return the lock files of the checkout in `home` that `request` uses, with their hashes.

    flake.lock pins nixpkgs, unless the request has a flake or nixpkgs of its own.
    """
    files = sorted((home / "locks").iterdir())
    if isinstance(request, Build) and not request.flake and not request.nixpkgs:
        files.append(home / "flake.lock")
    return [
        {
            "name": file.relative_to(home).as_posix(),
            "digest": {"sha256": hashlib.sha256(file.read_bytes()).hexdigest()},
        }
        for file in files
    ]


def sent(
    request: Demo | Build, who: Caller, keys: list[dict[str, typing.Any]]
) -> list[dict[str, typing.Any]]:
    """Return what was sent of a configuration, with hashes, and `public_keys`.

    Call it before an agent starts: the builder may write to the folders.
    """
    found: list[dict[str, typing.Any]] = []
    if request.appliance:
        digest = hashlib.sha256(request.appliance.text.encode()).hexdigest()
        found.append({"name": request.appliance.path.name, "digest": {"sha256": digest}})
    found += keys
    if isinstance(request, Demo):
        return found
    for option, path in request.trees:
        # nixpkgs may be named by an appliance.toml or NIX_PATH, too.
        if option not in LOOKED_INTO and path != request.nixpkgs:
            place = received(who, path)
            tree = tree_of(place, trees(who))
            inside = place.relative_to(tree).as_posix()
            one = {"name": option.lstrip("-"), "digest": {"dirHash": directory_hash(tree)}}
            found.append({**one, "annotations": {"path": inside}})
    return found


def public_keys(request: Demo | Build, who: Caller) -> list[dict[str, typing.Any]]:
    """Return the files of public keys, and GitHub's answers, that log in to the image.

    Call it before `make_task`: a file may be a late value, too, which is moved away.
    """
    files: list[tuple[str, pathlib.Path]] = []
    users = request.appliance.blueprint.users if request.appliance else ()
    if isinstance(request, Demo) and (request.ssh_key or not users):
        files = [(place.name, place) for place in key_files(request, who)]
    elif request.appliance:
        from orchestrator.blueprint.nix import key_sources

        files = [
            (name, github.keys_of(who, name.removeprefix(GITHUB)))
            if name.startswith(GITHUB)
            else (pathlib.PurePosixPath(name).name, received(who, request.appliance.place(name)))
            for name in key_sources(request.appliance.blueprint)
        ]
    found: list[dict[str, typing.Any]] = []
    for name, place in files:
        data = place.read_bytes()
        keys = fingerprints(data.decode("utf-8-sig", errors="replace"))
        if keys:
            one: dict[str, typing.Any] = {"name": name}
            if name.startswith(GITHUB):
                one["uri"] = github.address(name.removeprefix(GITHUB))
            one["digest"] = {"sha256": hashlib.sha256(data).hexdigest()}
            found.append({**one, "annotations": {"fingerprints": keys}})
    return found


def directory_hash(top: pathlib.Path) -> str:
    """Hash all files below `top` (hex), as Hash1 of Go's golang.org/x/mod/sumdb/dirhash."""
    lines = []
    for folder, _folders, files in os.walk(top):
        for name in files:
            path = pathlib.Path(folder, name)
            if path.is_file() and not path.is_symlink():
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()
                lines.append((os.fsencode(path.relative_to(top)), digest))
    text = b"".join(digest.encode() + b"  " + name + b"\n" for name, digest in sorted(lines))
    return hashlib.sha256(text).hexdigest()


def _recorded(value: typing.Any) -> typing.Any:  # noqa: ANN401 - JSON
    if isinstance(value, pathlib.PurePath):
        return value.name
    if isinstance(value, tuple):
        return [_recorded(one) for one in value]
    return public(value) if isinstance(value, str) else value


def _time(seconds: float) -> str:
    return f"{datetime.datetime.fromtimestamp(int(seconds), datetime.UTC):%Y-%m-%dT%H:%M:%SZ}"
