"""Our packages against Debian's security tracker: the form of its document, and what follows."""

import contextlib
import http.server
import json
import pathlib
import subprocess
import sys
import threading
import typing
from collections.abc import Iterator
from unittest import mock

import pytest

from orchestrator.agents.advisories import ask
from orchestrator.ask.request import Caller
from orchestrator.decide import advisories
from orchestrator.decide.advisories import LOCK, Finding, find, locked, of_pin, release_of
from orchestrator.docker.engine import Engine
from orchestrator.run.advisories import look
from orchestrator.shared.constants import TRACKER
from orchestrator.shared.debian_package import Package, read_line, version_key
from orchestrator.shared.display import Display
from orchestrator.shared.errors import AdvisoryError, NetworkError
from orchestrator.shared.json_reader import JsonError
from orchestrator.shared.paths import ROOT
from orchestrator.verbs import pins
from orchestrator.verbs.registry import Session
from tests.unit.requests import CALLER


def release(status: str, **more: object) -> dict[str, object]:
    """Return a release in the tracker's form; `repositories`: the versions that Debian has now."""
    told = {"status": status, "repositories": {"trixie": "1"}, "urgency": "not yet assigned"}
    return {**told, **more}


#: A document in the form of https://security-tracker.debian.org/tracker/data/json.
DOCUMENT: dict[str, typing.Any] = {
    "openssl": {
        "CVE-2026-0001": {
            "description": "fixed in a later version",
            "scope": "remote",
            "releases": {
                "trixie": release("resolved", fixed_version="3.5.7-1~deb13u4", urgency="high"),
                "sid": release("resolved", fixed_version="3.6.5-1"),
            },
        },
        "CVE-2026-0002": {
            "description": "fixed in ours",
            "debianbug": 1000000,
            "releases": {"trixie": release("resolved", fixed_version="3.5.7-1~deb13u3")},
        },
        "CVE-2026-0003": {"releases": {"trixie": release("resolved", fixed_version="0")}},
        "CVE-2026-0004": {
            "releases": {
                "trixie": release("open", nodsa="Minor issue", nodsa_reason="postponed"),
                "forky": release("resolved", fixed_version="3.6.0-1"),
            }
        },
        "CVE-2026-0005": {"releases": {"trixie": release("open", urgency="unimportant")}},
        "CVE-2026-0006": {"releases": {"trixie": release("undetermined")}},
        "CVE-2026-0007": {"releases": {"bookworm": release("open")}},
        "TEMP-0000000-D9B174": {"description": "without a number", "releases": {}},
    },
    "qemu": {
        "CVE-2026-0008": {
            "releases": {
                "trixie": release("resolved", fixed_version="1:10.0.14+ds-0+deb13u1"),
                "sid": release("resolved", fixed_version="1:11.2.0+ds-1"),
            }
        }
    },
    "nobodys": {"CVE-2026-0009": {"releases": {"trixie": release("open")}}},
}

OURS = [
    *(
        (image, Package(name, "3.5.7-1~deb13u3", "amd64", "openssl", "3.5.7-1~deb13u3", "trixie"))
        for image, name in (("nixos-image-test", "openssl"), ("nixos-image-boot", "libssl3t64"))
    ),
    (
        "nixos-image-boot",
        Package("libssl3t64", "3.6.5-1+b1", "amd64", "openssl", "3.6.5-1", "forky"),
    ),
]

SSL = ("openssl", "3.5.7-1~deb13u3", "trixie")
NOTHING = contextlib.nullcontext()

PLACES = ("nixos-image-boot", "nixos-image-test")


def test_vulnerabilities_are_those_of_our_versions_and_fixed_ones_come_first() -> None:
    assert find(OURS, DOCUMENT) == [
        Finding(*SSL, "CVE-2026-0001", "3.5.7-1~deb13u4", "high", PLACES),
        Finding(*SSL, "CVE-2026-0004", "", "not yet assigned", PLACES),
    ]


def test_the_table_names_images_by_their_ends() -> None:
    lines = advisories.table(find(OURS, DOCUMENT)).splitlines()
    assert lines[0].split("  ")[0] == "source"
    assert lines[1].split() == [
        *("openssl", "3.5.7-1~deb13u3", "trixie", "CVE-2026-0001", "3.5.7-1~deb13u4", "high"),
        *("boot,", "test"),
    ]


@pytest.mark.parametrize(
    ("suite", "version", "count"),
    [
        ("trixie", "1:10.0.13+ds-1", 1),
        ("trixie-security", "1:10.0.14+ds-0+deb13u1", 0),
        # 11.1 is more than 10.0.14, but sid, with which backports are compared, is fixed later.
        ("trixie-backports", "1:11.1.0+ds-1~bpo13+1", 1),
        ("trixie-backports", "1:11.2.0+ds-1~bpo13+1", 1),
        ("trixie-backports", "1:11.2.0+ds-2~bpo13+1", 0),
        ("bookworm", "1:7.2+dfsg-7", 0),
    ],
)
def test_a_suite_is_told_of_by_the_release_that_it_belongs_to(
    suite: str, version: str, count: int
) -> None:
    package = Package("qemu-user", version, "amd64", "qemu", version, suite)
    assert len(find([("x", package)], DOCUMENT)) == count


def test_releases_are_suites_without_their_ends() -> None:
    suites = ("forky", "trixie-security", "trixie-updates", "trixie-backports")
    assert [release_of(suite) for suite in suites] == ["forky", "trixie", "trixie", "sid"]


@pytest.mark.parametrize(
    "document",
    [
        [],
        {"openssl": 7},
        {"openssl": {"CVE-1": []}},
        {"openssl": {"CVE-1": {"releases": []}}},
        {"openssl": {"CVE-1": {"releases": {"trixie": "open"}}}},
        {"openssl": {"CVE-1": {"releases": {"trixie": {"urgency": "low"}}}}},
        {
            "openssl": {
                "CVE-1": {"releases": {"trixie": {"status": "resolved", "fixed_version": 7}}}
            }
        },
        {"openssl": {"CVE-1": {"releases": {"trixie": release("resolved", fixed_version="a:b")}}}},
    ],
)
def test_another_document_is_refused(document: object) -> None:
    with pytest.raises(JsonError):
        find(OURS, document)


def test_what_is_unpacked_is_asked_for_by_its_source() -> None:
    found = {one.package: one for place, one in locked(ROOT) if place == LOCK}
    assert found["libc6"].source == "glibc"
    assert {found[name].source for name in ("qemu-user", "qemu-user-static")} == {"qemu"}
    assert found["busybox-static"].source_version == "1:1.37.0-6"
    pin = {
        "package": "p",
        "version": "1+b2",
        "suite": "sid",
        "path": "pool/main/s/src/p_1+b2_all.deb",
    }
    assert of_pin({**pin, "sha256": "0"}) == Package("p", "1+b2", "all", "src", "1", "sid", "0")


def test_a_package_is_a_line() -> None:
    package = Package("p", "1+b2", "all", "s", "1", "sid", "0")
    assert read_line(package.line) == package
    assert read_line("p\t1\tall\ts\t1\ttrixie\t").sha256 == ""


@pytest.mark.parametrize(
    "versions",
    [
        ["1.0~~", "1.0~rc1", "1.0", "1.0+b1", "1.0.1", "1.1", "1.10", "2", "1:0.1"],
        ["8.14.1-2+deb13u7", "8.14.1-2+deb13u10", "8.21.0-2~bpo13+1", "8.21.0-2", "8.21.0-2.1"],
        ["1a", "1+", "1-1-1"],
    ],
)
def test_versions_are_in_debians_order(versions: list[str]) -> None:
    assert sorted(versions[1::2] + versions[::2], key=version_key) == versions


def test_no_revision_is_revision_0() -> None:
    assert version_key("1.0") == version_key("1.0-0") == version_key("0:1.00-00")


# --- the tracker ----------------------------------------------------------------------------------


@contextlib.contextmanager
def serving(text: str, status: int = 200) -> Iterator[str]:
    """A tracker that answers each request with `text`; its address."""

    class Tracker(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.end_headers()
            self.wfile.write(text.encode())

        def log_message(self, *_: object) -> None:
            """Nothing is logged."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Tracker)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/tracker/data/json"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_only_what_is_asked_for_leaves_the_trackers_document() -> None:
    with serving(json.dumps(DOCUMENT)) as url:
        assert ask(url, ["openssl", "none"]) == {"known": {"openssl": DOCUMENT["openssl"]}}


@pytest.mark.parametrize(
    ("text", "status", "problem"),
    [
        ("", 404, "Not Found"),
        ("<html>", 200, "Expecting value"),
        ("[]", 200, "not the tracker's document"),
    ],
)
def test_a_tracker_that_has_no_document_is_a_problem(text: str, status: int, problem: str) -> None:
    with serving(text, status) as url:
        found = ask(url, ["openssl"])
    assert found.keys() == {"problem"}
    assert problem in found["problem"]


def test_a_tracker_that_is_not_there_is_a_problem() -> None:
    with serving("") as url:
        pass
    assert "refused" in ask(url, ["openssl"])["problem"]


class FakeEngine:
    """An engine with our images; its builder's container is a process of this machine."""

    def __init__(self) -> None:
        self.variables: dict[str, str] = {}

    @staticmethod
    def packages() -> list[tuple[str, Package]]:
        return OURS

    def run_service(self, service: str, arguments: list[str], variables: dict[str, str]) -> str:
        assert service == "builder"
        self.variables = variables
        command = [sys.executable, "-m", *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, cwd=ROOT).stdout


def looked(url: str, who: Caller = CALLER) -> list[Finding]:
    return look(typing.cast("Engine", FakeEngine()), who, url)


def test_all_packages_of_ours_are_looked_up() -> None:
    with serving(json.dumps(DOCUMENT)) as url:
        found = looked(url)
    assert {"openssl", "qemu"} == {one.source for one in found}
    assert {LOCK} == {place for one in found if one.source == "qemu" for place in one.places}


@pytest.mark.parametrize(("text", "status"), [("", 503), ('{"openssl": 7}', 200)])
def test_a_tracker_that_cannot_be_asked_is_an_error(text: str, status: int) -> None:
    with (
        serving(text, status) as url,
        pytest.raises(NetworkError, match=r"^Debian's security tracker cannot be asked") as caught,
    ):
        looked(url)
    assert url in str(caught.value)
    assert "--tracker" in caught.value.hint


@pytest.mark.parametrize("fixed", ["", "3.5.7-1~deb13u4"])
def test_a_vulnerability_is_an_error_if_a_newer_version_fixes_it(
    fixed: str, monkeypatch: pytest.MonkeyPatch, tmp_path: pathlib.Path
) -> None:
    @contextlib.contextmanager
    def workspace(*_: object) -> Iterator[tuple[mock.Mock, mock.Mock]]:
        yield mock.Mock(), mock.Mock()

    finding = Finding(*SSL, "CVE-2026-0001", fixed, "high", PLACES)
    monkeypatch.setattr("orchestrator.run.runs.run_workspace", workspace)
    monkeypatch.setattr("orchestrator.docker.images.Images", mock.Mock())
    monkeypatch.setattr("orchestrator.run.advisories.look", lambda *_: [finding])
    request = pins.Pins(
        update=False, installed=False, advisories=True, tracker=TRACKER, display=Display("plain")
    )
    with (tmp_path / "out").open("wb") as out:
        session = Session(CALLER, out.fileno(), 0.0, sent=False)
        refused = (
            pytest.raises(AdvisoryError, match=r"^newer versions fix 1 ") if fixed else NOTHING
        )
        with refused:
            assert pins.VERB.work(request, session) == 0
    assert "CVE-2026-0001" in (tmp_path / "out").read_text()
