"""How a run shows itself: the style of its progress, and how much it says."""

import dataclasses
import typing

#: `auto` is `live` on a terminal, else `plain`.
Style = typing.Literal["auto", "plain", "live", "json"]

#: `quiet`: only warnings, errors and results; `verbose`: also the log lines of builds.
Detail = typing.Literal["quiet", "normal", "verbose"]


@dataclasses.dataclass(frozen=True)
class Display:
    """What the options `--progress`, `-q` and `-v` say."""

    style: Style = "auto"
    detail: Detail = "normal"


#: Service whose marks for fold groups and errors the output has; empty: none.
Ci = typing.Literal["", "github", "gitlab"]


@dataclasses.dataclass(frozen=True)
class Terminal:
    """Where the caller reads the output: `columns` is 0 without a terminal that can redraw."""

    columns: int = 0
    rows: int = 0
    color: bool = True
    ci: Ci = ""
