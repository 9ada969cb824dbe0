"""What a device is known by: its SSH host key, machine-id and serial number, as late files."""

import dataclasses

from orchestrator.image.tree import Entry
from orchestrator.shared.json_reader import FreeText, from_json, read_json

#: Files that systemd and people read; the host key's place is the configuration's.
MACHINE_ID = "etc/machine-id"
SERIAL = "etc/device-serial"


@dataclasses.dataclass(frozen=True)
class Identity:
    """Identity of one device: its host key as OpenSSH writes it, private and public.

    `machine_id` has 32 hexadecimal digits (machine-id(5)), which others should not know.
    """

    host_key: FreeText = dataclasses.field(repr=False)
    public_key: str
    machine_id: str = dataclasses.field(repr=False)
    serial: str


def read_identities(text: str) -> dict[str, Identity]:
    """Read the identities of all devices by host name: JSON that the orchestrator has written."""
    return from_json(dict[str, Identity], read_json(text, "identities"), "identities")


def entries(identity: Identity, host_key: str) -> list[Entry]:
    """Return the files of `identity`; `host_key` is the private key's path, "" without sshd."""
    found = [
        Entry(MACHINE_ID, "file", 0o444, data=f"{identity.machine_id}\n".encode()),
        Entry(SERIAL, "file", 0o444, data=f"{identity.serial}\n".encode()),
    ]
    if host_key:
        public = f"{identity.public_key}\n".encode()
        found += [
            Entry(host_key, "file", 0o600, data=identity.host_key.encode()),
            Entry(f"{host_key}.pub", "file", 0o644, data=public),
        ]
    return found
