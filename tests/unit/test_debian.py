"""Tests Debian pins: the repository's lock file, and its reading.

The tests also cover the addresses that are tried.
"""

import itertools
import json
import pathlib
import re
import typing
from collections.abc import Callable

import pytest

from orchestrator.agents import debian, debian_lock
from orchestrator.agents.emulation import ladder
from orchestrator.agents.failure import AgentError
from orchestrator.shared import command as programs
from orchestrator.shared.architectures import DEBIAN_ARCHITECTURES
from orchestrator.shared.json_reader import JsonError

LOCK = pathlib.Path(__file__).parents[2] / "locks/debian.json"
DOCUMENT = json.loads(LOCK.read_text())
PIN = debian.Pin(
    "busybox",
    "busybox-static",
    "1:1.37.0-6+b9",
    "trixie",
    "pool/main/b/busybox/b~c+d_1%3a1 e.deb",
    "0" * 64,
)


@pytest.mark.parametrize(
    ("arch", "role"),
    [(arch, role) for arch in DEBIAN_ARCHITECTURES.values() for role in debian.roles_of(arch)],
)
def test_each_pin_is_complete(role: str, arch: str) -> None:
    (pin,) = debian.read_lock(LOCK, arch, [role])
    check(pin, arch)
    assert pin.tree is not None
    assert re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", pin.tree)


@pytest.mark.parametrize("arch", debian.HOSTS)
@pytest.mark.parametrize(("rung", "suite"), [*zip(ladder.rungs(), ladder.SUITES, strict=True)])
def test_each_rung_is_pinned_for_every_host(rung: str, suite: str, arch: str) -> None:
    pin = debian.read_emulator(LOCK, arch, rung)
    check(pin, arch)
    assert (ladder.rung_name(pin.version), pin.package) == (rung, ladder.SUITES[suite])
    assert pin.suite.removesuffix("-security") == suite
    assert pin.tree is None


def check(pin: debian.Pin, arch: str) -> None:
    """Check the fields of a pin."""
    assert re.fullmatch(r"[0-9a-f]{64}", pin.sha256)
    assert re.fullmatch(r"pool/\S+\.deb", pin.path)
    assert ".." not in pin.path
    assert pathlib.PurePosixPath(pin.path).name.startswith(f"{pin.package}_")
    assert pin.path.endswith((f"_{arch}.deb", "_all.deb"))
    assert pin.version.rpartition(":")[2] in pin.path, "the file is of the version that is named"
    assert re.fullmatch(r"[a-z]+(-security|-updates|-backports)?", pin.suite)
    assert pin.suite not in debian.left_out(LOCK, arch)


def test_a_file_says_which_architecture_it_is_for() -> None:
    assert debian.read_lock(LOCK, "arm64", ["busybox"])[0].arch == "arm64"
    assert debian.Pin("r", "p", "1", "s", "pool/main/p/p_1_all.deb", "0" * 64).arch == "all"


def test_the_lock_has_all_roles_and_nothing_else() -> None:
    assert DOCUMENT["schema"] == 1
    assert re.fullmatch(r"\d{8}T\d{6}Z", DOCUMENT["snapshot"])
    assert DOCUMENT["packages"].keys() == debian.ROLES.keys()
    for role, archs in DOCUMENT["packages"].items():
        wanted = {arch for arch in DEBIAN_ARCHITECTURES.values() if role in debian.roles_of(arch)}
        assert archs.keys() == wanted


def test_suites_are_left_out_for_architectures_that_are_pinned() -> None:
    assert DOCUMENT["without"].keys() <= set(DEBIAN_ARCHITECTURES.values())
    assert debian.left_out(LOCK, "s390x") == frozenset()


def test_no_two_files_share_a_hash() -> None:
    parts = (DOCUMENT["packages"], DOCUMENT["emulators"], DOCUMENT["nix"])
    pins = [pin for part in parts for archs in part.values() for pin in archs.values()]
    assert len({pin["sha256"] for pin in pins}) == len({pin["path"] for pin in pins})


def test_a_pin_with_a_wrong_field_is_named(tmp_path: pathlib.Path) -> None:
    document = json.loads(LOCK.read_text())
    document["packages"]["busybox"]["arm64"]["sha256"] = 7
    lock = tmp_path / "debian.json"
    lock.write_text(json.dumps(document))
    with pytest.raises(JsonError, match=r"^pin of busybox\.sha256: expected str, found 7$"):
        debian.read_lock(lock, "arm64", ["busybox"])


def test_the_lock_names_no_host() -> None:
    """No lock names a host, which would bypass a company's mirror in apt's configuration."""
    assert "://" not in LOCK.read_text()


@pytest.mark.parametrize(
    ("arch", "roles"),
    [("arm64", ["nothing"]), ("s390x", ["busybox"]), ("arm64", ["busybox", "nothing"])],
)
def test_a_role_that_is_not_pinned_is_named(arch: str, roles: list[str]) -> None:
    with pytest.raises(AgentError, match=rf"has no pin of {roles[-1]} for {arch}") as caught:
        debian.read_lock(LOCK, arch, roles)
    assert caught.value.hint


def ended(code: int, stdout: str = "", stderr: str = "") -> programs.Done:
    """Return the result of an ended program."""
    return programs.Done("program", code, stdout.encode(), stderr.encode(), 0.1)


@pytest.fixture
def apt(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str], str], None]:
    """Fake apt: its repositories by suite, and the output of `apt-config dump`."""

    def play(repositories: dict[str, str], config: str) -> None:
        def run(command: list[str], **_: object) -> programs.Done:
            assert command == ["apt-config", "dump"]
            return ended(0, config)

        monkeypatch.setattr(debian, "repositories", lambda: repositories)
        monkeypatch.setattr(programs, "run", run)

    return play


SNAPSHOTS = (
    'Acquire::Snapshots::URI::Origin::Debian "https://snapshot.example/archive/debian/@SNAPSHOTID@/";\n'
    'Acquire::Snapshots::URI::Label::Debian-Security "https://snapshot.example/archive/security/@SNAPSHOTID@/";\n'
)
MIRRORS = {
    "trixie-updates": "http://a/debian",
    "trixie": "http://b/debian",
    "trixie-security": "http://c/security",
}
QUOTED = "pool/main/b/busybox/b~c%2Bd_1%253a1%20e.deb"


def test_addresses_are_the_suites_mirror_then_the_others_then_the_archive(
    apt: Callable[[dict[str, str], str], None],
) -> None:
    apt(MIRRORS, SNAPSHOTS)
    assert debian.urls(PIN, "20260101T000000Z") == [
        f"http://b/debian/{QUOTED}",
        f"http://a/debian/{QUOTED}",
        f"http://c/security/{QUOTED}",
        f"https://snapshot.example/archive/debian/20260101T000000Z/{QUOTED}",
    ]


def test_security_updates_have_an_archive_of_their_own(
    apt: Callable[[dict[str, str], str], None],
) -> None:
    apt({}, SNAPSHOTS)
    pin = debian.Pin("r", "p", "1", "trixie-security", "pool/p.deb", "0" * 64)
    assert debian.urls(pin, "S") == ["https://snapshot.example/archive/security/S/pool/p.deb"]


def test_each_address_is_tried_once(apt: Callable[[dict[str, str], str], None]) -> None:
    apt({"trixie": "http://b/debian", "trixie-updates": "http://b/debian"}, "")
    assert debian.urls(PIN, "S") == [f"http://b/debian/{QUOTED}"]


def test_repositories_are_what_apt_says(monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        "'http://b/debian/dists/trixie/InRelease' b_debian_dists_trixie_InRelease 0 \n"
        "'http://c/security/dists/trixie-security/InRelease' c_InRelease 0 \n"
        "W: something else\n"
    )
    monkeypatch.setattr(programs, "run", lambda *_, **__: ended(0, said))
    assert debian.repositories.__wrapped__() == {
        "trixie": "http://b/debian",
        "trixie-security": "http://c/security",
    }


def test_a_failing_apt_is_told_with_its_own_words(monkeypatch: pytest.MonkeyPatch) -> None:
    said = "W: old\nE: Could not resolve 'b'\n"
    monkeypatch.setattr(programs, "run", lambda *_, **__: ended(100, "", said))
    with pytest.raises(AgentError, match=r"apt-get .* failed: E: Could not resolve 'b'"):
        debian.repositories.__wrapped__()


class Apt:
    """Fake apt programs for `Index`; `options` records their -o options."""

    SHOWN: typing.ClassVar = {
        "qemu-user": f"Version: 9\nSHA256: {64 * '3'}\n",
        "linux-image-riscv64": "Version: 6\nDepends: linux-image-6-riscv64 (= 6), x\n",
        "linux-image-6-riscv64": f"Version: 6\nSHA256: {64 * '1'}\n",
        "linux-image-cloud-arm64": (
            "Version: 7\nDepends: linux-base (= 7), linux-image-7-cloud-arm64 (= 7)\n"
        ),
        "linux-image-7-cloud-arm64": f"Version: 7\nSHA256: {64 * '2'}\n",
    }

    def __init__(self) -> None:
        self.options: set[str] = set()
        self.base = "http://b/debian"

    def run(self, command: list[str], **_: object) -> programs.Done:
        self.options.update(value for word, value in itertools.pairwise(command) if word == "-o")
        name = command[-1]
        said = f"Package: {name}\n{self.SHOWN[name]}" if command[0] == "apt-cache" else ""
        if "--print-uris" in command:
            said = f"'{self.base}/pool/{command[-1].replace('=', '_')}.deb' x 1 SHA256:0\n"
        return ended(0, said)


@pytest.fixture
def index_apt(monkeypatch: pytest.MonkeyPatch) -> Apt:
    """Fake all apt programs; the repositories are `MIRRORS`."""
    playing = Apt()
    monkeypatch.setattr(debian, "repositories", lambda: MIRRORS)
    monkeypatch.setattr(programs, "run", playing.run)
    return playing


def test_an_index_reads_all_suites_from_apts_own_sources(
    index_apt: Apt, tmp_path: pathlib.Path
) -> None:
    debian.Index(tmp_path, "arm64", frozenset())
    assert not [option for option in index_apt.options if option.startswith("Dir::Etc::")]


def test_a_suite_that_is_left_out_is_not_read(index_apt: Apt, tmp_path: pathlib.Path) -> None:
    debian.Index(tmp_path, "riscv64", {"trixie-updates", "trixie-security"})
    sources = tmp_path / "sources.list"
    assert f"Dir::Etc::sourcelist={sources}" in index_apt.options
    assert "Dir::Etc::sourceparts=/dev/null" in index_apt.options
    assert sources.read_text() == "deb http://b/debian trixie main\n"


@pytest.mark.parametrize(
    ("suite", "lines"),
    [
        (
            "bookworm",
            "deb http://a/debian bookworm main\ndeb http://c/security bookworm-security main\n",
        ),
        (
            "trixie",
            "deb http://b/debian trixie main\ndeb http://c/security trixie-security main\n",
        ),
        ("trixie-backports", "deb http://a/debian trixie-backports main\n"),
        ("bookworm-security", "deb http://c/security bookworm-security main\n"),
    ],
)
def test_another_suite_is_read_where_its_like_are(
    suite: str, lines: str, index_apt: Apt, tmp_path: pathlib.Path
) -> None:
    index = debian.Index(tmp_path, "arm64", frozenset(), suite)
    assert (tmp_path / "sources.list").read_text() == lines
    index_apt.base = lines.split()[1]
    assert index.newest("qemu-user", "qemu-user").suite == suite


def test_a_security_update_is_of_its_own_suite(index_apt: Apt, tmp_path: pathlib.Path) -> None:
    index = debian.Index(tmp_path, "arm64", frozenset(), "bookworm")
    index_apt.base = "http://c/security"
    assert index.newest("qemu-user", "qemu-user").suite == "bookworm-security"


@pytest.mark.parametrize(
    ("arch", "package"),
    [("arm64", "linux-image-7-cloud-arm64"), ("riscv64", "linux-image-6-riscv64")],
)
def test_the_kernel_is_the_smallest_that_the_architecture_has(
    arch: str, package: str, index_apt: Apt, tmp_path: pathlib.Path
) -> None:
    pin = debian.Index(tmp_path, arch, frozenset()).resolve("kernel")
    assert (pin.package, pin.suite) == (package, "trixie")


@pytest.mark.parametrize("text", ["riscv64/sid", "s390x/trixie", "trixie", "riscv64", ""])
def test_only_a_suite_that_would_be_read_can_be_left_out(
    text: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(debian_lock, "repositories", lambda: MIRRORS)
    monkeypatch.setattr(debian_lock, "make_lock", lambda *_: pytest.fail("a lock was made"))
    monkeypatch.setattr("sys.argv", ["debian", "lock", "S", "--without", text])
    with pytest.raises(SystemExit):
        debian_lock.main()
    assert f"argument --without: {text!r}: expected ARCHITECTURE/SUITE" in capsys.readouterr().err


def test_a_download_whose_hash_is_wrong_leaves_nothing(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    target = tmp_path / "deb"

    def run(command: list[object], **_: object) -> programs.Done:
        assert command[-1] == f"SHA256:{PIN.sha256}"
        target.write_text("half")
        return ended(0 if "second" in str(command[2]) else 100)

    monkeypatch.setattr(debian, "urls", lambda *_: ["http://first/x"])
    monkeypatch.setattr(programs, "run", run)
    monkeypatch.setattr(debian, "reach_mirrors", lambda: None)
    assert not debian.fetch(PIN, "S", target)
    assert not target.exists()
    monkeypatch.setattr(debian, "urls", lambda *_: ["http://first/x", "http://second/x"])
    assert debian.fetch(PIN, "S", target)
    assert target.exists()


def test_what_a_package_depends_on_is_pinned_with_it(monkeypatch: pytest.MonkeyPatch) -> None:
    said = (
        "'http://b/debian/pool/main/j/jq/jq_1.7-6%2bu4_amd64.deb' jq_1.7-6+u4_amd64.deb 78900 \n"
        "'http://c/security/pool/o/libo_1.1-1_amd64.deb' libo_2%3a1.1-1_amd64.deb 9 \n"
    )
    shown = "\n\n".join(
        f"Package: {name}\nVersion: {version}\nSHA256: {sha256}\nDescription: x\n y"
        for name, version, sha256 in (("libo", "2:1.1-1", "1" * 64), ("jq", "1.7-6+u4", "2" * 64))
    )
    asked: list[list[str]] = []

    def apt(arguments: list[str]) -> str:
        asked.append(arguments)
        return said

    def run(command: list[str], **_: object) -> programs.Done:
        asked.append(command)
        return ended(0, shown)

    monkeypatch.setattr(debian, "_apt", apt)
    monkeypatch.setattr(debian, "repositories", lambda: MIRRORS)
    state = {"_options": [], "_suites": MIRRORS}
    monkeypatch.setattr(debian.Index, "__init__", lambda self: self.__dict__.update(state))
    monkeypatch.setattr(programs, "run", run)
    assert debian.Index().closure(["jq"]) == [  # type: ignore[call-arg]
        debian.Pin(
            "jq", "jq", "1.7-6+u4", "trixie", "pool/main/j/jq/jq_1.7-6+u4_amd64.deb", "2" * 64
        ),
        debian.Pin(
            "libo", "libo", "2:1.1-1", "trixie-security", "pool/o/libo_1.1-1_amd64.deb", "1" * 64
        ),
    ]
    assert asked[0][-1] == "jq"
    assert asked[1][-2:] == ["jq=1.7-6+u4", "libo=2:1.1-1"]


def test_nix_is_pinned_with_the_libraries_that_it_is_linked_with(
    index_apt: Apt, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    depends = "perl, libdbd-sqlite3-perl, liba1 (>= 2), libb-2.0 | libb3, bash-static, libc6"
    shown = {"nix-bin": f"Version: 2.34.8\nDepends: {depends}\nSHA256: {64 * '4'}\n"}
    monkeypatch.setattr(index_apt, "SHOWN", shown)
    asked: list[list[str]] = []

    def closure(_self: debian.Index, packages: list[str]) -> list[debian.Pin]:
        asked.append(packages)
        return [PIN]

    monkeypatch.setattr(debian.Index, "closure", closure)
    monkeypatch.setattr(debian_lock, "HOSTS", ("arm64",))
    index_apt.base = "http://a/debian"  # mirror of suites that are configured
    found = debian_lock.lock_nix({})
    assert asked == [["liba1", "libb-2.0", "libc6"]]
    assert list(found) == [PIN.role, "nix-bin"]
    assert found["nix-bin"]["arm64"]["suite"] == "forky"


def test_many_packages_are_fetched_at_once_and_singly_where_that_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    pins = [debian.Pin(name, name, "1", "trixie", f"p/{name}.deb", "0" * 64) for name in "abc"]
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> programs.Done:
        commands.append([str(word) for word in command])
        for target in command[3::3]:
            pathlib.Path(target).write_text("half")
        lost = "http://x/p/b.deb" in command
        return ended(100 if lost else 0)

    monkeypatch.setattr(debian, "urls", lambda pin, _: [f"http://x/{pin.path}"])
    monkeypatch.setattr(programs, "run", run)
    monkeypatch.setattr(debian, "reach_mirrors", lambda: None)
    assert debian.fetch_all([pins[0], pins[2]], "S", tmp_path) is None
    assert len(commands) == 1
    assert commands[0][2:5] == ["http://x/p/a.deb", str(tmp_path / "a.deb"), f"SHA256:{64 * '0'}"]
    (tmp_path / "a.deb").unlink()
    (tmp_path / "c.deb").unlink()
    assert debian.fetch_all(pins, "S", tmp_path) == pins[1]
    # Partial files are removed; packages after the lost one are not requested.
    assert {path.name for path in tmp_path.iterdir()} == {"a.deb"}
