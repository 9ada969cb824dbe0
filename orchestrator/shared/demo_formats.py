"""Image formats of the demo: partition table, disk format, system."""

import dataclasses

from orchestrator.shared.architectures import SYSTEMS
from orchestrator.shared.disk_formats import DiskFormat
from orchestrator.shared.spec import FIRMWARE, LOADERS, PartitionTable


@dataclasses.dataclass(frozen=True)
class Format:
    """One image format, named as in nixos-generators.

    `system` is the only system that supports the format; empty: the partition table decides.
    """

    name: str
    partition_table: PartitionTable
    disk_format: DiskFormat
    system: str = ""


FORMATS = {
    form.name: form
    for form in (
        Format("raw-efi", "efi", "raw"),
        Format("raw", "legacy", "raw"),
        Format("qcow-efi", "efi", "qcow2"),
        Format("qcow", "legacy", "qcow2"),
        Format("sd-aarch64", "sd-card", "raw", "aarch64-linux"),
        Format("sd-riscv64", "sd-card", "raw", "riscv64-linux"),
    )
}


def impossible(system: str, form: Format, table: PartitionTable) -> str:
    """Return why `system` does not support `form` with this partition table; "" if it does."""
    for loader in LOADERS[table]:
        if loader not in SYSTEMS[system].loaders:
            return (
                f"partition table {table} is booted by {FIRMWARE[loader]},"
                f" which {system} machines do not have"
            )
    return f"this format is for {form.system}" if form.system not in ("", system) else ""
