"""Tests which emulation a host supports, from facts of kernel and engine."""

import pathlib

import pytest

from orchestrator.agents.emulation import canary
from orchestrator.agents.emulation.canary import Outcome
from orchestrator.decide import host
from orchestrator.docker import census
from orchestrator.docker.engine import Engine, EngineInfo

#: /proc/self/uid_map of an ordinary container, and of a rootless engine's container.
WHOLE = "         0          0 4294967295\n"
ROOTLESS = "         0       7001          1\n         1     200000      65536\n"


ENGINE = Engine("0badcafe", pathlib.Path("/nonexistent"))


def info(*, remaps: bool = False) -> EngineInfo:
    return EngineInfo("x86_64", "6.18", "28.0", 16 << 30, remaps)


@pytest.fixture
def see(monkeypatch: pytest.MonkeyPatch) -> "See":
    return See(monkeypatch)


class See:
    """Set what this container seems to see."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._monkeypatch = monkeypatch

    def __call__(self, uid_map: str, *runs: str, held: bool = False) -> None:
        self._monkeypatch.setattr(census, "table_is_held", lambda _: held)
        self._monkeypatch.setattr(pathlib.Path, "read_text", lambda _path: uid_map)
        self._monkeypatch.setattr(canary, "run", lambda name, _tmp: Outcome(name in runs))
        self._monkeypatch.setattr(host, "this_system", lambda: "x86_64-linux")


@pytest.mark.parametrize(
    ("uid_map", "runs", "expected"),
    [
        (WHOLE, (), False),
        (WHOLE, ("aarch64-linux",), False),  # a mount shows the host's binfmt_misc
        (ROOTLESS, (), False),
        (ROOTLESS, ("riscv64-linux",), True),
        (ROOTLESS, ("i686-linux",), False),  # i686 needs no emulator
    ],
)
def test_a_table_is_borrowed_where_foreign_programs_run_in_a_user_namespace(
    see: See, uid_map: str, runs: tuple[str, ...], expected: bool
) -> None:
    see(uid_map, *runs)
    assert host.borrows_table(ENGINE) == expected
    assert bool(host.why_not_shared(ENGINE, info())) == expected


def test_a_table_that_a_run_has_mounted_is_the_engines_own(see: See) -> None:
    """A run's own binfmt_misc is mounted: its entries must not be taken for the host's."""
    see(ROOTLESS, "riscv64-linux", held=True)
    assert not host.borrows_table(ENGINE)
    assert host.why_not_shared(ENGINE, info()) == ""


def test_where_every_container_has_a_table_of_its_own_a_registrars_is_of_no_use(see: See) -> None:
    see(WHOLE)
    assert "userns-remap" in host.why_not_shared(ENGINE, info(remaps=True))
