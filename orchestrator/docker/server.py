"""The server of this engine's binary cache: a container that outlives runs."""

import ipaddress
import typing

from orchestrator.docker.answers import Container
from orchestrator.docker.api import HEAVY, Api, Client, NotThereError
from orchestrator.docker.containers import Containers, signals_wait
from orchestrator.docker.labels import LABEL, PROJECT, STORE_VOLUME
from orchestrator.shared.errors import DockerError

#: Name of the container. It has no label of a run, so it is no dead run's; `down` removes it.
SERVER = f"{PROJECT}-cache"

#: Port in the container.
INNER = "5000/tcp"

#: The server's program (`agents/cache_server.py`), in the orchestrator's image.
ENTRY, WORDS = ["python3"], ["-m", "orchestrator.agents.cache_server"]

#: Limits of memory in bytes and of processes: the server has a thread for each connection.
MEMORY, PROCESSES = 128 << 20, 256


class Server:
    """Starts and finds the server; a base class of `Engine`."""

    def __init__(self, api: Api) -> None:
        """`api` is the engine's API."""
        self.api = api

    def serve(self, image: str, listen: str, port: int) -> None:
        """Serve the cache at address and port of the engine's host, in place of an earlier server.

        `image` is the id of the orchestrator's image. Raises `DockerError` if the port is taken.
        """
        self.stop_server()

        def make(client: Client) -> object:
            return client.create_container(
                image,
                WORDS,
                name=SERVER,
                entrypoint=ENTRY,
                user="builder",
                labels={LABEL: "true"},
                ports=[int(INNER.partition("/")[0])],
                host_config=client.create_host_config(
                    binds={STORE_VOLUME: {"bind": "/nix", "mode": "ro"}},
                    cap_drop=["ALL"],
                    log_config={"Type": "none"},
                    mem_limit=MEMORY,
                    pids_limit=PROCESSES,
                    port_bindings={INNER: (listen, port)},
                    read_only=True,
                    restart_policy={"Name": "unless-stopped"},
                    security_opt=["no-new-privileges:true"],
                ),
            )

        with signals_wait():
            self.api.call(f"creating {SERVER}", make, times=HEAVY)
        try:
            self.api.call(f"starting {SERVER}", lambda client: client.start(SERVER), times=HEAVY)
        except DockerError as error:
            self.stop_server()
            raise DockerError(
                f"the cache cannot be served at {_place(listen, port)}: {error}",
                hint=refused_hint(str(error), listen),
            ) from error

    def stop_server(self) -> bool:
        """Remove the server; whether there was one."""
        there = self._server() is not None
        typing.cast("Containers", self).remove(SERVER)
        return there

    def server_url(self) -> str:
        """Return the URL at which the cache is served, or ""."""
        found = self._server()
        if not found or not found["State"]["Running"]:
            return ""
        ports = (found["NetworkSettings"].get("Ports") or {}).get(INNER) or []
        return next((f"http://{_place(one['HostIp'], int(one['HostPort']))}" for one in ports), "")

    def _server(self) -> Container | None:
        try:
            return typing.cast("Containers", self).inspect([SERVER])[0]
        except NotThereError:
            return None


def _place(listen: str, port: int) -> str:
    """Return ADDRESS:PORT; an IPv6 address in brackets."""
    sixth = ipaddress.ip_address(listen or "0.0.0.0").version == 6  # noqa: S104 - told only
    return f"[{listen}]:{port}" if sixth else f"{listen}:{port}"


def refused_hint(problem: str, listen: str) -> str:
    """Return what to do if `problem` keeps the engine from publishing a port at `listen`."""
    if "cannot assign requested address" in problem:
        return (
            f"the engine's host has no address {listen}; ip -brief address there shows what it has"
        )
    return "--port N takes another port, --listen ADDRESS another address of the engine's host"
