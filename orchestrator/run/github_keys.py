"""Fetches the keys that an appliance.toml names as `github:NAME`, in a container with a network."""

import typing

from orchestrator.ask.github import SERVER, keys_of
from orchestrator.ask.request import Appliance, Caller
from orchestrator.blueprint.marks import GITHUB
from orchestrator.docker.answers import read_text
from orchestrator.docker.engine import Engine
from orchestrator.docker.images import Images
from orchestrator.docker.workspace import Workspace
from orchestrator.shared.errors import NetworkError
from orchestrator.shared.json_reader import FreeText
from orchestrator.shared.paths import CA_BUNDLE
from orchestrator.shared.progress import Progress


class Said(typing.TypedDict):
    """What `agents/github_keys.py` prints."""

    problem: typing.NotRequired[FreeText]
    keys: typing.NotRequired[dict[str, FreeText]]


def fetch(
    engine: Engine,
    workspace: Workspace,
    names: tuple[str, ...],
    appliance: Appliance,
    who: Caller,
    progress: Progress,
) -> None:
    """Put the keys of GitHub's users `names`, whom `appliance` names, to their place (`keys_of`).

    Raises `NetworkError` if GitHub cannot be asked.
    """
    if not names:
        return
    images = Images(engine, "aarch64", workspace.logs, own=who.image)
    try:
        images.want(("builder",))
        images.wait(("builder",), progress)
    finally:
        images.close()
    progress.to("keys", f"asking {SERVER} for the keys of {', '.join(names)}")
    variables = {"SSL_CERT_FILE": CA_BUNDLE} if who.ca_bundle else {}
    command = ["orchestrator.agents.github_keys", SERVER, *names]
    said = read_text(Said, engine.run_service("builder", command, variables=variables), "the keys")
    if problem := said.get("problem", ""):
        raise NetworkError(
            f"{appliance.path.name}: {GITHUB}{problem}",
            hint="save the keys to a file and name that instead",
        )
    for name in names:
        place = keys_of(who, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(said.get("keys", {}).get(name, ""))
