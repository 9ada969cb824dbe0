"""Tests exit codes: one per error, none that shells use, all documented."""

import pathlib

import pytest

from orchestrator.__main__ import tell
from orchestrator.shared import errors
from orchestrator.shared.errors import ApplianceError, failure

ROOT = pathlib.Path(__file__).parents[2]


def test_exit_codes_are_unique() -> None:
    codes = [kind.exit_code for kind in errors.leaves()]
    assert len(codes) > 10
    assert len(set(codes)) == len(codes)
    assert all(0 < code < 256 for code in codes)
    assert not {1, 125, 126, 127, 137} & set(codes), "Python's, Docker's and the shell's own"


def test_what_tells_more_of_an_error_has_its_code() -> None:
    for kind in errors.leaves():
        assert {sub.exit_code for sub in kind.__subclasses__()} <= {kind.exit_code}


def test_signals_have_the_shells_codes() -> None:
    assert (errors.InterruptedRunError.exit_code, errors.TerminatedRunError.exit_code) == (
        128 + 2,
        128 + 15,
    )


def test_each_error_says_what_it_means() -> None:
    for kind in errors.leaves():
        assert kind.__doc__
        assert "\n" not in kind.__doc__, "it is a cell of a table"
        assert f"| {kind.exit_code} | `{kind.__name__}` | {kind.__doc__} |\n" in errors.table()


def test_the_documentation_has_the_table() -> None:
    assert errors.table() in (ROOT / "docs/exit-codes.md").read_text()


def test_run_sh_uses_no_other_codes() -> None:
    files = [ROOT / "run.sh", *(ROOT / "caller").glob("*.sh")]
    text = "\n".join(path.read_text() for path in files)
    used = {
        int(line.split("die ")[1].split()[0])
        for line in text.splitlines()
        if "die " in line and line.split("die ")[1][0].isdigit()
    }
    assert used
    assert used <= {kind.exit_code for kind in errors.leaves()}


@pytest.mark.parametrize("kind", errors.KINDS)
def test_an_agents_failure_keeps_its_words(kind: str) -> None:
    error = failure(
        errors.KINDS[kind], {"event": "failed", "message": "what", "hint": "do", "detail": "a\nb"}
    )
    assert isinstance(error, ApplianceError)
    assert (str(error), error.hint, error.detail) == ("what", "do", "a\nb")


def test_each_kind_that_agents_use_is_known() -> None:
    texts = [path.read_text() for path in (ROOT / "orchestrator/agents").glob("*.py")]
    used = {part.split('"')[0] for text in texts for part in text.split('kind="')[1:]}
    assert used
    assert used <= errors.KINDS.keys()


def test_an_error_without_a_remedy_of_its_own_has_that_of_its_class(
    capsys: pytest.CaptureFixture[str],
) -> None:
    tell(errors.BootError("QEMU ended: exit code 0"))
    assert "\ntry: read IMAGE.serial.log, which has" in capsys.readouterr().err
    tell(errors.BootError("QEMU ended: exit code 0", hint="wait"))
    assert "\ntry: wait\n" in capsys.readouterr().err
