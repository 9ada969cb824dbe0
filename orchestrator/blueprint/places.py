"""Time zones and countries, as the package tzdata lists them."""

import importlib.resources


def zones() -> list[str]:
    """The names of all time zones, older names too."""
    return _data("zones").split()


def countries() -> list[str]:
    """The codes of all countries (ISO 3166): two capital letters."""
    lines = _data("zoneinfo/iso3166.tab").splitlines()
    return [line.partition("\t")[0] for line in lines if not line.startswith("#")]


def _data(name: str) -> str:
    return importlib.resources.files("tzdata").joinpath(name).read_text("utf-8")
