"""Reads run.sh's environment variables, which describe the caller's side."""

import pathlib
import typing

from orchestrator.ask.request import Caller
from orchestrator.shared.display import Ci
from orchestrator.shared.text import whole
from orchestrator.shared.variables import read

#: Values of NIXOS_IMAGE_CI.
CIS: dict[str, Ci] = {"github": "github", "gitlab": "gitlab"}


def read_caller(environment: typing.Mapping[str, str]) -> Caller:
    """Return the caller's facts that run.sh has put into `environment`."""
    out_kib = read(environment, "NIXOS_IMAGE_OUT_KIB")
    return Caller(
        cwd=pathlib.PurePosixPath(read(environment, "NIXOS_IMAGE_CWD")),
        home=pathlib.PurePosixPath(read(environment, "NIXOS_IMAGE_HOME")),
        root=pathlib.PurePosixPath(read(environment, "NIXOS_IMAGE_ROOT")),
        columns=whole(read(environment, "NIXOS_IMAGE_COLUMNS")) or 0,
        out_kib=whole(out_kib) or 0 if out_kib else None,
        socket=read(environment, "NIXOS_IMAGE_SOCKET"),
        run=read(environment, "NIXOS_IMAGE_RUN"),
        source=read(environment, "NIXOS_IMAGE_SOURCE"),
        sparse=read(environment, "NIXOS_IMAGE_SPARSE") != "0",
        ca_bundle=read(environment, "NIXOS_IMAGE_CA_BUNDLE"),
        image=read(environment, "NIXOS_IMAGE_ORCHESTRATOR"),
        computer=read(environment, "NIXOS_IMAGE_COMPUTER"),
        configuration=read(environment, "NIXOS_CONFIG"),
        nixpkgs=read(environment, "NIXOS_IMAGE_NIXPKGS"),
        searched=read(environment, "NIX_PATH"),
        appliance=read(environment, "NIXOS_IMAGE_APPLIANCE"),
        user=read(environment, "NIXOS_IMAGE_USER"),
        zone=read(environment, "NIXOS_IMAGE_ZONE"),
        agent_keys=read(environment, "NIXOS_IMAGE_AGENT_KEYS"),
        rows=whole(read(environment, "NIXOS_IMAGE_ROWS")) or 0,
        color=not read(environment, "NO_COLOR"),
        ci=CIS.get(read(environment, "NIXOS_IMAGE_CI"), ""),
        asks=read(environment, "NIXOS_IMAGE_ASKS") == "1",
        findings=read(environment, "NIXOS_IMAGE_FINDINGS"),
        appliance_text=read(environment, "NIXOS_IMAGE_APPLIANCE_TEXT"),
        builders=read(environment, "NIXOS_IMAGE_BUILDERS"),
    )
