"""The one door to the Engine's API: every call has a limit, every failure is a `DockerError`.

An engine can hang in two ways: it takes a call and never answers, or it falls silent in the middle
of a stream (a log, a wait). The first ends with the call's own limit. A stream may be silent for
hours, so whoever reads one asks the engine now and then whether it is still there.
"""

import contextlib
import math
import os
import queue
import threading
import time
import typing
from collections.abc import Callable, Iterable, Iterator

import docker.errors  # noqa: TID251 - this is the door
import requests
import urllib3
from docker.api import APIClient  # noqa: TID251
from docker.constants import MINIMUM_DOCKER_API_VERSION  # noqa: TID251

from orchestrator.shared.errors import DockerError, UsageError

#: What Docker's own tools take where nothing else is named.
SOCKET = "unix:///var/run/docker.sock"

#: Time (seconds) that an engine has for an answer, if the caller's environment names no other.
PATIENCE = "NIXOS_IMAGE_PATIENCE"
PATIENCE_SECONDS = 60.0

#: So many times longer may take what works on disks: starting, stopping, removing.
HEAVY = 3

#: What an engine has for an answer (seconds) once it has left a call unanswered: a run's end asks
#: it again, and must not wait for each answer.
LOST_SECONDS = 2.0

#: Connections that are kept: more than containers of a run, each of which has its log followed.
POOL = 32

Json = dict[str, typing.Any]


class SilentEngineError(DockerError):
    """The engine has left a call unanswered."""


class RefusedError(DockerError):
    """The engine has answered that it does not do it."""


class NotThereError(RefusedError):
    """What was asked for is not there (any more)."""


class Client(APIClient):  # type: ignore[misc]  # the library has no types
    """docker-py's client, with each request's limit from the thread that makes it."""

    def __init__(self, version: str, limits: threading.local) -> None:
        """`version` is the API's; `limits` has the seconds of its requests, or None."""
        base_url = os.environ.get("DOCKER_HOST") or SOCKET
        super().__init__(base_url=base_url, version=version, max_pool_size=POOL)
        self._limits = limits
        # The proxies of the environment are for the containers.
        self.trust_env = False

    def request(self, *arguments: object, **options: object) -> requests.Response:
        """Make a request within its thread's limit."""
        limits = {"timeout": self._limits.seconds}
        return typing.cast("requests.Response", super().request(*arguments, **options | limits))


class Api:
    """Calls to one engine, by whichever threads.

    `patience` is the seconds that it has for an answer. The connection is made by the first call.
    """

    def __init__(self, patience: float | None = None) -> None:
        """Without `patience` it is as long as the environment says."""
        self.patience = patience or _patience()
        self._lost = False
        self._lock = threading.Lock()
        self._connected: Client | None = None
        self._limits = threading.local()

    def call[Answer](
        self,
        what: str,
        ask: Callable[[Client], Answer],
        *,
        times: float = 1,
    ) -> Answer:
        """What `ask` gets from docker-py's client, at most `times` the patience later.

        Raises `SilentEngineError` after that, `NotThereError` for what is not there, or another
        `DockerError`, each of which begins with `what`.
        """
        limit = LOST_SECONDS if self._lost else times * self.patience
        try:
            answer = self._told(what, limit, lambda: ask(self._client()))
        except SilentEngineError:
            self._lost = True
            raise
        self._lost = False
        return answer

    def close(self) -> None:
        """Close the connections that are not at work; another call would open one again."""
        with self._lock:
            if self._connected:
                self._connected.close()

    def ping(self) -> None:
        """Ask whether the engine is there; raises `SilentEngineError` if it is not."""
        self.call("ping", lambda client: client.ping())

    def stream[Item](
        self,
        what: str,
        ask: Callable[[Client], Iterable[Item]],
        patience: float = math.inf,
    ) -> Iterator[Item]:
        """The items of a stream, until it ends or for `patience` seconds.

        Whoever reads it is never deaf to signals; while it is silent, the engine is asked whether
        it is still there.
        """
        items: queue.Queue[Item | DockerError | None] = queue.Queue()

        def take() -> None:
            for item in ask(self._client()):
                items.put(item)

        def read() -> None:
            try:
                # However long it is silent: the other end of the queue sees to limits.
                self._told(what, math.inf, take)
            except DockerError as error:
                items.put(error)
            finally:
                items.put(None)

        self.ping()  # finds out the API's version, within its limit
        threading.Thread(target=read, daemon=True).start()
        until = time.monotonic() + patience
        while (left := until - time.monotonic()) > 0:
            try:
                item = items.get(timeout=min(left, self.beat))
            except queue.Empty:
                self.ping()
                continue
            if item is None:
                return
            if isinstance(item, DockerError):
                raise item
            yield item

    @property
    def beat(self) -> float:
        """How long (seconds) nothing may be heard until the engine is asked."""
        return min(LOST_SECONDS if self._lost else self.patience / 2, 20)

    def _client(self) -> Client:
        with self._lock:
            if self._connected is None:
                # Not by the library itself: it would swallow a signal's error meanwhile.
                with Client(MINIMUM_DOCKER_API_VERSION, self._limits) as first:
                    version = str(first.version(api_version=False)["ApiVersion"])
                self._connected = Client(version, self._limits)
            return self._connected

    def _told[Answer](self, what: str, limit: float, ask: Callable[[], Answer]) -> Answer:
        """What `ask` returns, each of its requests within `limit`; its failures as our errors."""
        self._limits.seconds = None if limit == math.inf else limit
        try:
            return ask()
        except docker.errors.NotFound as error:
            raise NotThereError(f"{what}: {_words(error)}") from error
        except docker.errors.APIError as error:
            raise RefusedError(f"{what}: {_words(error)}") from error
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
            if isinstance(error, requests.exceptions.Timeout) or "timed out" in str(error):
                raise SilentEngineError(
                    f"Docker does not answer: {what} for {limit:.0f} s",
                    hint="restart Docker, then ./run.sh clean",
                ) from error
            raise DockerError(
                f"{what}: Docker cannot be reached: {_cause(error)}", hint="is Docker running?"
            ) from error
        except docker.errors.DockerException as error:
            raise DockerError(f"{what}: {error}") from error


@contextlib.contextmanager
def forgiven() -> Iterator[None]:
    """For what may be gone already, or has ended: only an engine that is silent is an error."""
    try:
        yield
    except SilentEngineError:
        raise
    except DockerError:
        return


def _patience() -> float:
    """What the environment says; raises `UsageError` for what is no time."""
    text = os.environ.get(PATIENCE) or str(PATIENCE_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < math.inf:
        raise UsageError(f"{PATIENCE}: {text!r} is no number of seconds")
    return seconds


def _words(error: docker.errors.APIError) -> str:
    lines = [line.strip() for line in str(error.explanation or error).splitlines() if line.strip()]
    return lines[-1] if lines else f"HTTP status {error.status_code}"


def _cause(error: BaseException) -> BaseException:
    """The error that others were raised from, or that they carry."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error
