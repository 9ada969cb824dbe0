"""Orders to run.sh: a shell gets each path as it is, and knows each order."""

import dataclasses
import pathlib

import hypothesis
import pytest
from hypothesis import strategies as st

from orchestrator.ask.request import Caller
from orchestrator.shared.errors import UsageError
from orchestrator.shared.paths import ROOT
from orchestrator.verbs.boot import Boot
from orchestrator.verbs.clean import Clean
from tests.unit.asking import BOOT, FUNCTIONS, ask, demo, obeyed

P = pathlib.PurePosixPath

NASTY = [
    "/a b",
    "/it's",
    '/"$HOME"',
    "/`id`",
    "/$(id)",
    "/a\nb",
    "/a\n",
    "/-rf",
    "/a\\b",
    "/*",
    "/~",
    "/ü",
    "/;id",
    "/#x",
    "/a\tb",
]


@pytest.mark.parametrize("path", NASTY)
def test_a_shell_gets_each_path_as_it_is(path: str, who: Caller) -> None:
    request = demo(out=P(path), ssh_key=P(path))
    assert obeyed("demo", request) == [["out_dir", path], ["send", "--ssh-key", path]]
    booted = dataclasses.replace(BOOT, image=P(path), test=True, identity=P(path), seed=P(path))
    assert obeyed("boot", booted) == [
        ["send", "boot", path],
        ["send_result", str(P(path).parent / "result.json")],
        ["send", "--identity", path],
        ["send", "--seed", path],
    ]
    with_bundle = dataclasses.replace(who, ca_bundle=path)
    assert obeyed("clean", Clean(False, "auto"), with_bundle) == [["send", "SSL_CERT_FILE", path]]


@hypothesis.given(text=st.text(st.characters(exclude_characters="\0", codec="utf-8"), min_size=1))
@hypothesis.settings(max_examples=60)
def test_a_shell_gets_any_path_as_it_is(text: str) -> None:
    try:
        request = ask(["boot", "--test", "--system=aarch64-linux", "--", text])
    except UsageError as error:
        hypothesis.event(error.hint)
        request = dataclasses.replace(BOOT, image=P("/", text.replace("..", "").lstrip("/")))
    assert isinstance(request, Boot)
    assert request.image.is_absolute()
    assert ".." not in request.image.parts
    assert obeyed("boot", request)[0] == ["send", "boot", str(request.image)]


def test_every_order_is_one_that_run_sh_knows() -> None:
    """The verbs' own tests have all of them: a shell fails there that gets one it does not know."""
    text = "".join(path.read_text() for path in [ROOT / "run.sh", *ROOT.glob("caller/*.sh")])
    assert all(f"\n{name}() {{" in text for name in FUNCTIONS)
