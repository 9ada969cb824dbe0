"""Nix' effective settings: those of the run, overridden by --nix-conf, then by --option.

Nix reports them itself, run with the same command line and environment as a build.
"""

import dataclasses
import re
import typing

from orchestrator.agents import events
from orchestrator.agents.builder.nix import Nix, answer
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.agents.failure import AgentError
from orchestrator.shared.architectures import SYSTEMS
from orchestrator.shared.nix_options import CACHE
from orchestrator.shared.text import public

#: Settings that are recorded with their values: those that the run sets, and others that affect
#: what is built, from what, and how it is isolated. None of them holds a secret. Of other changed
#: settings only the names are recorded.
TOLD = frozenset(
    {
        *(line.partition(" = ")[0] for line in Settings(tuple(SYSTEMS), restricted=True).lines()),
        *("allow-import-from-derivation", "build-hook", "builders", "cores", "fallback"),
        *("filter-syscalls", "hashed-mirrors", "pure-eval", "require-sigs"),
        *(
            "sandbox-build-dir",
            "sandbox-paths",
            "ssl-cert-file",
            "substitute",
            "system",
            "system-features",
        ),
    }
)

SECONDS = 60

#: Settings by which programs run as the builder's user outside of the sandbox: before, after or in
#: place of a build, within Nix itself, by an evaluation (`builtins.exec`), or as another store; and
#: the one by which a flake may set all of them. What they do with the probe says nothing of other
#: builds.
PROGRAMS = (
    *("accept-flake-config", "allow-unsafe-native-code-during-evaluation", "diff-hook"),
    *("external-builders", "plugin-files", "post-build-hook", "pre-build-hook", "store"),
)

#: Experimental feature by which a derivation without a fixed output gets a network, if it asks.
IMPURE = "impure-derivations"

#: Nix' own build-hook, which asks the machines of `builders`; or none.
NIX_HOOK = re.compile(r"((/\S+/)?nix __build-remote)?")


@dataclasses.dataclass(frozen=True)
class Effective:
    """Settings by name (`told`), names of `others` that are changed, and of all `changed` ones."""

    told: dict[str, str]
    others: tuple[str, ...]
    changed: frozenset[str]

    def weakens(self) -> str:
        """Return which settings allow builds outside of the sandbox here; empty if none."""
        stores = self.told.get("substituters", "").split()
        features = self.told.get("experimental-features", "").split()
        found = {
            f"sandbox = {self.told.get('sandbox', '')}": self.told.get("sandbox") != "true",
            "sandbox-fallback = true": self.told.get("sandbox-fallback") != "false",
            f"builders = {self.told.get('builders', '')}": "builders" in self.changed,
            f"build-hook = {self.told.get('build-hook', '')}": not NIX_HOOK.fullmatch(
                self.told.get("build-hook", "")
            ),
            **{name: name in self.changed for name in PROGRAMS},
            **{f"substituters = {one}": not CACHE.fullmatch(one) for one in stores},
            f"experimental-features = {IMPURE}": IMPURE in features,
        }
        words = [word for word, true in found.items() if true]
        return f"--option or --nix-conf says {', '.join(words)}" if words else ""


def ask(nix: Nix) -> Effective:
    """Ask `nix` for its settings; raises `AgentError`."""
    done = nix.ask(["config", "show", "--json"], SECONDS)
    if done.code != 0:
        said = nix.hide(done.last)
        raise AgentError(f"Nix' settings cannot be read: {said}", kind="build")
    values = answer(done.text, _values)
    changed = {name for name, (value, default) in values.items() if value != default}
    return Effective(
        {name: values[name][0] for name in sorted(TOLD & values.keys())},
        tuple(sorted(changed - TOLD)),
        frozenset(changed),
    )


def _values(found: dict[str, typing.Any]) -> dict[str, tuple[str, str]]:
    """Return value and default of each setting."""
    return {name: (_text(one["value"]), _text(one["defaultValue"])) for name, one in found.items()}


def tell(nix: Nix) -> Effective:
    """Report the settings that `nix` will build with to the orchestrator, and return them."""
    found = ask(nix)
    events.emit("settings", message=None, settings=found.told, others=found.others)
    return found


def _text(value: typing.Any) -> str:  # noqa: ANN401 - JSON
    """Return a value as in nix.conf, without passwords."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, list):
        return " ".join(map(_text, value))
    if isinstance(value, dict):
        return " ".join(f"{key}={_text(one)}" for key, one in sorted(value.items()))
    return public(str(value))
