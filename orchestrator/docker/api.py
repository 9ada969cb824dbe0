"""The only module that calls the Docker Engine's API: with time limits and `DockerError`s.

An engine can hang in three ways: it never answers a call, it sends the answer a byte at a time, or
it stops in the middle of a stream (a log, a wait). Each call has a time limit. A stream may be
silent for hours, so its reader pings the engine periodically.
"""

import contextlib
import math
import os
import queue
import threading
import time
import typing
from collections.abc import Callable, Iterable, Iterator

import docker.errors  # noqa: TID251 - the only module that may
import requests
import urllib3
from docker.api import APIClient  # noqa: TID251
from docker.constants import MINIMUM_DOCKER_API_VERSION  # noqa: TID251

from orchestrator.docker.answers import LostEngineError, Version, odd, one_line, read
from orchestrator.shared.errors import DockerError, UsageError

#: Default socket of Docker's tools.
SOCKET = "unix:///var/run/docker.sock"

#: Environment variable with the time limit for an answer, and its default in seconds.
PATIENCE = "NIXOS_IMAGE_PATIENCE"
PATIENCE_SECONDS = 60.0

#: Factor of the time limit for calls that work on disks: starting, stopping, removing.
HEAVY = 3

#: Time limit in seconds of a build, a pull and what else takes as long; run.sh has the same.
LONG_SECONDS = 7200

#: Time limit in seconds after an unanswered call, so that the teardown, which makes many calls,
#: does not wait the full limit each time.
LOST_SECONDS = 2.0

#: Seconds beyond the time limit for the whole answer: a limit of docker-py's ends a read before.
SPARE_SECONDS = 0.5

#: Number of items of a stream that are read ahead.
AHEAD = 64

#: Size of the connection pool: more than a run's containers, because each log needs a connection.
POOL = 32


class SilentEngineError(LostEngineError):
    """The engine did not answer a call."""


class RefusedError(DockerError):
    """The engine has refused a call."""


class NotThereError(RefusedError):
    """The container, image, network or volume does not exist."""


class Client(APIClient):  # type: ignore[misc]  # the library has no types
    """docker-py's client, with a time limit per thread."""

    def __init__(self, version: str, limits: threading.local) -> None:
        """`version` is the API's; `limits.seconds` is the time limit of requests, or None."""
        base_url = os.environ.get("DOCKER_HOST") or SOCKET
        super().__init__(base_url=base_url, version=version, max_pool_size=POOL)
        self._limits = limits
        # Proxy variables in the environment are for containers, not for the engine's API.
        self.trust_env = False

    def request(self, *arguments: object, **options: object) -> requests.Response:
        """Make a request with the thread's time limit."""
        limits = {"timeout": self._limits.seconds}
        return typing.cast("requests.Response", super().request(*arguments, **options | limits))


class Api:
    """Calls to one engine; usable from several threads.

    `patience` is the time limit for an answer in seconds. The first call connects.
    """

    def __init__(self, patience: float | None = None) -> None:
        """Without `patience`, the time limit comes from the environment."""
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
        """Call `ask` with docker-py's client, with `times` the time limit; return its result.

        Raises `SilentEngineError` at the time limit, `NotThereError` for a missing object, or
        another `DockerError`; the message begins with `what`.
        """
        limit = LOST_SECONDS if self._lost else times * self.patience
        try:
            answer = self._within(what, limit, lambda: ask(self._client()))
        except SilentEngineError:
            self._lost = True
            raise
        self._lost = False
        return answer

    def answer[Kind](
        self,
        what: str,
        kind: type[Kind],
        ask: Callable[[Client], object],
        *,
        times: float = 1,
    ) -> Kind:
        """Call `ask` as `call` does; return its result as `kind`, or raise `OddAnswerError`."""
        return self.call(what, lambda client: read(kind, ask(client), what), times=times)

    def close(self) -> None:
        """Close idle connections; another call would open one again."""
        with self._lock:
            if self._connected:
                self._connected.close()

    def ping(self) -> None:
        """Check that the engine answers; raises `SilentEngineError` if not."""
        self.call("ping", lambda client: client.ping())

    def stream[Item](
        self,
        what: str,
        ask: Callable[[Client], Iterable[Item]],
        patience: float = math.inf,
        *,
        whole: bool = False,
    ) -> Iterator[Item]:
        """Yield the items of a stream, until it ends or for `patience` seconds.

        With `whole` its end is needed: `SilentEngineError` is raised without. Signal handlers can
        run while it waits. If the stream is silent, the engine is pinged.
        """
        # What nobody reads yet must not fill the memory: an image has more than that.
        items: queue.Queue[Item | DockerError | None] = queue.Queue(AHEAD)

        def take() -> None:
            for item in ask(self._client()):
                items.put(item)

        def read() -> None:
            try:
                # No time limit here: the reader of the queue pings the engine.
                self._told(what, math.inf, take)
            except DockerError as error:
                items.put(error)
            finally:
                items.put(None)

        self.ping()  # connects and negotiates the API version, with a time limit
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
        if whole:
            raise silent(what, patience)

    @property
    def beat(self) -> float:
        """Seconds of silence after which the engine is pinged."""
        return min(LOST_SECONDS if self._lost else self.patience / 2, 20)

    def _client(self) -> Client:
        with self._lock:
            if self._connected is None:
                # docker-py's own version detection would swallow a signal's exception.
                with Client(MINIMUM_DOCKER_API_VERSION, self._limits) as first:
                    said = first.version(api_version=False)
                version = read(Version, said, "docker version")["ApiVersion"]
                self._connected = Client(version, self._limits)
            return self._connected

    def _within[Answer](self, what: str, limit: float, ask: Callable[[], Answer]) -> Answer:
        """Call `ask` in a thread of its own, with a time limit for the whole answer.

        The limit of docker-py is one for each read: an engine that sends a byte now and then would
        hold a call for ever. Signal handlers can run meanwhile.
        """
        answers: queue.SimpleQueue[Answer | BaseException] = queue.SimpleQueue()

        def run() -> None:
            try:
                answers.put(self._told(what, limit, ask))
            except BaseException as error:  # noqa: BLE001 - it is raised where the call was made
                answers.put(error)

        threading.Thread(target=run, daemon=True).start()
        try:
            answer = answers.get(timeout=limit + SPARE_SECONDS)
        except queue.Empty:
            raise silent(what, limit) from None
        if isinstance(answer, BaseException):
            raise answer
        return answer

    def _told[Answer](self, what: str, limit: float, ask: Callable[[], Answer]) -> Answer:
        """Call `ask` with a time limit per request; convert its exceptions to our errors."""
        self._limits.seconds = None if limit == math.inf else limit
        try:
            return ask()
        except docker.errors.NotFound as error:
            raise NotThereError(f"{what}: {_words(error)}") from error
        except docker.errors.APIError as error:
            raise RefusedError(f"{what}: {_words(error)}") from error
        except requests.exceptions.InvalidJSONError as error:
            raise odd(what, error) from error
        except (requests.exceptions.RequestException, urllib3.exceptions.HTTPError) as error:
            if isinstance(error, requests.exceptions.Timeout) or "timed out" in str(error):
                raise silent(what, limit) from error
            raise DockerError(
                f"{what}: Docker cannot be reached: {one_line(str(_cause(error)))}",
                hint="check that Docker is running",
            ) from error
        except docker.errors.DockerException as error:
            raise DockerError(f"{what}: {one_line(str(error))}") from error
        except DockerError:
            raise
        except Exception as error:
            # docker-py has stumbled over an answer that is no answer of Docker's.
            raise odd(what, repr(error)) from error


def silent(what: str, limit: float) -> SilentEngineError:
    """Return the error for a call that was not answered within `limit` seconds."""
    return SilentEngineError(
        f"Docker does not answer: {what} for {limit:.0f} s",
        hint="restart Docker, then ./run.sh clean",
    )


@contextlib.contextmanager
def forgiven() -> Iterator[None]:
    """Ignore Docker's refusals, such as of an object that is gone already.

    An engine that is silent, or that cannot be understood, has refused nothing.
    """
    try:
        yield
    except LostEngineError:
        raise
    except DockerError:
        return


def _patience() -> float:
    """Read the time limit from the environment; raises `UsageError` if it is invalid."""
    text = os.environ.get(PATIENCE) or str(PATIENCE_SECONDS)
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0
    if not 0 < seconds < math.inf:
        raise UsageError(f"{PATIENCE}: {text!r} is not a number of seconds", hint="60, for example")
    return seconds


def _words(error: docker.errors.APIError) -> str:
    lines = [line.strip() for line in str(error.explanation or error).splitlines() if line.strip()]
    return one_line(lines[-1]) if lines else f"HTTP status {error.status_code}"


def _cause(error: BaseException) -> BaseException:
    """Return the innermost cause of an exception."""
    while (inner := error.__cause__ or error.__context__) is not None:
        error = inner
    return error
