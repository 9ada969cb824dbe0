"""Deals the slow tests: CI takes one share of them with each commit, `--all` takes all."""

import collections
import dataclasses
import itertools
from collections.abc import Iterable, Iterator

import pytest


@dataclasses.dataclass(frozen=True)
class Share:
    """Share `number` of `of`, counted from 1."""

    number: int = 1
    of: int = 1

    def part[Case](self, cases: Iterable[Case]) -> Iterator[Case]:
        """Yield the share's part of the cases; together the shares have each case once."""
        return itertools.islice(cases, self.number - 1, None, self.of)


def share(text: str) -> Share:
    """Read K/N; raises `ValueError`."""
    number, slash, of = text.partition("/")
    found = Share(int(number), int(of))
    if not slash or not 1 <= found.number <= found.of:
        raise ValueError(text)
    return found


def left_to_others(items: list[pytest.Item], mine: Share) -> list[pytest.Item]:
    """Return the items of other shares: slow tests.

    The cases of a function are a family, and so are all functions with a single case. A function
    with the fixture `mine` deals its cases itself. Each family begins with another share, or the
    first share would have the most.
    """
    families: dict[str, list[pytest.Item]] = collections.defaultdict(list)
    for item in items:
        if (
            isinstance(item, pytest.Function)
            and item.get_closest_marker("slow")
            and "mine" not in item.fixturenames
        ):
            families[f"{item.path}::{item.originalname}"].append(item)
    left: list[pytest.Item] = []
    several = [family for family in families.values() if len(family) > 1]
    single = [family[0] for family in families.values() if len(family) == 1]
    for number, family in enumerate([*several, single]):
        turned = Share((mine.number - 1 + number) % mine.of + 1, mine.of)
        kept = set(turned.part(family))
        left += [item for item in family if item not in kept]
    return left
