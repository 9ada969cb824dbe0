"""A made-up image, and facts of its run, for tests."""

from orchestrator.deliver.provenance import About
from orchestrator.shared.artifact import Artifact
from tests.unit.requests import CALLER, DEMO

IMAGE = Artifact(
    path="image/demo.img",
    name="demo",
    system="aarch64-linux",
    format="raw-efi",
    disk_format="raw",
    compression="none",
    firmware=("uefi",),
    host="",
    toplevel="/nix/store/x-system",
    ready_text="",
    size=5,
    virtual_size=5,
    sha256="6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d",
    unpacked_sha256="6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d",
    extras=(),
    sbom="image/demo.img.cdx.json",
)

ABOUT = About(
    request=DEMO,
    caller=CALLER,
    emulation="shared",
    emulators=[{"emulator": "qemu-aarch64", "version": "10.0.13", "name": "nixos-image-x"}],
    nix="2.34.8",
    settings={"sandbox": "true"},
    others=["access-tokens"],
    builders=[],
    sandbox={"on": True},
    sent=[{"name": "flake", "digest": {"dirHash": "c" * 64}}],
    materials=[
        {
            "name": "jq",
            "version": "1",
            "uri": "pkg:deb/debian/jq@1",
            "digest": {"sha256": "a" * 64},
        },
        {"name": "tar", "version": "2", "uri": "pkg:deb/debian/tar@2", "digest": {}},
    ],
    containers={"builder": f"sha256:{'b' * 64}"},
    began=1_800_000_000.7,
    ended=1_800_000_060.2,
)
