"""Tests each rule of `doctor` that the orchestrator examines, with good and with bad hosts."""

import dataclasses
import http.server
import threading
import time
from collections.abc import Iterator

import pytest

from orchestrator.agents import debian, survey
from orchestrator.decide.examine import EXAMINED, examine, version
from orchestrator.decide.host import HostFacts
from orchestrator.decide.plan import make_plan
from orchestrator.decide.sight import Answer, Sight
from orchestrator.docker.engine import EngineInfo
from orchestrator.shared.errors import EmulationError, HostError
from orchestrator.shared.rules import RULES, State, verdict
from tests.unit.requests import DEMO

GIB = 1 << 30

INFO = EngineInfo(
    "x86_64", "6.18.44-fc", "28.5.2", 16 * GIB, False, system="Debian", driver="overlay2"
)
FACTS = HostFacts(
    system="x86_64-linux",
    natively=frozenset({"x86_64-linux"}),
    kernel="6.18",
    engine="28.5",
    runs=frozenset({"x86_64-linux"}),
    no_private="",
    no_shared="",
    memory=16 * GIB,
    data_free=50 * GIB,
    out_free=None,
)


def answer(name: str, problem: str = "", skew: int | None = 0) -> Answer:
    return {"url": f"https://{name}.org", "problem": problem, "skew": skew}


SERVERS: dict[str, Answer] = {name: answer(name) for name in ("debian", "nixpkgs", "cache")}

GOOD = Sight(
    info=INFO,
    podman=False,
    socket="/var/run/docker.sock",
    disk=50 * GIB,
    inodes=10_000_000,
    tells_case=True,
    kvm=True,
    facts=FACTS,
    plan=make_plan(DEMO, FACTS),
    servers=SERVERS,
)


def seen(**changes: object) -> Sight:
    return dataclasses.replace(GOOD, **changes)  # type: ignore[arg-type]


def info(**changes: object) -> Sight:
    return seen(info=dataclasses.replace(INFO, **changes))  # type: ignore[arg-type]


def servers(**changes: object) -> Sight:
    return seen(servers={**SERVERS, **changes})


NO_PRIVATE = dataclasses.replace(FACTS, no_private="mount is forbidden")
UNSHARED = seen(facts=NO_PRIVATE, forbidding=("kernel/unprivileged_userns_clone",))

#: Rule, host, expected state, part of what was found; a state of None: the rule says nothing.
CASES: list[tuple[str, Sight, State | None, str]] = [
    ("engine-version", GOOD, "ok", "Docker 28.5.2"),
    ("engine-version", info(version="20.10.24+dfsg1"), "ok", "20.10.24"),
    ("engine-version", info(version="19.03.1"), "fails", "19.03.1"),
    ("engine-version", dataclasses.replace(info(version="4.0"), podman=True), "ok", "Podman 4.0"),
    (
        "engine-version",
        dataclasses.replace(info(version="3.4"), podman=True),
        "fails",
        "Podman 3.4",
    ),
    ("engine-kind", GOOD, "ok", "rootful on Debian"),
    ("engine-kind", info(security=("name=rootless",), system=""), "ok", "rootless"),
    (
        "engine-kind",
        info(system="Docker Desktop", remaps=True),
        "ok",
        "Docker Desktop, rootful, use",
    ),
    ("engine-kind", seen(podman=True), "ok", "Podman, rootful"),
    ("architecture", GOOD, "ok", "x86_64"),
    ("architecture", info(architecture="armv7l"), "fails", "armv7l"),
    ("kernel", GOOD, "ok", "Linux 6.18"),
    ("kernel", info(kernel="6.7.0"), "ok", "6.7"),
    ("kernel", info(kernel="6.6.99"), "warns", "no private emulation"),
    ("kernel", info(kernel="5.11.0"), "warns", "argv[0]"),
    ("kernel", info(kernel="4.4.0-19041-Microsoft"), "fails", "4.4.0"),
    ("private-emulation", GOOD, "ok", "its own"),
    ("private-emulation", seen(facts=NO_PRIVATE), "warns", "mount is forbidden"),
    ("private-emulation", seen(facts=None, plan=None), None, ""),
    ("user-namespaces", GOOD, None, ""),
    ("user-namespaces", UNSHARED, "warns", "kernel.unprivileged_userns_clone = 0"),
    ("user-namespaces", dataclasses.replace(UNSHARED, facts=FACTS), None, ""),
    ("target-emulation", GOOD, "ok", "private: the builder"),
    (
        "target-emulation",
        seen(plan=None, problem=EmulationError("none works")),
        "fails",
        "none works",
    ),
    ("target-emulation", seen(plan=None), None, ""),
    ("sandbox", GOOD, "ok", "allows"),
    ("sandbox", seen(podman=True), "warns", "sethostname"),
    ("kvm", GOOD, "ok", "/dev/kvm"),
    ("kvm", seen(kvm=False), "warns", "no KVM"),
    ("memory", GOOD, "ok", "16384 MiB"),
    ("memory", info(memory=(2 * GIB) - 1), "warns", "2047 MiB"),
    ("memory", info(memory=GIB - 1), "fails", "1023 MiB"),
    ("disk-engine", GOOD, "ok", "51200 MiB"),
    ("disk-engine", seen(disk=2 * GIB - 1), "fails", "2047 MiB"),
    ("inodes", GOOD, "ok", "10000000"),
    ("inodes", seen(inodes=149_999), "fails", "149999"),
    ("inodes", seen(inodes=None), None, ""),
    ("storage-driver", GOOD, "ok", "overlay2"),
    ("storage-driver", info(driver="vfs"), "warns", "vfs"),
    ("letter-case", GOOD, "ok", ""),
    ("letter-case", seen(tells_case=False), "fails", "File for file"),
    ("file-sharing", GOOD, "ok", "/var/run/docker.sock"),
    ("certificates", GOOD, "ok", "trusted"),
    (
        "certificates",
        servers(cache=answer("c", "CERTIFICATE_VERIFY_FAILED")),
        "fails",
        "https://c.org",
    ),
    ("certificates", seen(servers={}), None, ""),
    ("network-debian", GOOD, "ok", "https://debian.org answers"),
    ("network-debian", servers(debian=answer("d", "no route")), "fails", "https://d.org: no route"),
    (
        "network-debian",
        servers(debian={**answer("d", "apt has none"), "url": ""}),
        "fails",
        "apt has",
    ),
    ("network-debian", seen(servers={}, unasked="no bridge"), "unknown", "no bridge"),
    ("network-nixpkgs", GOOD, "ok", "answers"),
    ("network-nixpkgs", servers(nixpkgs=answer("n", "refused")), "warns", "refused"),
    ("network-cache", GOOD, "ok", "answers"),
    ("network-cache", servers(cache=answer("c", "refused")), "warns", "refused"),
    ("clock", GOOD, "ok", "as the servers' clocks"),
    ("clock", servers(debian=answer("d", skew=-86400), cache=answer("c", skew=2)), "ok", "as the"),
    ("clock", seen(servers={"cache": answer("c", skew=301)}), "fails", "301 s ahead of"),
    ("clock", seen(servers={"cache": answer("c", skew=-301)}), "fails", "301 s behind"),
    ("clock", seen(servers={"cache": answer("c", skew=-300)}), "ok", "300 s behind"),
    ("clock", seen(servers={"cache": answer("c", skew=None)}), "unknown", "no server"),
    ("leftovers", GOOD, "ok", "none"),
    ("leftovers", seen(dead=("0badcafe",)), "warns", "0badcafe"),
    ("plan", GOOD, None, ""),
    ("plan", seen(problem=HostError("who knows")), "fails", "who knows"),
    ("plan", seen(problem=HostError("disk"), disk=0), None, ""),
    ("plan", dataclasses.replace(info(architecture="x"), problem=HostError("x")), None, ""),
]


@pytest.mark.parametrize(("rule", "host", "state", "found"), CASES)
def test_a_rule_judges_what_was_seen(
    rule: str, host: Sight, state: State | None, found: str
) -> None:
    finding = EXAMINED[rule](host)
    if state is None:
        assert finding is None
        return
    assert finding
    assert finding.rule.name == rule
    assert finding.state == state
    assert found in finding.found


def test_each_rule_is_tested_with_a_bad_host() -> None:
    bad = {rule for rule, _, state, _ in CASES if state in {"warns", "fails"}}
    assert bad == EXAMINED.keys() - {"engine-kind", "file-sharing"}, "these two only tell"
    assert {rule for rule, _, state, _ in CASES if state == "fails"} <= {
        name for name, rule in RULES.items() if rule.level == "fails"
    }


def test_a_good_host_has_no_problem() -> None:
    assert verdict(examine(GOOD)) == "ok"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("6.18.44-fc-v669", (6, 18)),
        ("20.10.24+dfsg1", (20, 10)),
        ("4", (0, 0)),
        ("", (0, 0)),
        ("9" * 5000, (999999999, 999999999)),
    ],
)
def test_versions_are_compared_as_numbers(text: str, expected: tuple[int, int]) -> None:
    assert version(text) == expected


# --- the survey -------------------------------------------------------------------------------


class Handler(http.server.BaseHTTPRequestHandler):
    """HTTP server that is a day late; it has only the page `/there`."""

    def do_HEAD(self) -> None:
        self.send_response(200 if self.path == "/there" else 404)
        self.end_headers()

    def date_time_string(self, timestamp: float | None = None) -> str:
        return super().date_time_string(time.time() - 86400)

    def log_message(self, *_words: object) -> None:
        """Log nothing."""


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as it:
        threading.Thread(target=it.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{it.server_port}"
        it.shutdown()


@pytest.mark.parametrize("page", ["there", "gone"])
def test_any_status_is_an_answer_and_tells_the_time(server: str, page: str) -> None:
    found = survey.ask(f"{server}/{page}")
    assert found["problem"] == ""
    assert 86390 < found["skew"] < 86410


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "nonsense", ""])
def test_nobody_is_a_problem_with_a_reason(url: str) -> None:
    found = survey.ask(url)
    assert found["problem"]
    assert found["skew"] is None


@pytest.mark.parametrize("date", [None, "", "yesterday"])
def test_no_date_is_no_skew(date: str | None) -> None:
    assert survey.skew(date) is None


def test_the_servers_that_builds_need_are_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(debian, "repositories", lambda: {"trixie": "http://mirror/debian"})
    assert survey.servers()["debian"] == "http://mirror/debian"
    monkeypatch.setattr(survey, "ask", lambda url: url)
    assert survey.survey()["answers"] == survey.servers()
