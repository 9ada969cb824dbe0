"""Reports each container's privileges: planned (compose.yaml) and actual (docker inspect)."""

import dataclasses
import datetime
import hashlib
import json
import pathlib
import re
import typing

from orchestrator.docker import seccomp
from orchestrator.docker.answers import Container
from orchestrator.shared.constants import MIB
from orchestrator.shared.json_reader import JsonError, read_json


@dataclasses.dataclass(frozen=True)
class Receipt:
    """Privileges of one container.

    `image` is a digest (planned: a name), `mounts` are `SOURCE:TARGET[:ro]`, `devices` are paths on
    the engine's host; `memory` (MiB) and `pids` are limits or None; `seconds` is its run time
    (planned: None).
    """

    service: str
    image: str
    user: str
    capabilities: tuple[str, ...]
    dropped: tuple[str, ...]
    security: tuple[str, ...]
    networks: tuple[str, ...]
    mounts: tuple[str, ...]
    devices: tuple[str, ...]
    read_only: bool
    memory: int | None
    pids: int | None
    seconds: float | None

    def describe(self) -> str:
        """Describe the privileges for a person."""
        limits = [f"{self.pids} processes"] if self.pids else []
        limits += [f"{self.memory} MiB of memory"] if self.memory else []
        rows = {
            "image": self.image,
            "user": self.user or "the image's",
            "capabilities": ", ".join(self.capabilities) or "none",
            "security": ", ".join(self.security),
            "networks": ", ".join(self.networks) or "none",
            "mounts": ", ".join(self.mounts) or "none",
            "devices": ", ".join(self.devices) or "none",
            "root": "read-only" if self.read_only else "writable",
            "limits": ", ".join(limits) or "none",
        }
        return "\n".join([self.service, *(f"  {key:<13} {text}" for key, text in rows.items())])


def planned(service: str, config: dict[str, typing.Any]) -> Receipt:
    """Return the planned privileges of `service`; `config` is `docker compose config`."""
    found = config["services"][service]
    networks = [
        f"{name} (internal)" if config["networks"][name].get("internal") else name
        for name in found.get("networks", {})
    ]
    mode = found.get("network_mode", "none")
    return Receipt(
        service=service,
        image=found["image"],
        user=found.get("user", ""),
        capabilities=tuple(found.get("cap_add", [])),
        dropped=tuple(found.get("cap_drop", [])),
        security=tuple(_option(one) for one in found.get("security_opt", [])),
        networks=tuple(networks or ([] if mode == "none" else [mode])),
        mounts=tuple(
            f"{one['source']}:{one['target']}{':ro' if one.get('read_only') else ''}"
            for one in found.get("volumes", [])
        ),
        devices=tuple(one["source"] for one in found.get("devices", [])),
        read_only=found.get("read_only", False),
        memory=int(found.get("mem_limit", 0)) // MIB or None,
        pids=int(found.get("pids_limit", 0)) or None,
        seconds=None,
    )


def actual(service: str, container: Container) -> Receipt:
    """Return the actual privileges of a container, from its `docker inspect`."""
    host, state, config = container["HostConfig"], container["State"], container["Config"]
    security = [_option(one) for one in host.get("SecurityOpt") or []]
    if host.get("MaskedPaths") == []:
        security.append("systempaths=unconfined")
    seconds = None
    if state.get("StartedAt") and state.get("FinishedAt"):
        began = datetime.datetime.fromisoformat(state["StartedAt"])
        # The builder may still be running when it has announced its images.
        now = datetime.datetime.now(datetime.UTC)
        end = now if state["Running"] else datetime.datetime.fromisoformat(state["FinishedAt"])
        seconds = round((end - began).total_seconds(), 3)
    networks = [one for one in container["NetworkSettings"].get("Networks") or {} if one != "none"]
    return Receipt(
        service=service,
        image=container["Image"],
        user=config.get("User") or "root",
        capabilities=tuple(_capability(one) for one in host.get("CapAdd") or []),
        dropped=tuple(host.get("CapDrop") or []),
        security=tuple(security),
        networks=tuple(sorted(networks)),
        mounts=tuple(
            sorted(
                f"{one.get('Name') or one.get('Source')}:{one['Destination']}"
                f"{'' if one.get('RW') else ':ro'}"
                for one in container["Mounts"]
            )
        ),
        devices=tuple(str(one["PathOnHost"]) for one in host.get("Devices") or []),
        read_only=bool(host.get("ReadonlyRootfs")),
        memory=(host.get("Memory") or 0) // MIB or None,
        pids=host.get("PidsLimit") or None,
        seconds=seconds,
    )


def _capability(name: str) -> str:
    return name.removeprefix("CAP_")


def _is_ours(text: str) -> bool:
    """Whether `text` is our seccomp profile, however it is written."""
    try:
        found = read_json(text, "profile")
    except JsonError:
        return False
    return bool(found == json.loads(seccomp.PROFILE.read_text()))


def _option(option: str) -> str:
    """Shorten a security option: Docker and Compose print the whole seccomp profile."""
    key, _, value = re.sub("[:=]", "=", option, count=1).partition("=")
    if key != "seccomp":
        return key if value in {"", "true"} else f"{key}={value}"
    name = "orchestrator/docker/seccomp.json"
    if value.startswith("{"):
        if not _is_ours(value):
            name = f"sha256={hashlib.sha256(value.encode()).hexdigest()}"
    elif pathlib.PurePosixPath(value).name != seccomp.PROFILE.name:
        name = value
    return f"seccomp={name}"
