"""Events of agents: one structlog event per line on stdout, JSON for the orchestrator.

Without the orchestrator, events are plain text for a person.
"""

import os
import sys
import typing

from orchestrator.shared.text import plain
from orchestrator.shared.variables import read

if typing.TYPE_CHECKING:
    import structlog


def configure(service: str) -> None:
    """Configure structlog once per process; `service` is the compose service's name."""
    import structlog  # the orchestrator, which imports agents' modules, saves this time

    # The orchestrator sets NIXOS_IMAGE_LOG=json; otherwise a person reads the container's log.
    as_json = read(os.environ, "NIXOS_IMAGE_LOG") == "json"
    renderer = structlog.processors.JSONRenderer() if as_json else _plain
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stdout),
        cache_logger_on_first_use=False,
    )
    structlog.contextvars.bind_contextvars(service=service)


def emit(event: str, *, level: str = "info", **fields: object) -> None:
    """Print `event` (a name in kebab case) with its `fields`.

    The field `message`, if any, is the text for a person.
    """
    import structlog

    getattr(structlog.get_logger(), level)(event, **fields)
    sys.stdout.flush()


def _plain(_logger: object, _method: str, event: "structlog.typing.EventDict") -> str:
    """Render for a person: the message if there is one, else the event's name and fields."""
    service, name, level = event.pop("service", "agent"), event.pop("event"), event.pop("level")
    event.pop("kind", None)
    event.pop("code", None)
    hint, detail = event.pop("hint", ""), event.pop("detail", "")
    detail = "\n".join(filter(None, [event.pop("excerpt", ""), detail, event.pop("trace", "")]))
    text = event.pop("message", None) or " ".join(
        [name, *(f"{key}={value}" for key, value in event.items())]
    )
    sign = {"error": "error: ", "warning": "warning: "}.get(level, "")
    lines = [
        f"{service}: {sign}{text}",
        *([detail] if detail else []),
        *([f"{service}: try: {hint}"] if hint else []),
    ]
    return plain("\n".join(lines))
