"""Tests binfmt_misc, with a folder in place of the kernel's table.

The tests cover registration lines, checks of entries, and entries that must not be touched.
"""

import contextlib
import errno
import pathlib

import pytest

from orchestrator.agents import events
from orchestrator.agents.emulation import binfmt, cleanup
from orchestrator.agents.failure import AgentError
from orchestrator.shared.architectures import SYSTEMS, Architecture

AARCH64 = SYSTEMS["aarch64-linux"]
QEMU = pathlib.Path("/opt/qemu/qemu-aarch64")
NAME = "nixos-image-0badcafe-aarch64"

#: Magic and mask of QEMU's scripts/qemu-binfmt-conf.sh (aarch64_magic, aarch64_mask).
MAGIC = r"\x7f\x45\x4c\x46\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00"
MASK = r"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff"

SOUND = (
    "enabled\ninterpreter /opt/qemu/qemu-aarch64\nflags: POCF\noffset 0\nmagic 7f45\nmask ffff\n"
)


@pytest.fixture
def table(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    monkeypatch.setattr(binfmt, "MOUNT_POINT", tmp_path)
    (tmp_path / "register").touch()
    (tmp_path / "status").write_text("enabled\n")
    return tmp_path


@pytest.mark.parametrize(
    ("kernel", "flags"), [((4, 8), "F"), ((5, 11), "F"), ((5, 12), "PF"), ((6, 1), "PF")]
)
def test_the_line_and_its_flags_by_kernel(kernel: tuple[int, int], flags: str) -> None:
    assert (
        binfmt.registration(NAME, AARCH64, QEMU, kernel)
        == f":{NAME}:M::{MAGIC}:{MASK}:/opt/qemu/qemu-aarch64:{flags}"
    )


@pytest.mark.parametrize("system", SYSTEMS.values(), ids=SYSTEMS)
def test_the_kernel_takes_the_line(system: Architecture) -> None:
    """Lines keep the limits of fs/binfmt_misc.c.

    The limits are 1920 bytes per line, 8 fields, and 128 examined bytes of a program.
    """
    line = binfmt.registration(
        binfmt.entry_name("0badcafe", system),
        system,
        pathlib.Path("/opt/qemu", system.emulator),
        (6, 18),
    )
    assert len(line) < 1920
    assert len(line.split(":")) == 8
    assert "\n" not in line


@pytest.mark.parametrize("kernel", [(4, 7), (3, 10), (0, 0)])
def test_a_kernel_without_the_flag_is_refused(kernel: tuple[int, int]) -> None:
    with pytest.raises(
        AgentError, match=rf"Linux {kernel[0]}\.{kernel[1]} is too old.*4\.8"
    ) as caught:
        binfmt.registration(NAME, AARCH64, QEMU, kernel)
    assert caught.value.kind == "emulation"


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.18.44-fc", (6, 18)),
        ("5.15.167.4-microsoft-standard-WSL2", (5, 15)),
        ("4.8", (4, 8)),
        ("odd", (0, 0)),
    ],
)
def test_kernel_versions(
    release: str, version: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("platform.release", lambda: release)
    assert binfmt.kernel_version() == version


def test_names_are_unique_by_run_and_system() -> None:
    assert binfmt.entry_name("0badcafe", AARCH64) == NAME
    names = {binfmt.entry_name(run, system) for run in ("a", "b") for system in SYSTEMS.values()}
    assert len(names) == 2 * len(SYSTEMS)
    assert all(name.startswith(binfmt.PREFIX) for name in names)


def test_entries_are_read_without_the_control_files(table: pathlib.Path) -> None:
    (table / NAME).write_text(SOUND)
    (table / "python3.13").write_text(
        "disabled\ninterpreter /usr/bin/python 3\nflags: \nextension .pyc\n"
    )
    found = binfmt.entries()
    assert found.keys() == {NAME, "python3.13"}
    assert found[NAME] == binfmt.Entry(NAME, True, "/opt/qemu/qemu-aarch64", "POCF", SOUND)
    assert (found["python3.13"].enabled, found["python3.13"].interpreter) == (
        False,
        "/usr/bin/python 3",
    )
    assert found["python3.13"].flags == ""


def test_an_entry_that_vanishes_meanwhile_is_left_out(table: pathlib.Path) -> None:
    (table / NAME).write_text(SOUND)
    (table / "gone").symlink_to(table / "nowhere")
    assert binfmt.entries().keys() == {NAME}


def test_registering_writes_the_line_and_reads_it_back(table: pathlib.Path) -> None:
    line = binfmt.registration(NAME, AARCH64, QEMU, (6, 18))
    (table / NAME).write_text(SOUND)  # the kernel would remove the entry
    assert binfmt.register(line).flags == "POCF"
    assert (table / "register").read_text() == line


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "binfmt_misc has no such entry"),
        (SOUND.replace("enabled", "disabled"), "not enabled with flag F"),
        (SOUND.replace("POCF", "POC"), "not enabled with flag F"),
    ],
)
def test_success_is_not_believed(text: str | None, message: str, table: pathlib.Path) -> None:
    if text:
        (table / NAME).write_text(text)
    with pytest.raises(AgentError, match=message) as caught:
        binfmt.register(binfmt.registration(NAME, AARCH64, QEMU, (6, 18)))
    assert caught.value.kind == "emulation"


@pytest.mark.parametrize(
    ("number", "users", "none"),
    [
        (errno.ENODEV, "0 0 4294967295", True),
        (errno.EPERM, "0 100000 65536", True),
        (errno.EPERM, "0 0 4294967295", False),
        (errno.EIO, "0 100000 65536", False),
    ],
)
def test_no_table_is_told_from_one_that_cannot_be_mounted(
    number: int,
    users: str,
    none: bool,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: pathlib.Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Where no container could have written to a table, `look` reports no entries and no error."""

    class Library:
        def __init__(self, *_: object, **__: object) -> None:
            pass

        def mount(self, *_: object) -> int:
            return -1

    monkeypatch.setattr(binfmt, "MOUNT_POINT", tmp_path)
    monkeypatch.setattr("ctypes.CDLL", Library)
    monkeypatch.setattr("ctypes.get_errno", lambda: number)
    monkeypatch.setattr(pathlib.Path, "read_text", lambda _: users)
    monkeypatch.setattr("signal.pause", lambda: None)
    monkeypatch.setenv("NIXOS_IMAGE_LOG", "json")
    events.configure("cleanup")
    with contextlib.nullcontext() if none else pytest.raises(AgentError):
        cleanup.look()
    said = capsys.readouterr().out
    assert ('"entries": []' in said) == none, said


@pytest.mark.parametrize(("number", "hint"), [(errno.EEXIST, "clean"), (errno.EINVAL, "")])
def test_a_refusal_of_the_kernel_is_told(
    number: int, hint: str, table: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: pathlib.Path, _text: str) -> int:
        assert path == table / "register"
        raise OSError(number, "no")

    monkeypatch.setattr(pathlib.Path, "write_text", refuse)
    with pytest.raises(
        AgentError, match=f"the kernel refused the binfmt_misc entry {NAME}"
    ) as caught:
        binfmt.register(binfmt.registration(NAME, AARCH64, QEMU, (6, 18)))
    assert hint in caught.value.hint
    assert bool(caught.value.hint) == bool(hint)


def test_our_entry_is_removed_by_writing_minus_one(table: pathlib.Path) -> None:
    (table / NAME).write_text("xx")  # the kernel would obey what is written
    binfmt.remove(NAME)
    assert (table / NAME).read_text() == "-1"


def test_removing_what_is_gone_is_no_error_and_makes_nothing(table: pathlib.Path) -> None:
    binfmt.remove(NAME)
    assert not (table / NAME).exists()


@pytest.mark.parametrize(
    "name",
    ["qemu-aarch64", "register", "", "nixos-image-/../qemu-aarch64", "x/nixos-image-a", ".."],
)
def test_what_is_not_ours_is_never_touched(name: str, table: pathlib.Path) -> None:
    (table / "qemu-aarch64").write_text(SOUND)
    (table / "nixos-image-").mkdir()
    with pytest.raises(AgentError, match="not a binfmt_misc entry of this project"):
        binfmt.remove(name)
    assert (table / "qemu-aarch64").read_text() == SOUND
    assert (table / "register").read_text() == ""
