"""Asks the questions of `init` on the caller's terminal."""

import typing
from collections.abc import Callable, Sequence

import questionary

from orchestrator.blueprint import checks
from orchestrator.blueprint.checks import Check
from orchestrator.blueprint.tables import BOARDS, SERVICES
from orchestrator.blueprint.writer import Answers
from orchestrator.shared.errors import InterruptedRunError

#: Services that are offered as chosen already.
USUAL = ("mdns",)

#: Last choice of the keys: none of these.
ANOTHER = "another key"


def ask(
    known: Answers,
    keys: Sequence[str],
    is_public_key: Callable[[str], bool],
    **how: typing.Any,  # noqa: ANN401 - prompt_toolkit's
) -> Answers:
    """Ask for everything; what `known` has is proposed, its machine and its keys are taken.

    `keys` are the public keys to choose from, `is_public_key` judges a typed one. `how` goes to
    prompt_toolkit: its input and output. Raises `InterruptedRunError` if the person gives up.
    """
    ask = _Asker(how)
    board = known.board or ask.one(
        "Which machine?", {f"{row.title}": name for name, row in BOARDS.items()}
    )
    host = ask.text("Its name in the network?", known.host_name, checks.host)
    user = ask.text("Who logs in?", known.user, checks.user)
    chosen = known.keys or ask.keys(keys, is_public_key)
    zone = ask.text("Time zone?", known.time_zone, checks.optional(checks.zone))
    ssid, country, password, file = known.ssid, known.country, "", known.password_file
    if BOARDS[board].wifi and not ssid:
        ssid = ask.text("Wi-Fi network (empty: none)?", "", checks.optional(checks.network))
    if ssid and not file:
        password = ask.password("Its password (empty: an open network)?", checks.password)
    if ssid and not country:
        country = ask.text(
            "Country, two letters (DE, US …; empty: none)?", "", checks.optional(checks.country)
        )
    services = known.services or ask.some(
        "What runs on it, besides SSH?",
        {row.title: name for name, row in SERVICES.items() if name != "ssh"},
        USUAL,
    )
    return Answers(
        board=board,
        host_name=host,
        user=user,
        keys=tuple(chosen),
        time_zone=zone,
        locale=known.locale,
        keymap=known.keymap,
        ssid=ssid,
        country=country,
        password_file=file,
        password=password,
        services=tuple(services),
    )


class _Asker:
    """Asks single questions; `how` goes to prompt_toolkit."""

    def __init__(self, how: dict[str, typing.Any]) -> None:
        self._how = how

    def one(self, question: str, choices: dict[str, str]) -> str:
        """Return one of the values of `choices`."""
        found: str = self._answer(
            questionary.select(question, choices=_choices(choices), **self._how)
        )
        return found

    def some(self, question: str, choices: dict[str, str], first: Sequence[str]) -> list[str]:
        """Return some values of `choices`; those in `first` are chosen already."""
        found: list[str] = self._answer(
            questionary.checkbox(question, choices=_choices(choices, first), **self._how)
        )
        return found

    def text(self, question: str, default: str, check: Check) -> str:
        """Return the answer; an empty one means `default`, if there is one."""
        shown = f"{question} ({default})" if default else question
        good = checks.optional(check) if default else check
        found: str = self._answer(questionary.text(shown, validate=good, **self._how))
        return found.strip() or default

    def password(self, question: str, check: Check) -> str:
        found: str = self._answer(questionary.password(question, validate=check, **self._how))
        return found

    def keys(self, known: Sequence[str], is_public_key: Callable[[str], bool]) -> list[str]:
        """Return the keys that may log in: some of `known`, or one that is typed."""
        if known:
            shown = {_short(key): key for key in known}
            found = self.some("Which SSH keys may log in?", {**shown, ANOTHER: ""}, known[:1])
            if found and "" not in found:
                return found
            found = [key for key in found if key]
        else:
            found = []

        def check(text: str) -> bool | str:
            told = "not a public SSH key: the line of a .pub file (ssh-keygen -t ed25519 makes one)"
            return is_public_key(text) or told

        return [*found, self.text("A public SSH key (ssh-ed25519 AAAA…)?", "", check)]

    @staticmethod
    def _answer(question: questionary.Question) -> typing.Any:  # noqa: ANN401 - the kind's own
        try:
            return question.unsafe_ask()
        except (KeyboardInterrupt, EOFError):
            raise InterruptedRunError("interrupted: nothing was written") from None


def _choices(choices: dict[str, str], first: Sequence[str] = ()) -> list[questionary.Choice]:
    return [
        questionary.Choice(title, value, checked=value in first) for title, value in choices.items()
    ]


def _short(key: str) -> str:
    """Return what a person recognises a key by: its file's name, or its type and comment."""
    kind, _, rest = key.partition(" ")
    return key if not rest else f"{kind} …{rest[-24:]}"
