"""Asks Debian's security tracker, from a container with a network: the orchestrator has none."""

import typing

from orchestrator.ask.request import Caller
from orchestrator.decide import advisories
from orchestrator.decide.advisories import Finding
from orchestrator.docker.answers import read_text
from orchestrator.docker.engine import Engine
from orchestrator.shared.errors import NetworkError
from orchestrator.shared.json_reader import FreeText, JsonError
from orchestrator.shared.paths import CA_BUNDLE, ROOT

HINT = "--tracker URL names a mirror of the document; proxies are taken from https_proxy"


class Said(typing.TypedDict):
    """What `agents/advisories.py` prints; `known` is the tracker's own document."""

    problem: typing.NotRequired[FreeText]
    known: typing.NotRequired[dict[str, typing.Any]]


def look(engine: Engine, who: Caller, tracker: str) -> list[Finding]:
    """Return the vulnerabilities of the packages that our images install or unpack.

    Raises `NetworkError` if the document at `tracker` cannot be fetched or has another form.
    """
    packages = [*engine.packages(), *advisories.locked(ROOT)]
    sources = sorted({one.source for _place, one in packages})
    variables = {"SSL_CERT_FILE": CA_BUNDLE} if who.ca_bundle else {}
    command = ["orchestrator.agents.advisories", tracker, *sources]
    said = read_text(
        Said, engine.run_service("builder", command, variables=variables), "the tracker"
    )
    problem = said.get("problem", "")
    try:
        found = advisories.find(packages, said.get("known", {}))
    except JsonError as error:
        found, problem = [], str(error)
    if problem:
        raise NetworkError(
            f"Debian's security tracker cannot be asked ({tracker}): {problem}", hint=HINT
        )
    return found
