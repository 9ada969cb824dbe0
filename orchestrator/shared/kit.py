"""What a kit holds: one archive with all that a machine without a network needs (docs/kit.md)."""

import dataclasses
import typing

#: First line of a manifest. run.sh, which reads kits, knows no other version (caller/kit.sh).
TYPE = "nixos-image-kit 1"

#: Names of a kit's members, besides images' configurations (SHA256.json) and layers (SHA256.tar).
STORE, MANIFEST, SIGNATURE = "store.tar", "manifest", "manifest.sig"

#: Name of the member with a configuration's sources; only a kit of a configuration has it.
SOURCES = "sources.tar"

#: Namespace of a manifest's signature (ssh-keygen -n); caller/kit.sh has it, too.
NAMESPACE = "nixos-image-kit"

#: Name of the list of store paths in STORE that are wanted for themselves.
ROOTS = "roots"

#: `inputs`: fetch what the demo is made of; `pack`: put store paths into an archive; `unpack`: put
#: them into the store.
Action = typing.Literal["inputs", "pack", "unpack"]


@dataclasses.dataclass(frozen=True)
class KitOrder:
    """One call of the agent (`agents/builder/kit.py`).

    `systems` are those of the demo; `paths` are store paths, `results` the names or store paths of
    recent results, which are packed with all that they were built of. `key` is the public key of
    the signatures.
    """

    action: Action
    systems: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    results: tuple[str, ...] = ()
    key: str = ""
