"""The rules of `doctor` that the orchestrator examines: one function for each.

A function takes what was seen of the host (`sight.look`) and returns a finding, or None if the rule
does not concern this host. The functions are pure.
"""

import re
from collections.abc import Callable

from orchestrator.decide.plan import BUILD_DATA_BYTES
from orchestrator.decide.sight import FORBIDDING, Sight
from orchestrator.shared.architectures import MACHINES
from orchestrator.shared.constants import MIB
from orchestrator.shared.errors import EmulationError, HostError
from orchestrator.shared.rules import RULES, Finding, State

#: Versions of Linux from which containers can use binfmt_misc (flag F), emulated programs see their
#: argv[0] (flag P), and a user namespace can have its own binfmt_misc.
USABLE, ARGV0, PRIVATE = (4, 8), (5, 12), (6, 7)

#: Lowest versions of the engines.
DOCKER, PODMAN = (20, 10), (4, 0)

#: Memory in MiB below which builds fail, or only small ones succeed.
LITTLE_MEMORY, SOME_MEMORY = 1024, 2048

INODES = 150_000

#: Largest difference in seconds between this host's clock and a server's.
SKEW_SECONDS = 300


def _finding(rule: str, state: State, found: str) -> Finding:
    return Finding(RULES[rule], state, found)


def version(text: str) -> tuple[int, int]:
    """Return the first two numbers of a version: "6.18.44-fc" -> (6, 18)."""
    numbers = [int(number) for number in re.findall("[0-9]{1,9}", text)[:2]]
    return (numbers[0], numbers[1]) if len(numbers) == 2 else (0, 0)


def engine_version(seen: Sight) -> Finding:
    """Docker, or Podman, is new enough."""
    name, lowest = ("Podman", PODMAN) if seen.podman else ("Docker", DOCKER)
    state: State = "ok" if version(seen.info.version) >= lowest else "fails"
    return _finding("engine-version", state, f"{name} {seen.info.version}")


def engine_kind(seen: Sight) -> Finding:
    """Tell the kind of engine."""
    security = " ".join(seen.info.security)
    kinds = [
        *(["Podman"] if seen.podman else []),
        *(["Docker Desktop"] if "Desktop" in seen.info.system else []),
        "rootless" if "rootless" in security else "rootful",
        *(["userns-remap"] if seen.info.remaps else []),
    ]
    system = f" on {seen.info.system}" if seen.info.system else ""
    return _finding("engine-kind", "ok", f"{', '.join(kinds)}{system}")


def architecture(seen: Sight) -> Finding:
    """The engine's CPU is one that builders exist for: the engine's, not run.sh's computer's."""
    state: State = "ok" if seen.info.architecture in MACHINES else "fails"
    return _finding("architecture", state, seen.info.architecture or "unknown")


def kernel(seen: Sight) -> Finding:
    """The engine's kernel is new enough."""
    found = version(seen.info.kernel)
    if found < USABLE:
        return _finding("kernel", "fails", f"Linux {seen.info.kernel}")
    if found < ARGV0:
        text = f"Linux {seen.info.kernel}: no argv[0] for emulated programs, no private emulation"
        return _finding("kernel", "warns", text)
    if found < PRIVATE:
        return _finding("kernel", "warns", f"Linux {seen.info.kernel}: no private emulation")
    return _finding("kernel", "ok", f"Linux {seen.info.kernel}")


def private_emulation(seen: Sight) -> Finding | None:
    """A builder can have its own binfmt_misc."""
    if not seen.facts or not seen.plan or seen.plan.mode == "native":
        return None
    if seen.facts.no_private:
        return _finding("private-emulation", "warns", seen.facts.no_private)
    return _finding("private-emulation", "ok", "the builder can have its own binfmt_misc")


def user_namespaces(seen: Sight) -> Finding | None:
    """No sysctl forbids user namespaces, where private emulation does not work."""
    if not seen.forbidding or (seen.facts and not seen.facts.no_private):
        return None
    found = ", ".join(f"{name.replace('/', '.')} = {FORBIDDING[name]}" for name in seen.forbidding)
    return _finding("user-namespaces", "warns", found)


def emulation(seen: Sight) -> Finding | None:
    """Some mode of emulation works for the target."""
    if isinstance(seen.problem, EmulationError):
        return _finding("target-emulation", "fails", str(seen.problem))
    if not seen.plan:
        return None
    return _finding("target-emulation", "ok", f"{seen.plan.mode}: {seen.plan.reason}")


def plan(seen: Sight) -> Finding | None:
    """Nothing else keeps the orchestrator from a plan; other rules tell of CPU and disk."""
    if not isinstance(seen.problem, HostError):
        return None
    known = architecture(seen).state == "fails" or disk_engine(seen).state == "fails"
    return None if known else _finding("plan", "fails", str(seen.problem))


def sandbox(seen: Sight) -> Finding:
    """Nix' sandbox is possible; the builder tries it in each run."""
    if seen.podman:
        return _finding("sandbox", "warns", "Podman's own profile forbids sethostname")
    return _finding("sandbox", "ok", "the engine allows it")


def kvm(seen: Sight) -> Finding:
    """The engine's kernel has KVM."""
    if seen.kvm:
        return _finding("kvm", "ok", "/dev/kvm")
    return _finding("kvm", "warns", "the engine's kernel has no KVM")


def memory(seen: Sight) -> Finding:
    """The engine has memory for an evaluation and a guest."""
    found = seen.info.memory // MIB
    state: State = "fails" if found < LITTLE_MEMORY else "warns" if found < SOME_MEMORY else "ok"
    return _finding("memory", state, f"{found} MiB")


def disk_engine(seen: Sight) -> Finding:
    """Docker's data has space for a build."""
    state: State = "fails" if seen.disk < BUILD_DATA_BYTES else "ok"
    return _finding("disk-engine", state, f"{seen.disk // MIB} MiB free")


def inodes(seen: Sight) -> Finding | None:
    """Docker's data has inodes for a store, where their number is fixed."""
    if seen.inodes is None:
        return None
    return _finding("inodes", "fails" if seen.inodes < INODES else "ok", f"{seen.inodes} free")


def storage_driver(seen: Sight) -> Finding:
    """Images share layers."""
    driver = seen.info.driver or "unknown"
    return _finding("storage-driver", "warns" if driver == "vfs" else "ok", driver)


def letter_case(seen: Sight) -> Finding:
    """Volumes tell upper from lower case."""
    if seen.tells_case:
        return _finding("letter-case", "ok", "volumes tell File from file")
    return _finding("letter-case", "fails", "volumes take File for file")


def file_sharing(seen: Sight) -> Finding:
    """The orchestrator, which asks this, has reached the engine by the mounted socket."""
    return _finding("file-sharing", "ok", f"Docker's socket is mounted from {seen.socket}")


def certificates(seen: Sight) -> Finding | None:
    """No server's certificate is refused."""
    refused = [
        f"{one['url']}: {one['problem']}"
        for one in seen.servers.values()
        if "certificate" in one["problem"].lower()
    ]
    if refused:
        return _finding("certificates", "fails", "; ".join(refused))
    good = any(
        one["url"].startswith("https:") and not one["problem"] for one in seen.servers.values()
    )
    return _finding("certificates", "ok", "they are trusted") if good else None


def _server(rule: str, name: str, seen: Sight) -> Finding:
    answer = seen.servers.get(name)
    if not answer:
        return _finding(rule, "unknown", seen.unasked)
    if answer["problem"]:
        return _finding(
            rule, RULES[rule].level, f"{answer['url']}: {answer['problem']}".lstrip(": ")
        )
    return _finding(rule, "ok", f"{answer['url']} answers")


def network_debian(seen: Sight) -> Finding:
    """Debian's archive answers."""
    return _server("network-debian", "debian", seen)


def network_nixpkgs(seen: Sight) -> Finding:
    """The server of the pinned nixpkgs answers."""
    return _server("network-nixpkgs", "nixpkgs", seen)


def network_cache(seen: Sight) -> Finding:
    """NixOS' binary cache answers."""
    return _server("network-cache", "cache", seen)


def clock(seen: Sight) -> Finding:
    """The engine's clock agrees with the servers'; the middle one of their times counts."""
    skews = sorted(one["skew"] for one in seen.servers.values() if one["skew"] is not None)
    if not skews:
        return _finding("clock", "unknown", "no server tells its time")
    seconds = skews[len(skews) // 2]
    where = "ahead of" if seconds > 0 else "behind"
    text = f"{abs(seconds)} s {where} the servers' clocks" if seconds else "as the servers' clocks"
    return _finding("clock", "fails" if abs(seconds) > SKEW_SECONDS else "ok", text)


def leftovers(seen: Sight) -> Finding:
    """No dead run has left anything."""
    if seen.dead:
        return _finding("leftovers", "warns", f"left by {', '.join(seen.dead)}")
    return _finding("leftovers", "ok", "none")


#: The function of each rule that the orchestrator examines.
EXAMINED: dict[str, Callable[[Sight], Finding | None]] = {
    "engine-version": engine_version,
    "engine-kind": engine_kind,
    "architecture": architecture,
    "kernel": kernel,
    "private-emulation": private_emulation,
    "user-namespaces": user_namespaces,
    "target-emulation": emulation,
    "sandbox": sandbox,
    "kvm": kvm,
    "memory": memory,
    "disk-engine": disk_engine,
    "inodes": inodes,
    "storage-driver": storage_driver,
    "letter-case": letter_case,
    "file-sharing": file_sharing,
    "certificates": certificates,
    "network-debian": network_debian,
    "network-nixpkgs": network_nixpkgs,
    "network-cache": network_cache,
    "clock": clock,
    "leftovers": leftovers,
    "plan": plan,
}


def examine(seen: Sight) -> list[Finding]:
    """Apply all rules."""
    found = (rule(seen) for rule in EXAMINED.values())
    return [one for one in found if one]
