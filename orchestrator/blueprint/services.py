"""Types of `[services]` in an appliance.toml, made from the table of services."""

import typing

import pydantic

from orchestrator.blueprint.fields import FreeText, Line, Many, Path, Port, Table, about
from orchestrator.blueprint.tables import SERVICES, ServiceOption


def _option_type(option: ServiceOption) -> typing.Any:  # noqa: ANN401 - a type
    match option.type:
        case "port":
            return Port
        case "boolean":
            return bool
        case "strings":
            return typing.Annotated[tuple[Line, ...], Many]
        case "choice":
            return typing.Literal[option.words]
        case "secret":
            return Path
    return FreeText


def _service_type(name: str) -> typing.Any:  # noqa: ANN401 - a type
    """Return the type of a service's value: a table of its options."""
    fields: dict[str, typing.Any] = {
        "enable": (bool, pydantic.Field(default=True, description="false switches it off"))
    }
    for option, row in SERVICES[name].options.items():
        kind = _option_type(row)
        fields[option.replace("-", "_")] = (kind | None, about(row.help))
    return pydantic.create_model(
        f"Service_{name.replace('-', '_')}",
        __base__=Table,
        __doc__=SERVICES[name].title,
        **fields,
    )


SERVICE_TYPES = {name: _service_type(name) for name in SERVICES}


def _table_of(value: object) -> object:
    """Take `ssh = true` for `ssh = { enable = true }`."""
    return {"enable": value} if isinstance(value, bool) else value


_SERVICES: dict[str, typing.Any] = {
    name.replace("-", "_"): (
        typing.Annotated[
            kind | None,
            pydantic.BeforeValidator(_table_of, json_schema_input_type=bool | kind),
        ],
        about(SERVICES[name].title),
    )
    for name, kind in SERVICE_TYPES.items()
}

if typing.TYPE_CHECKING:
    Services = Table
else:
    Services = pydantic.create_model(
        "Services",
        __base__=Table,
        __doc__="`[services]`: what runs on the machine; `NAME = true`, or a table with options.",
        **_SERVICES,
    )
