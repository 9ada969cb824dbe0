"""The caller's side as run.sh describes it: the only place that reads its environment variables."""

import pathlib
import typing

from orchestrator.ask.request import Caller


def read_caller(environment: typing.Mapping[str, str]) -> Caller:
    """What run.sh says of the caller's side in `environment`."""

    def number(name: str) -> int:
        text = environment.get(name, "")
        return int(text) if text.isdigit() else 0

    return Caller(
        cwd=pathlib.PurePosixPath(environment.get("NIXOS_IMAGE_CWD") or "/"),
        home=pathlib.PurePosixPath(environment.get("NIXOS_IMAGE_HOME") or "/"),
        root=pathlib.PurePosixPath(environment.get("NIXOS_IMAGE_ROOT") or "/"),
        columns=number("NIXOS_IMAGE_COLUMNS"),
        out_kib=number("NIXOS_IMAGE_OUT_KIB") if environment.get("NIXOS_IMAGE_OUT_KIB") else None,
        socket=environment.get("NIXOS_IMAGE_SOCKET") or "/var/run/docker.sock",
        run=environment.get("NIXOS_IMAGE_RUN") or "manual",
        source=environment.get("NIXOS_IMAGE_SOURCE", ""),
        sparse=environment.get("NIXOS_IMAGE_SPARSE") != "0",
        ca_bundle=environment.get("NIXOS_IMAGE_CA_BUNDLE", ""),
    )
