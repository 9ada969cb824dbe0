"""Settings of a run's Nix: its nix.conf, and the environment of its programs."""

import dataclasses
import os

from orchestrator.image.filesystems.filesystem import preloaded
from orchestrator.shared.architectures import SYSTEMS
from orchestrator.shared.paths import ROOT

#: NixOS' binary cache, and its public key.
CACHE = "https://cache.nixos.org"
CACHE_KEY = "cache.nixos.org-1:6NCHdD59X431o0gWypbMrAURkbJ16ZPMQFGspcDShjY="

#: Nix' number of download attempts for a file, and seconds without data until the next attempt.
ATTEMPTS = 5
STALL_SECONDS = 60

#: URL schemes that an evaluation may fetch (`allowed-uris`, nix.conf(5)): all of Nix' but those of
#: local files.
REMOTE = (
    *("http", "https", "ftp", "ssh", "git", "channel", "flake", "github", "gitlab", "sourcehut"),
    *("git+http", "git+https", "git+ssh", "hg+http", "hg+https", "hg+ssh"),
    *("tarball+http", "tarball+https", "file+http", "file+https", "s3"),
)

#: Nix' build-dir where a run sets none: Nix' own default depends on its version.
BUILDS = "/nix/var/nix/builds"

#: Library compiled from `readonly.c` into the builder's image: makes the inputs of sandboxed builds
#: read-only.
READONLY = ROOT / "readonly.so"

#: Library compiled from `unseen.c` into the builder's image: keeps from a restricted evaluation
#: what Nix' `restrict-eval` does not.
UNSEEN = ROOT / "unseen.so"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Nix settings of a run: foreign `platforms` whose programs run, substituters and keys.

    `sandbox` enables Nix' sandbox, which shows the container's files in `sandbox_paths`.
    `build_dir` is an existing folder for builds. With `restricted`, an evaluation can read only its
    search path and what it fetches, and fetch nothing that `unseen.c` hides. With `keep_failed` the
    folder of a failed build is kept. Without `builds` Nix only fetches.
    """

    platforms: tuple[str, ...] = ()
    substituters: tuple[str, ...] = ()
    trusted_keys: tuple[str, ...] = ()
    sandbox: bool = False
    sandbox_paths: tuple[str, ...] = ()
    build_dir: str = BUILDS
    restricted: bool = False
    keep_failed: bool = False
    builds: bool = True

    def text(self) -> str:
        """Return the text of nix.conf."""
        return "".join(f"{line}\n" for line in self.lines())

    def lines(self) -> list[str]:
        """Return the lines of nix.conf."""
        lines = {
            "experimental-features": "nix-command flakes",
            "substituters": " ".join(self.substituters),
            "trusted-public-keys": " ".join(self.trusted_keys),
            "sandbox": "true" if self.sandbox else "false",
            # The sandbox was probed: Nix must not fall back to none silently.
            "sandbox-fallback": "false",
            "extra-sandbox-paths": " ".join(self.sandbox_paths),
            "build-users-group": "",
            "build-dir": self.build_dir,
            "max-jobs": "auto" if self.builds else "0",
            "extra-system-features": " ".join(self.features),
            "connect-timeout": "10",
            "download-attempts": str(ATTEMPTS),
            "stalled-download-timeout": str(STALL_SECONDS),
        }
        if self.platforms:
            lines["extra-platforms"] = " ".join(self.platforms)
        if self.keep_failed:
            lines["keep-failed"] = "true"
        if self.restricted:
            lines["restrict-eval"] = "true"
            lines["allowed-uris"] = " ".join(f"{scheme}:" for scheme in REMOTE)
        return [f"{name} = {value}" for name, value in lines.items()]

    @property
    def features(self) -> list[str]:
        """Return the system features that derivations may require."""
        # Derivations that run a virtual machine ask for kvm; their QEMU emulates without KVM.
        return ["kvm", *(one for name in self.platforms for one in SYSTEMS[name].features)]

    def environment(self, *, evaluates: bool = False) -> dict[str, str]:
        """Return the environment of a Nix command that builds, or `evaluates` and may build."""
        libraries = [READONLY, *([UNSEEN] if self.restricted and evaluates else [])]
        return {
            **os.environ,
            "NIX_CONFIG": self.text(),
            "LD_PRELOAD": " ".join(map(preloaded, libraries)),
            "READONLY_EXCEPT": self.build_dir,
        }
