"""Checks single values of an appliance.toml, for questions and options of `init`."""

import typing
from collections.abc import Callable

import pydantic

from orchestrator.blueprint import fields
from orchestrator.blueprint.reader import why
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
            return why(error.errors()[0])
        return True

    return check


#: Checks a time zone, a locale, a keyboard, a country.
zone = fits(fields.TimeZone)
locale = fits(fields.Locale)
keymap = fits(fields.Keymap)
country = fits(fields.Country)


def optional(check: Check) -> Check:
    """Return a check that takes an empty answer, too."""
    return lambda text: not text or check(text)


def network(text: str) -> bool | str:
    """Check a network's name."""
    return _wifi(text, "", "a name has at most 32 bytes")


def password(text: str) -> bool | str:
    """Check a network's password."""
    return _wifi("x", text, "8 to 63 ASCII characters are needed")


def _wifi(ssid: str, password: str, needed: str) -> bool | str:
    # A prompt shows one line, also on a terminal of 40 columns.
    try:
        wifi.check(ssid, password, "wifi")
    except SpecError:
        return needed
    return True


#: Checks a host name, a user's name.
host = fits(fields.HostName)
user = fits(fields.UserName)
