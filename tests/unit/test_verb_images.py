"""The verb `images`: what a registry's name is."""

import pytest

from orchestrator.shared.errors import UsageError
from orchestrator.verbs.images import VERB
from tests.unit.requests import CALLER


@pytest.mark.parametrize(
    "name", ["https://ghcr.io/me", "ghcr.io/me/", "GHCR.io/me", "ghcr.io/Me", ".x", ""]
)
def test_what_is_no_registry_is_told_before_images_are_made(name: str) -> None:
    with pytest.raises(UsageError, match=r"is not the name of a registry"):
        VERB.ask(["push", name], CALLER)


def test_a_registry_has_a_port_and_a_path() -> None:
    asked = VERB.ask(["push", "127.0.0.1:5000/me/x"], CALLER)
    assert VERB.orders(asked)[-1] == ["push_images", "127.0.0.1:5000/me/x"]
