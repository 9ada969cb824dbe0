"""Probes Nix' sandbox with a derivation that reports what a build can see.

Nix may silently build without a sandbox, and in a container parts of the sandbox may be missing. So
each run builds the probe.
"""

import dataclasses
import typing

from orchestrator.agents import events
from orchestrator.agents.builder import effective
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.failure import AgentError
from orchestrator.shared import command
from orchestrator.shared.architectures import this_system

#: User of the builder in its container's /etc/passwd.
USER = "builder"

#: Program for chmod, because a shell has no such builtin; and its place in the sandbox of the
#: probe, below no folder that --option extra-sandbox-paths may show.
BUSYBOX = "/usr/bin/busybox"
SHOWN = "/nixos-image-probe/busybox"

#: Content of the probe derivation's input file.
INPUT = "input"

#: Builder script of the probe. It always fails, so Nix runs it each time and keeps only its input.
#: Builder of the derivation that probes Nix' sandbox: prints its user, network interfaces, names in
#: /etc/passwd, and whether it can change its input (to the same bytes). POSIX shell and busybox.
SCRIPT = f"""
while read -r key value rest; do
  if [ "$key" = Uid: ]; then echo "user $value"; fi
done < /proc/self/status
while IFS=: read -r name rest; do echo "name $name"; done < /etc/passwd
while read -r name rest; do
  case $name in *:*) echo "interface ${{name%%:*}}" ;; esac
done < /proc/net/dev
read -r text < "$input"
tool={SHOWN}
[ -x $tool ] || tool={BUSYBOX}
if ! [ -x $tool ] || [ "$text" != {INPUT} ]; then
  echo "inputs untried"
elif {{ $tool chmod u+w "$input" || echo {INPUT} > "$input"; }} 2> /dev/null; then
  $tool chmod a-w "$input"
  echo "inputs writable"
else
  echo "inputs read-only"
fi
echo end
exit 1
"""

NAME = "nixos-image-sandbox-probe"

EXPRESSION = (
    f'derivation {{ name = "{NAME}"; system = builtins.currentSystem; builder = "/bin/sh";'
    ' args = [ "-c" (builtins.getEnv "PROBE") ];'
    f' input = builtins.toFile "{NAME}-input" "{INPUT}\\n"; }}'
)

PROBE_SECONDS = 60

ALL_WELL = "Nix' sandbox works: builds see no network and no file but their inputs, read-only"


@dataclasses.dataclass(frozen=True)
class View:
    """What a build sees: its user id, names in /etc/passwd, network interfaces.

    `inputs` says whether the build can change its inputs: `read-only`, `writable` or `untried`.
    """

    user: str
    names: tuple[str, ...]
    interfaces: tuple[str, ...]
    inputs: str

    def leaks(self, container_user: str) -> list[str]:
        """List leaks of the sandbox in words; `container_user` is the builder's user."""
        found = {
            "it runs as root": self.user == "0",
            "it sees the container's users": container_user in self.names,
            "it sees a network": set(self.interfaces) != {"lo"},
            "it can change its inputs": self.inputs != "read-only",
        }
        return [words for words, true in found.items() if true]


def obtain(nix: Nix, container_user: str, *, strict: bool) -> Nix:
    """Return `nix` with the sandbox if all settings together allow it, and report the result.

    Raises `AgentError` where it does not, or not for all builds, and `strict` asks for it.
    """
    wanted = dataclasses.replace(nix, settings=dataclasses.replace(nix.settings, sandbox=True))
    asked = effective.ask(wanted).weakens()
    if strict and asked:  # before the probe, for which Nix would run the caller's programs, too
        raise _refusal(f"is not for all builds: {asked}")
    view, cause = examine(wanted, container_user)
    if view and not cause and not asked:
        fields = {"sandbox": True, **_fields(view)}
        events.emit("sandbox", message=ALL_WELL, **fields)
        return dataclasses.replace(wanted, isolated=True)
    if strict:
        raise _refusal(f"does not work here: {cause}")
    used = nix if cause else wanted
    view, _ = look(used)
    events.emit(
        "sandbox",
        level="warning",
        message=f"builds are not sandboxed: {asked or cause}",
        sandbox=False,
        cause=asked or cause,
        **(_fields(view) if view else {}),
    )
    return used


def _refusal(problem: str) -> AgentError:
    return AgentError(
        f"Nix' sandbox {problem}",
        hint="omit --strict, which forbids builds without a sandbox",
        kind="host",
    )


def examine(nix: Nix, container_user: str) -> tuple[View | None, str]:
    """Build the probe with `nix`; return its view, if any, and why it is no sandbox, or ""."""
    view, cause = look(nix)
    if view and (leaks := view.leaks(container_user)):
        cause = f"a build inside is not alone: {', '.join(leaks)}"
    return view, cause


def look(nix: Nix) -> tuple[View | None, str]:
    """Build the probe with `nix`; return its view, or None and the cause of the failure."""
    paths = (*nix.settings.sandbox_paths, f"{SHOWN}={BUSYBOX}")
    shown = dataclasses.replace(nix.settings, sandbox_paths=paths)
    words = ["build", "--impure", "--no-link", "--print-build-logs", "--expr", EXPRESSION]
    probe = dataclasses.replace(nix, settings=shown)
    try:
        done = probe.ask(words, PROBE_SECONDS, {"PROBE": SCRIPT})
    except command.SlowCommandError:
        return None, f"the probe's build hung for {PROBE_SECONDS} s"
    return parse(nix.hide(done.stderr.decode(errors="replace")))


def parse(said: str) -> tuple[View | None, str]:
    """Parse the view in Nix' log `said`, or return None and the last error."""
    prefix = f"{NAME}> "
    lines = [line.removeprefix(prefix) for line in said.splitlines() if line.startswith(prefix)]
    if "end" not in lines:
        errors = [line.split("error: ", 1)[1] for line in said.splitlines() if "error: " in line]
        return None, errors[-1] if errors else "Nix printed no cause"
    found: dict[str, list[str]] = {"user": [], "name": [], "interface": [], "inputs": []}
    for line in lines[: lines.index("end")]:
        key, _, value = line.partition(" ")
        found.setdefault(key, []).append(value)
    user, inputs = ("".join(found[key]) for key in ("user", "inputs"))
    return View(user, tuple(found["name"]), tuple(found["interface"]), inputs), ""


def _fields(view: View) -> dict[str, typing.Any]:
    return {"system": this_system(), **dataclasses.asdict(view)}
