"""Tests how identities of devices are derived from a seed."""

import json

import pytest

from orchestrator.decide import identities
from orchestrator.image.identity import read_identities
from orchestrator.shared.errors import UsageError

SEED = b"0123456789abcdef" * 2


@pytest.fixture(autouse=True)
def public(monkeypatch: pytest.MonkeyPatch) -> None:
    """OpenSSL's part is tested in tests/tools/test_host_keys.py."""
    monkeypatch.setattr(identities, "_public", lambda private: private[::-1])


@pytest.mark.parametrize(
    ("secret", "salt", "info", "size", "found"),
    [
        # RFC 5869, test cases 1, 2 and 3
        (
            b"\x0b" * 22,
            bytes(range(13)),
            bytes(range(0xF0, 0xFA)),
            42,
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865",
        ),
        (
            bytes(range(0x50)),
            bytes(range(0x60, 0xB0)),
            bytes(range(0xB0, 0x100)),
            82,
            (
                "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c59045a99cac7827271"
                "cb41c65e590e09da3275600c2f09b8367793a9aca3db71cc30c58179ec3e87c14c01d5c1f3434f1d87"
            ),
        ),
        (
            b"\x0b" * 22,
            b"",
            b"",
            42,
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8",
        ),
    ],
)
def test_hkdf_is_that_of_the_rfc(
    secret: bytes, salt: bytes, info: bytes, size: int, found: str
) -> None:
    assert identities.hkdf(secret, salt, info, size).hex() == found


def test_a_seed_and_a_name_decide_the_identity() -> None:
    one = identities.identity(SEED, "sensor-1")
    assert identities.identity(SEED, "sensor-1") == one
    assert identities.identity(SEED, "SENSOR-1").machine_id == one.machine_id
    for other in (identities.identity(SEED, "sensor-2"), identities.identity(SEED[1:], "sensor-1")):
        for field in ("host_key", "public_key", "machine_id", "serial"):
            assert getattr(one, field) != getattr(other, field)


def test_identities_of_this_version_stay_what_they_are() -> None:
    """Devices have these identities, and known_hosts files their keys: others would lock out."""
    one = identities.identity(SEED, "sensor-1")
    assert one.machine_id == "4576db7be3384535a03d9103c81821f9"
    assert one.serial == "C82C6590321B9029"


def test_a_machine_id_is_a_random_uuid_without_dashes() -> None:
    for number in range(20):
        found = identities.identity(SEED, f"a-{number}").machine_id
        assert len(found) == 32
        assert found[12] == "4"
        assert found[16] in "89ab"


def test_the_builder_reads_what_the_orchestrator_has_written() -> None:
    text = identities.derive(SEED, ["a", "b"])
    assert read_identities(text) == {name: identities.identity(SEED, name) for name in "ab"}
    assert json.loads(text).keys() == {"a", "b"}


@pytest.mark.parametrize(
    ("content", "seed"),
    [(SEED, SEED), (SEED + b"\n", SEED), (SEED + b"\r\n", SEED), (b"\n" + SEED, b"\n" + SEED)],
)
def test_a_line_end_after_a_seed_is_not_part_of_it(content: bytes, seed: bytes) -> None:
    assert identities.seed_of(content) == seed


@pytest.mark.parametrize("content", [b"", b"\n" * 40, SEED[1:], bytes(4097)])
def test_what_is_too_short_or_too_long_is_no_seed(content: bytes) -> None:
    with pytest.raises(UsageError, match=r"^--identity-seed: the file has"):
        identities.seed_of(content)
