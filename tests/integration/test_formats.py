"""Boots every kind of natively assembled image under its firmware."""

import concurrent.futures
import hashlib
import pathlib
import re
import subprocess

import pytest

from tests.integration.conftest import Outcome, Run
from tests.shares import Share

pytestmark = [pytest.mark.docker, pytest.mark.e2e, pytest.mark.timeout(1800)]

ARM, RISCV, X86 = "aarch64-linux", "riscv64-linux", "x86_64-linux"


def described(outcome: Outcome) -> list[dict[str, object]]:
    """Return the images of `result.json`, after checking their size and checksum."""
    assert outcome.code == 0, outcome.err
    files = outcome.files()
    images = outcome.result()["images"]
    assert isinstance(images, list)
    for image in images:
        content = files[pathlib.PurePosixPath(image["path"]).name]
        assert (len(content), hashlib.sha256(content).hexdigest()) == (
            image["size"],
            image["sha256"],
        )
    return images


#: Cases: system, format, options, firmware, file suffix.
BOOTED = [
    (ARM, "sd-aarch64", [], "u-boot", ".img"),
    (RISCV, "sd-riscv64", [], "u-boot", ".img"),
    (RISCV, "raw-efi", [], "uefi", ".img"),
    (X86, "raw", ["--partition-table", "legacy+gpt"], "bios", ".img"),
    (X86, "raw", ["--partition-table", "legacy+boot"], "bios", ".img"),
    (X86, "qcow", [], "bios", ".qcow2"),
    (X86, "raw-efi", ["--partition-table", "efixbootldr"], "uefi", ".img"),
    (
        ARM,
        "qcow-efi",
        ["--disk-format", "qcow2-compressed", "--compress", "zstd"],
        "uefi",
        ".qcow2.zst",
    ),
]


@pytest.mark.slow
def test_they_boot(orchestrate: Run, mine: Share) -> None:
    """Two boot checks run in parallel, because CI has two CPUs."""

    def boot(case: tuple[str, str, list[str], str, str]) -> None:
        system, form, options, firmware, suffix = case
        outcome = orchestrate("demo", "--system", system, "-f", form, *options)
        (image,) = described(outcome)
        assert image["firmware"] == [firmware], case
        assert str(image["path"]).endswith(f"/nixos-demo-{form}-{system}-1{suffix}"), case
        found = outcome.result()["boot"]
        assert isinstance(found, dict), case
        assert found["machine"] == system.partition("-")[0], case

    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        list(pool.map(boot, mine.part(BOOTED)))


def image_file(outcome: Outcome) -> dict[str, bytes]:
    """Send the image under a path of the caller's host, as run.sh would."""
    (image,) = described(outcome)
    path = str(image["path"])
    files = outcome.files()
    name = pathlib.PurePosixPath(path).name
    return {path: files[name], f"{path}.result.json": files[f"{name}.result.json"]}


@pytest.mark.slow
def test_one_hybrid_image_boots_under_uefi_and_bios(orchestrate: Run) -> None:
    options = ["--partition-table", "hybrid", "--no-boot"]
    files = image_file(orchestrate("demo", "--system", X86, "-f", "raw-efi", *options))
    path = next(iter(files))
    for firmware in ("uefi", "bios"):
        outcome = orchestrate(
            "boot", "--test", "--firmware", firmware, "--run", "ls /sys/firmware", path, files=files
        )
        assert outcome.code == 0, outcome.err
        assert ("efi" in outcome.err.split("uname -m", 1)[1]) == (firmware == "uefi")


@pytest.mark.slow
def test_the_root_grows_to_a_larger_disk(orchestrate: Run) -> None:
    files = image_file(orchestrate("demo", "--system", X86, "-f", "qcow-efi", "--no-boot"))
    path = next(iter(files))
    seen = {}
    for grow in ("1M", "3G"):
        outcome = orchestrate(
            "boot", "--test", "--grow", grow, "--run", "df -Pm / | tail -n 1", path, files=files
        )
        assert outcome.code == 0, outcome.err
        line = next(line for line in outcome.err.splitlines() if line.startswith("/dev/"))
        seen[grow] = int(line.split()[1])
    assert seen["1M"] < 400
    assert seen["3G"] > 2700


@pytest.fixture
def key(tmp_path: pathlib.Path) -> dict[str, bytes]:
    """Make a key pair; return both files by their paths on the caller's host."""
    path = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", path], check=True)
    return {
        "/home/me/key": path.read_bytes(),
        "/home/me/key.pub": path.with_suffix(".pub").read_bytes(),
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["btrfs", "xfs", "erofs"])
def test_a_root_of_another_kind_boots_and_is_the_same_twice(
    kind: str, orchestrate: Run, key: dict[str, bytes]
) -> None:
    inject = ["--inject", "/home/me/key.pub:/root/.ssh/authorized_keys"]
    options = ["--root-fs", kind, "--no-boot", "--check", *inject]
    built = orchestrate("demo", "--system", X86, *options, files=key)
    assert "two builds are identical" in built.err
    files = image_file(built)
    outcome = orchestrate(
        *("boot", "--test", "--identity", "/home/me/key"),
        *("--run", "cat /proc/mounts; ls -ln /root/.ssh", next(iter(files))),
        files=files | key,
    )
    assert outcome.code == 0, outcome.err
    seen = "overlay / " if kind == "erofs" else f" {kind} "  # erofs is below an overlay for changes
    assert seen in outcome.err
    assert "-rw-------    1 0        0" in outcome.err


def devices(orchestrate: Run) -> Outcome:
    """Make images of two devices by a `--stamp` file, with identities."""
    rows = b"host,wifi_ssid,wifi_password\nalpha,net,first secret\nbeta,net,second secret\n"
    options = ["--system", X86, "--stamp", "/home/me/hosts.csv", "--bmap", "--no-boot"]
    options += ["--identity-seed", "/home/me/seed"]
    return orchestrate(
        "demo", *options, files={"/home/me/hosts.csv": rows, "/home/me/seed": b"made-up " * 4}
    )


@pytest.mark.slow
def test_each_row_of_a_list_becomes_a_device(orchestrate: Run) -> None:
    built = devices(orchestrate)
    images = described(built)
    assert [image["host"] for image in images] == ["alpha", "beta"]
    assert "secret" not in built.err
    files = built.files()
    assert b"secret" not in files["result.json"]
    alpha, beta = (files[pathlib.PurePosixPath(str(image["path"])).name] for image in images)
    assert b"first secret" in alpha
    assert b"second secret" not in alpha
    assert b"first secret" not in beta
    assert not any(b"made-up made-up" in content for content in files.values())
    assert len(files["known_hosts"].splitlines()) == 3
    assert files[str(images[0]["bmap"])].startswith(b"<?xml")


@pytest.mark.slow
def test_such_a_device_boots_by_its_name(orchestrate: Run) -> None:
    built = devices(orchestrate)
    path = str(described(built)[1]["path"])
    beta = built.files()[pathlib.PurePosixPath(path).name]
    keys = "$(ls -d /nix/store/*dropbear*)/usr/bin/dropbearkey -y -f /var/lib/dropbear/ed25519"
    asked = f"hostname; cat /etc/machine-id; cat /etc/device-serial; {keys}"
    outcome = orchestrate("boot", "--test", "--run", asked, path, files={path: beta})
    assert outcome.code == 0, outcome.err
    assert "\nbeta\n" in outcome.err
    lines = outcome.err.splitlines()
    image = described(built)[1]
    assert image["serial"] in lines
    assert any(re.fullmatch("[0-9a-f]{12}4[0-9a-f]{19}", line) for line in lines)
    _kind, key, _comment = str(image["ssh_host_key"]).split()
    assert any(line.startswith(f"ssh-ed25519 {key} ") for line in lines)
