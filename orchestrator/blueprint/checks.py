"""Checks single values of an appliance.toml, for questions and options of `init`."""

import typing
from collections.abc import Callable

import pydantic

from orchestrator.blueprint import fields, model
from orchestrator.image import wifi
from orchestrator.shared.spec import SpecError

#: Checks an answer: returns True, or what is wrong with it.
Check = Callable[[str], bool | str]


def fits(kind: typing.Any) -> Check:  # noqa: ANN401 - a type
    """Return a check: the answer is a value of the type `kind`."""
    adapter: pydantic.TypeAdapter[str] = pydantic.TypeAdapter(kind)

    def check(text: str) -> bool | str:
        try:
            adapter.validate_python(text)
        except pydantic.ValidationError as error:
            return str(error.errors()[0]["msg"]).removeprefix("Value error, ")
        return True

    return check


def _field(table: type[fields.Table], name: str) -> Check:
    field = table.model_fields[name]
    return fits(typing.Annotated[field.annotation, *field.metadata])


#: Checks a time zone, a locale, a keyboard, a country.
zone = _field(model.Image, "time_zone")
locale = _field(model.Image, "locale")
keymap = _field(model.Image, "keymap")
country = _field(model.Wifi, "country")


def optional(check: Check) -> Check:
    """Return a check that takes an empty answer, too."""
    return lambda text: not text or check(text)


def network(text: str) -> bool | str:
    """Check a network's name."""
    return _wifi(text, "")


def password(text: str) -> bool | str:
    """Check a network's password."""
    return _wifi("x", text)


def _wifi(ssid: str, password: str) -> bool | str:
    try:
        wifi.check(ssid, password, "wifi")
    except SpecError as error:
        return str(error).removeprefix("wifi: ")
    return True


#: Checks a host name, a user's name.
host = fits(fields.HostName)
user = fits(fields.UserName)
