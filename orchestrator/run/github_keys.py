"""Fetches the keys that an appliance.toml names as `github:NAME`, in a container with a network."""

import json

from orchestrator.ask.request import Appliance, Caller
from orchestrator.blueprint.marks import GITHUB
from orchestrator.blueprint.nix import key_sources
from orchestrator.decide.blueprint_modules import github_file
from orchestrator.docker.engine import Engine
from orchestrator.docker.images import Images
from orchestrator.docker.workspace import Workspace
from orchestrator.shared.errors import NetworkError
from orchestrator.shared.paths import CA_BUNDLE
from orchestrator.shared.progress import Progress

SERVER = "https://github.com"


def fetch(
    engine: Engine, workspace: Workspace, appliance: Appliance, who: Caller, progress: Progress
) -> None:
    """Put the keys of GitHub's users beside the caller's files; `keys` of the modules reads them.

    Raises `NetworkError` if GitHub cannot be asked.
    """
    sources = [one for one in key_sources(appliance.blueprint) if one.startswith(GITHUB)]
    if not sources:
        return
    names = [one.removeprefix(GITHUB) for one in sources]
    images = Images(engine, "aarch64", workspace.logs, own=who.image)
    try:
        images.want(("builder",))
        images.wait(("builder",), progress)
    finally:
        images.close()
    progress.to("keys", f"asking {SERVER} for the keys of {', '.join(names)}")
    variables = {"SSL_CERT_FILE": CA_BUNDLE} if who.ca_bundle else {}
    command = ["orchestrator.agents.github_keys", SERVER, *names]
    said = json.loads(engine.run_service("builder", command, variables=variables))
    if problem := said.get("problem", ""):
        raise NetworkError(
            f"{appliance.path.name}: {GITHUB}{problem}",
            hint="save the keys to a file and name that instead",
        )
    for name in names:
        place = github_file(who, name)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(str(said.get("keys", {}).get(name, "")))
