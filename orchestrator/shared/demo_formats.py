"""Image formats by name: which table, which disk format, for which systems."""

import dataclasses

from orchestrator.shared.architectures import SYSTEMS
from orchestrator.shared.disk_formats import DiskFormat
from orchestrator.shared.spec import FIRMWARE, LOADERS, PartitionTable


@dataclasses.dataclass(frozen=True)
class Format:
    """A name of nixos-generators' list, and what the native assembler makes of it.

    `system` is the only one that can have it, empty where the partition table alone decides.
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
    """Why `system` cannot have `form` with the partition table `table`; nothing if it can."""
    for loader in LOADERS[table]:
        if loader not in SYSTEMS[system].loaders:
            return (
                f"partition table {table} is started by {FIRMWARE[loader]},"
                f" which {system} machines do not have"
            )
    return f"it is for {form.system}" if form.system not in ("", system) else ""
