"""What `store` and `clean` wish of the agents stock and sweep, which work on the store's volume."""

import dataclasses
import typing

from orchestrator.shared.json_reader import Natural

#: `list`: tell what is there; `gc`: collect the garbage; `verify`: compare with the checksums;
#: `optimise`: store files with the same content once.
Action = typing.Literal["list", "gc", "verify", "optimise"]


@dataclasses.dataclass(frozen=True)
class Sweep:
    """One call of the agent sweep; `everything` removes folders of earlier versions, too."""

    everything: bool


@dataclasses.dataclass(frozen=True)
class Wish:
    """One call of the agent.

    `gc` releases results first: all but the `keep` newest, those older than `older_than` seconds,
    and the oldest until the others have at most `max_size` bytes; None sets no limit. `verify` with
    `repair` fetches what has changed from the `substituters` too, whose keys are `trusted_keys`.
    """

    action: Action
    keep: Natural | None = None
    older_than: Natural | None = None
    max_size: Natural | None = None
    repair: bool = False
    substituters: tuple[str, ...] = ()
    trusted_keys: tuple[str, ...] = ()
