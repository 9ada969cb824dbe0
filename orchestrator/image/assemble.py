"""One image from a spec and the store: sizes, table, file systems, all natively and in place."""

import os
import pathlib
import shutil
import subprocess
import tempfile

from orchestrator.image import bootloader, filesystem, layout, partition
from orchestrator.image.spec import ImageSpec, read_bootspec


def closure_of(toplevel: str) -> list[str]:
    """Store paths that `toplevel` needs at run time, itself included."""
    command = ["nix-store", "--query", "--requisites", toplevel]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()


def assemble(spec: ImageSpec, target: pathlib.Path, scratch: pathlib.Path) -> None:
    """Write the image of `spec` to `target`, a new sparse file.

    `scratch` takes the ESP's files meanwhile.
    """
    boot = read_bootspec(pathlib.Path(spec.toplevel))
    closure = closure_of(spec.toplevel)
    blocks, inodes = layout.tree_usage(pathlib.Path(path) for path in closure)
    root_size = layout.ext4_size(blocks, inodes, spec.root.additionalSpaceMiB * layout.MIB)
    plan = layout.efi_layout(spec.esp.sizeMiB * layout.MIB, root_size)
    esp_slot, root_slot = plan.partitions
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        esp_tree, extra = pathlib.Path(folder, "esp"), pathlib.Path(folder, "extra")
        esp_tree.mkdir()
        extra.mkdir()
        extra.chmod(0o755)
        bootloader.write_esp(spec, boot, esp_tree)
        try:
            with target.open("xb") as image:
                os.truncate(image.fileno(), plan.size)
            filesystem.write_ext4(
                target,
                root_slot,
                label=spec.root.label,
                identifier=spec.identifier("root"),
                hash_seed=spec.identifier("hash seed"),
                closure=closure,
                extra=extra,
            )
            filesystem.write_fat(
                target, esp_slot, label=spec.esp.label, serial=spec.identifier("esp"), tree=esp_tree
            )
            # Last: the tools above find no partition table that they could be careful about.
            partition.write_gpt(target, plan, spec)
        except BaseException:
            target.unlink(missing_ok=True)
            raise
        shutil.rmtree(esp_tree)
