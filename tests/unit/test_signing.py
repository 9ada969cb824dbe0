"""Secure Boot is refused for an image without systemd-boot: nothing in it could be signed."""

import dataclasses
import json

import pytest

from orchestrator.image.loaders import signing
from orchestrator.shared.spec import PartitionTable, SpecError
from orchestrator.shared.spec_reader import read_spec
from tests.unit.test_spec import SPEC


@pytest.mark.parametrize("table", ["legacy", "legacy+boot", "legacy+gpt", "sd-card", "none"])
def test_without_systemd_boot_nothing_is_signed(table: PartitionTable) -> None:
    spec = dataclasses.replace(read_spec(json.dumps(SPEC)), partitionTable=table)
    with pytest.raises(SpecError, match="has no systemd-boot to sign"):
        signing.check(spec)


@pytest.mark.parametrize("table", ["efi", "efixbootldr", "hybrid"])
def test_systemd_boot_can_be_signed(table: PartitionTable) -> None:
    spec = dataclasses.replace(read_spec(json.dumps(SPEC)), partitionTable=table)
    signing.check(spec)
    with pytest.raises(SpecError, match="has no systemd-boot to sign"):
        signing.check(dataclasses.replace(spec, onlyNixStore=True, contents=()))
