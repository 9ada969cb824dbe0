"""Tests the start of the boot check's container."""

import pathlib
import typing

import pytest

from orchestrator.docker.engine import Engine
from orchestrator.run.bootcheck import start_boot
from orchestrator.shared.errors import ApplianceError, DockerError, TerminatedRunError


class FakeEngine:
    """Fake engine that cannot create a container with KVM."""

    def __init__(self, refusal: ApplianceError) -> None:
        self.refusal = refusal
        self.did: list[str] = []

    def create_one(self, service: str, name: str, arguments: list[str]) -> None:
        assert name == "boot-1"
        assert arguments == ["/image", "--test"]
        self.did.append(service)
        if service == "boot-kvm":
            raise self.refusal

    def remove(self, name: str) -> None:
        self.did.append(f"remove {name}")


def start(refusal: ApplianceError, *, kvm: bool) -> list[str]:
    engine = FakeEngine(refusal)
    image = pathlib.Path("/image")
    start_boot(typing.cast("Engine", engine), "boot-1", image, ["--test"], kvm=kvm)
    return engine.did


def test_an_engine_without_kvm_boots_without_it() -> None:
    missing = DockerError("no such device")
    assert start(missing, kvm=True) == ["boot-kvm", "remove boot-1", "boot"]
    assert start(missing, kvm=False) == ["boot"]


def test_a_signal_is_no_missing_kvm() -> None:
    with pytest.raises(TerminatedRunError):
        start(TerminatedRunError("terminated"), kvm=True)
