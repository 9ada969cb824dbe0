"""Tests what the builder says of a build's cost, before it builds."""

import json
import pathlib
import types
import typing

import pytest

from orchestrator.agents import events
from orchestrator.agents.builder import forecast, word
from orchestrator.agents.builder.forecast import Forecast, Missing
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.agents.failure import AgentError
from orchestrator.shared.architectures import foreign_system, this_system
from orchestrator.shared.command import Done
from orchestrator.shared.cost import Fetch
from orchestrator.shared.run import WORD, Run

NOTES = """\
these 2 derivations will be built:
  /nix/store/0c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd-a.drv
  /nix/store/1c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd-b.drv
these 3 paths will be fetched (1.50 MiB download, 4096.25 MiB unpacked):
  /nix/store/2c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd-c
  /nix/store/3c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd-d
  /nix/store/4c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd-e"""

ONE = """\
this derivation will be built:
  /nix/store/0c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd-a.drv
this path will be fetched (0.00 MiB download, 0.01 MiB unpacked):
  /nix/store/2c7zvwjrlhqirf3z3q1k0l0r8bq9m5yd-c"""


@pytest.mark.parametrize(
    ("notes", "built", "fetched", "download", "unpacked"),
    [
        (NOTES, 2, 3, 3 << 19, (4096 << 20) + (1 << 18)),
        (ONE, 1, 1, 0, 10486),
        ("something else\n  /nix/store/x", 0, 0, 0, 0),
        ("", 0, 0, 0, 0),
    ],
)
def test_what_would_be_built_and_fetched_is_read(
    notes: str, built: int, fetched: int, download: int, unpacked: int
) -> None:
    found = forecast.read_missing(notes.splitlines())
    assert (len(found.derivations), len(found.paths)) == (built, fetched)
    assert (found.download, found.unpacked) == (download, unpacked)


DERIVATION = (
    'Derive([{outputs}],[("/nix/store/i.drv",["out"])],["/nix/store/s"],'
    '"{system}","/bin/sh",["-c","x"],[("env","[\\"a\\"],\\"b\\"")])'
)
OUT = '("out","/nix/store/o","","")'


def drv(tmp_path: pathlib.Path, name: str, text: str) -> str:
    path = tmp_path / f"{name}.drv"
    path.write_text(text)
    return str(path)


@pytest.mark.parametrize(
    ("system", "kind"),
    [
        (this_system(), "native"),
        (foreign_system(this_system()), "emulated"),
        ("riscv64-linux", "emulated"),
        ("builtin", "native"),
    ],
)
def test_emulated_is_what_another_machine_runs(
    system: str, kind: str, tmp_path: pathlib.Path
) -> None:
    path = drv(tmp_path, "a", DERIVATION.format(outputs=OUT, system=system))
    assert forecast.work_of(path).kind == kind


def test_a_dry_run_asks_no_builder_and_counts_what_they_would_build(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    told: list[dict[str, typing.Any]] = []
    monkeypatch.setattr(events, "emit", lambda *_, **fields: told.append(fields["cost"]))
    monkeypatch.setattr(forecast, "sources", lambda *_: ())
    monkeypatch.setattr(forecast, "present_bytes", lambda _named: 0)
    monkeypatch.setattr(forecast, "STORE", tmp_path)
    monkeypatch.setattr(forecast, "WORK", tmp_path)
    for system in (foreign_system(this_system()), this_system()):
        path = drv(tmp_path, "a", DERIVATION.format(outputs=OUT, system=system))
        nix, missing = Nix(Settings(), tmp_path / "log"), Missing((path,), (), 0, 0)
        for elsewhere in ((), (system,)):
            Forecast(elsewhere=elsewhere).tell(nix, [], [], missing)
    kinds = [one["works"][0]["kind"] for one in told]
    assert kinds == ["emulated", "remote", "native", "either"]


@pytest.mark.parametrize(
    ("name", "outputs", "kernel"),
    [
        ("linux-6.12.34", f'{OUT},("modules","/nix/store/m","","")', True),
        ("linux-rpi4-6.12.34-stable", f'{OUT},("modules","/nix/store/m","","")', True),
        ("linux-headers-6.12", OUT, False),
        ("linux-config-6.12", OUT, False),
        ("util-linux-2.41", f'{OUT},("modules","/nix/store/m","","")', False),
    ],
)
def test_a_kernel_is_known_by_its_name_and_modules(
    name: str, outputs: str, kernel: bool, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forecast, "derivation_name", lambda _path: name)
    text = DERIVATION.format(outputs=outputs, system="riscv64-linux")
    assert forecast.work_of(drv(tmp_path, name, text)).kernel is kernel


@pytest.mark.parametrize(
    ("url", "host"),
    [
        ("https://user:secret@example.org/a.tar.gz", "example.org"),
        ("mirror://gnu/hello.tar.gz", "mirrors of gnu"),
    ],
)
def test_a_fixed_output_is_a_download_from_its_server(
    url: str, host: str, tmp_path: pathlib.Path
) -> None:
    out = '("out","/nix/store/o","sha256","00")'
    json_ = json.dumps(json.dumps({"name": "a", "urls": [url]}, separators=(",", ":")))
    for variable in (f'("urls","{url} x")', f'("url","{url}")', f'("__json",{json_})'):
        text = f'Derive([{out}],[],[],"builtin","b",[],[{variable}])'
        found = forecast.work_of(drv(tmp_path, "a", text))
        assert (found.kind, found.host) == ("source", host)


def test_a_package_that_the_demo_unpacks_is_no_download(tmp_path: pathlib.Path) -> None:
    out = '("out","/nix/store/o","r:sha256","00")'
    text = f'Derive([{out}],[],[],"{this_system()}","/usr/bin/busybox",["sh","-e"],[])'
    assert forecast.work_of(drv(tmp_path, "a", text)).kind == "native"


PATHS = tuple(f"/nix/store/{letter * 32}-{letter}" for letter in "abcd")


def answers(monkeypatch: pytest.MonkeyPatch, said: dict[str, str]) -> None:
    """Let each substituter answer with a text."""

    def ask(_nix: Nix, words: list[str], _seconds: float, *, stdin: str) -> Done:
        text = said[words[words.index("--store") + 1]]
        return Done("", 0, text.encode(), b"", 0)

    monkeypatch.setattr(Nix, "ask", ask)


def test_each_path_counts_for_the_first_substituter_that_has_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = {PATHS[0]: {"narSize": 10, "downloadSize": 4}, PATHS[1]: None}
    second = {path: {"narSize": 20} for path in (PATHS[0], PATHS[1], "/nix/store/other")}
    said = {"https://a": json.dumps(first), "https://u:p@b": json.dumps(second)}
    answers(monkeypatch, said)
    nix = Nix(Settings(), pathlib.Path("log"))
    found = forecast.sources(nix, tuple(said), Missing((), PATHS, 100, 200))
    assert found == (
        Fetch("https://a", 1, 4, 10),
        Fetch("https://b", 1, 20, 20),
        Fetch("", 2, 76, 170),
    )


@pytest.mark.parametrize("said", ["", "[]", "null", '{"x": 1}', f'{{"{PATHS[0]}": {{}}}}'])
def test_a_substituter_that_says_nothing_of_use_leaves_the_source_unknown(
    said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers(monkeypatch, {"https://a": said})
    nix = Nix(Settings(), pathlib.Path("log"))
    found = forecast.sources(nix, ("https://a",), Missing((), PATHS, 1, 2))
    assert found == (Fetch("", 4, 1, 2),)


def test_nothing_is_built_before_the_word(monkeypatch: pytest.MonkeyPatch) -> None:
    did: list[str] = []
    log = types.SimpleNamespace(notes=[])
    monkeypatch.setattr(Nix, "run_logged", lambda *_: ('[{"drvPath": "/d"}]', log))
    monkeypatch.setattr(Forecast, "tell", lambda *_: did.append("plan"))
    monkeypatch.setattr(Nix, "build_derivations", lambda _nix, drvs: did.append(f"build {drvs}"))
    nix = Nix(Settings(), pathlib.Path("log"))
    wanted = [(this_system(), "raw")]
    Forecast(agreed=lambda: did.append("word")).build(nix, [], wanted)
    assert did == ["plan", "word", "build ['/d']"]
    did.clear()
    assert Forecast(dry_run=True).build(nix, [], wanted) == []
    assert did == ["plan"]


def test_the_word_is_a_folder_that_changes_hands(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("orchestrator.shared.run.WORK", tmp_path)
    run = Run("r", (), 1.0, 1.0, deadline_seconds=0.2)
    (run.folder / WORD).mkdir(parents=True)
    word.wait(run)  # it is this user's
    monkeypatch.setattr("os.getuid", lambda: 4711)
    with pytest.raises(AgentError, match="has not answered the plan"):
        word.wait(run)
