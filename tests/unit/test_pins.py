"""Tests the table of pins, and their renewal, complete or partial."""

import json
import pathlib
import re
import typing
from collections.abc import Mapping

import pytest

from orchestrator.decide import pins
from orchestrator.docker.engine import Engine
from orchestrator.run import renewal
from orchestrator.shared.errors import DockerError, InterruptedRunError, NetworkError
from orchestrator.shared.progress import Progress
from tests.unit.requests import CALLER

ROOT = pathlib.Path(__file__).parents[2]

#: run.sh's list of what the orchestrator's image is made of.
IMAGES_SH = ROOT / "caller/images.sh"


def test_every_lock_is_in_the_table_with_all_that_it_has() -> None:
    found = pins.read_pins(ROOT)
    debian = json.loads((ROOT / "locks/debian.json").read_text())
    wanted = {"locks/base": 1, "locks/clover.json": 1, "flake.lock": 1}
    wanted["locks/debian.json"] = sum(
        len(archs) for part in ("packages", "emulators", "nix") for archs in debian[part].values()
    )
    for lock in (ROOT / "locks").glob("*.txt"):
        wanted[f"locks/{lock.name}"] = len(re.findall("==", lock.read_text()))
    files = [pin.file for pin in found]
    assert {file: files.count(file) for file in files} == wanted
    locks = {f"locks/{path.name}" for path in (ROOT / "locks").iterdir() if path.suffix != ".in"}
    assert locks <= set(files), "a lock that pins does not know"


def test_every_pin_but_the_base_has_a_hash() -> None:
    for pin in pins.read_pins(ROOT):
        assert pin.version
        if pin.kind != "container image":
            assert re.fullmatch(r"[0-9a-f]{64}|sha256[:-][0-9a-zA-Z+/=]+", pin.digest), pin


@pytest.mark.parametrize(
    ("digest", "shown"),
    [
        (f"sha256:{'ab' * 32}", "abababababab"),
        ("sha256-lDebytrYdd47IBLwvNOD+6AGeoqZ78CIKlp70hzW280=", "lDebytrYdd47"),
        ("ab" * 32, "abababababab"),
        ("", "-"),
    ],
)
def test_hashes_are_shown_short(digest: str, shown: str) -> None:
    assert pins.Pin("k", "n", "v", digest, "f").row == ("k", "n", "v", shown, "f")


def test_the_table_says_what_is_not_pinned() -> None:
    lines = pins.table(ROOT).splitlines()
    assert lines[0].split() == list(pins.COLUMNS)
    assert lines[-1].startswith("not pinned: the Debian packages that container images install")


def test_the_table_needs_only_files_that_the_orchestrators_image_has(
    tmp_path: pathlib.Path,
) -> None:
    listed = re.search(r"\nparts\(\) \{\n +for part in ((?:.*\\\n)*.*); do", IMAGES_SH.read_text())
    assert listed
    for part in listed[1].replace("\\\n", " ").split():
        (tmp_path / part).symlink_to(ROOT / part)
    assert pins.table(tmp_path) == pins.table(ROOT)


# --- renewal --------------------------------------------------------------------------------------


def report(*packages: tuple[str, str, str]) -> renewal.PipReport:
    return {
        "install": [
            {
                "metadata": {"name": name, "version": version},
                "download_info": {"archive_info": {"hashes": {"sha256": digest}}},
            }
            for name, version, digest in packages
        ]
    }


def test_a_python_lock_has_the_wheels_of_all_machines() -> None:
    text = renewal.python_lock(
        [
            report(("Typing_Extensions", "4", "b" * 64), ("core", "1", "c" * 64)),
            report(("core", "1", "a" * 64), ("typing.extensions", "4", "b" * 64)),
        ]
    )
    assert text == (
        f"core==1 \\\n    --hash=sha256:{'a' * 64} \\\n    --hash=sha256:{'c' * 64}\n"
        f"typing-extensions==4 \\\n    --hash=sha256:{'b' * 64}\n"
    )


def test_machines_that_would_get_different_versions_make_no_lock() -> None:
    with pytest.raises(NetworkError, match="core has version 1 for one CPU, 2 for another"):
        renewal.python_lock([report(("core", "1", "a")), report(("core", "2", "b"))])


class FakeEngine:
    """Fake containers with given outputs or failures."""

    def __init__(self, answers: dict[str, str]) -> None:
        self.answers = answers
        self.asked: list[list[str]] = []

    def run_service(
        self,
        service: str,
        arguments: list[str],
        *,
        program: str = "",
        variables: dict[str, str] | None = None,
    ) -> str:
        self.asked.append([service, program, *arguments, *(variables or {})])
        return self._answer(program or service)

    def pull_digest(self, image: str) -> str:
        self.asked.append(["pull", image])
        return self._answer("pull")

    def _answer(self, name: str) -> str:
        if name not in self.answers:
            raise DockerError(f"{name}: no such host")
        return self.answers[name]


class Said:
    """Teller that records messages."""

    def __init__(self) -> None:
        self.lines: list[str] = []

    def stage(self, name: str, detail: str, seconds: float, activity: object) -> None:
        pass

    def done(self, name: str, seconds: float, failed: bool) -> None:
        pass

    def say(self, level: str, text: str, fields: Mapping[str, object]) -> None:
        self.lines.append(text)


DEBIAN = json.loads((ROOT / "locks/debian.json").read_text())
PREFETCHED = json.dumps(
    {
        "hash": "sha256-new=",
        "storePath": "/nix/store/x",
        "locked": {
            "lastModified": 1,
            "owner": "NixOS",
            "repo": "nixpkgs",
            "rev": "a" * 40,
            "type": "github",
        },
    }
)
ANSWERS = {
    "pull": f"sha256:{'e' * 64}",
    "builder": json.dumps(DEBIAN | {"snapshot": "later"}),
    "pins": json.dumps(report(("structlog", "99", "f" * 64))),
    "nix": PREFETCHED,
}


def renew(
    answers: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> tuple[dict[str, str], list[str], list[list[str]]]:
    """Return new locks, messages and calls."""
    monkeypatch.setattr(renewal, "ROOT", ROOT)
    said, engine = Said(), FakeEngine(answers)
    progress = Progress(said)
    try:
        changed = renewal.renew(typing.cast("Engine", engine), CALLER, progress)
    finally:
        progress.close()
    return changed, said.lines, engine.asked


def test_what_is_newer_is_made_and_its_difference_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    changed, said, asked = renew(ANSWERS, monkeypatch)
    assert changed.keys() == {
        *("locks/base", "flake.lock"),
        *(f"locks/{name}.txt" for name in ("agents", "orchestrator", "test", "docs", "moto")),
    }
    assert changed["locks/base"] == f"debian:trixie-slim@sha256:{'e' * 64}\n"
    assert "locks/debian.json: up to date" in said, "another time by itself is no news"
    nixpkgs = json.loads(changed["flake.lock"])["nodes"]["nixpkgs"]
    old = json.loads((ROOT / "flake.lock").read_text())["nodes"]["nixpkgs"]
    assert nixpkgs["locked"] == json.loads(PREFETCHED)["locked"] | {"narHash": "sha256-new="}
    assert nixpkgs["original"] == old["original"]
    shown = "\n".join(said)
    for line in (
        "--- a/locks/agents.txt",
        "+++ b/locks/agents.txt",
        "+structlog==99 \\",
        "-debian:trixie-slim",
        '+        "narHash": "sha256-new=",',
    ):
        assert line in shown.splitlines()
    assert ["builder", "nix"] in [command[:2] for command in asked]
    (lock,) = [command for command in asked if "orchestrator.agents.debian_lock" in command]
    assert lock[3] == "lock"
    assert re.fullmatch(r"\d{8}T\d{6}Z", lock[4])
    assert lock[5:] == [
        part
        for arch, suites in DEBIAN["without"].items()
        for suite in suites
        for part in ("--without", f"{arch}/{suite}")
    ]


def test_pip_is_asked_for_each_machine_and_builds_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    _changed, _said, asked = renew(ANSWERS, monkeypatch)
    commands = [command for command in asked if command[0] == "pins"]
    assert len(commands) == 2 * 5
    for command in commands:
        assert "--only-binary=:all:" in command
        assert "--dry-run" in command
    machines = ["manylinux_2_28_x86_64" in " ".join(command) for command in commands]
    assert machines == [True, False] * 5
    assert commands[0][-2:] == ["structlog", "tenacity"]


def test_a_signal_ends_it(monkeypatch: pytest.MonkeyPatch) -> None:
    def stop(*_: object, **__: object) -> str:
        raise InterruptedRunError("interrupted")

    monkeypatch.setattr(FakeEngine, "run_service", stop)
    with pytest.raises(InterruptedRunError):
        renew(ANSWERS, monkeypatch)


def test_what_cannot_be_reached_is_told_and_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for missing in ANSWERS:
        answers = {name: text for name, text in ANSWERS.items() if name != missing}
        changed, said, _asked = renew(answers, monkeypatch)
        left = [line for line in said if "is left unchanged" in line]
        assert left
        assert all("no such host" in line for line in left)
        for line in left:
            assert line.split()[0] not in changed
        assert changed


def test_where_nothing_can_be_reached_that_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(NetworkError, match="no lock could be renewed"):
        renew({}, monkeypatch)


def test_new_locks_are_handed_over_by_their_names(tmp_path: pathlib.Path) -> None:
    """Names have no folder: run.sh puts all files into locks/, except flake.lock."""
    names = renewal.write(tmp_path, {"locks/base": "a", "flake.lock": "b"})
    assert names == ["base", "flake.lock"]
    assert (tmp_path / "base").read_text() == "a"
    assert (tmp_path / "flake.lock").read_text() == "b"
    files = [one.file for one in renewal.RENEWALS]
    assert [file for file in files if not file.startswith("locks/")] == ["flake.lock"]
    assert "over=flake.lock" in (ROOT / "caller/receive.sh").read_text()


def test_renewals_are_of_all_locks_that_tools_can_make() -> None:
    renewed = {one.file for one in renewal.RENEWALS}
    by_hand = {"locks/clover.json"}
    assert renewed | by_hand == {pin.file for pin in pins.read_pins(ROOT)}
