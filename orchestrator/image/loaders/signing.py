"""Signs EFI programs for Secure Boot, with a key that never is in the Nix store.

A firmware with Secure Boot starts systemd-boot only if it is signed, and systemd-boot has the
firmware start the kernel, which is checked likewise. Nothing checks an initrd or a command line.
"""

import dataclasses
import hashlib
import pathlib

from orchestrator.image.filesystems.filesystem import FilesystemError
from orchestrator.image.loaders.bootloader import Files
from orchestrator.shared import command
from orchestrator.shared.spec import ImageSpec, SpecError


@dataclasses.dataclass(frozen=True)
class Signer:
    """Signs with `key` and `certificate`, PEM files. `folder` keeps what is signed.

    A signature has a time, so an image that is assembled twice needs the same folder.
    """

    key: str
    certificate: str
    folder: pathlib.Path

    def signed(self, files: Files) -> Files:
        """Return `files` with each EFI program signed."""
        return {
            name: self._sign(content)
            if isinstance(content, pathlib.Path) and is_program(content)
            else content
            for name, content in files.items()
        }

    def _sign(self, source: pathlib.Path) -> pathlib.Path:
        self.folder.mkdir(exist_ok=True)
        target = self.folder / hashlib.sha256(str(source).encode()).hexdigest()
        if not target.exists():
            words = ["sbsign", "--key", self.key, "--cert", self.certificate, "--output"]
            command.run([*words, str(target), str(source)], fails=FilesystemError)
        return target


def check(spec: ImageSpec) -> None:
    """Raise `SpecError` unless the image has what a firmware with Secure Boot starts."""
    if "systemdBoot" not in spec.loaders or spec.onlyNixStore:
        raise SpecError(
            f"--secure-boot-key: {spec.name} has no systemd-boot to sign; partition tables efi,"
            " efixbootldr and hybrid have it"
        )


def is_program(path: pathlib.Path) -> bool:
    """Whether a file is an EFI program: in the format PE, as kernels with an EFI stub are, too."""
    with path.open("rb") as file:
        head = file.read(64)
        if len(head) < 64 or head[:2] != b"MZ":
            return False
        file.seek(int.from_bytes(head[60:64], "little"))
        return file.read(4) == b"PE\0\0"
