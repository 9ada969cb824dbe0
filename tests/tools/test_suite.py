"""Tests the suite's rules in `tests/conftest.py`: selection, skips, groups."""

import os
import pathlib
import re
import subprocess
import sys

import pytest

from tests.shares import share
from tests.workers import ByGroup

ROOT = pathlib.Path(__file__).parents[2]

TESTS = """
import pytest

@pytest.mark.needs("sh")
def test_there(): pass

@pytest.mark.needs("sh", "no-such-program", "no-such-library.so", "/no/such/file")
def test_absent(): raise AssertionError

@pytest.mark.slow
def test_slow(): pass
"""

FAMILIES = """
import pytest

@pytest.mark.slow
@pytest.mark.parametrize("case", range(5))
def test_family(case): print("case", "family", case)

@pytest.mark.slow
@pytest.mark.parametrize("case", range(2))
def test_small(case): print("case", "small", case)

@pytest.mark.slow
@pytest.mark.parametrize("mode", "ab")
def test_deals_itself(mode, mine):
    for number in mine.part(range(7)): print("case", mode, number)

@pytest.mark.slow
def test_alone(): print("case alone")

@pytest.mark.parametrize("case", range(2))
def test_quick(case): print("case", "quick", case)
"""


@pytest.fixture
def folder(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "some").mkdir()
    (tmp_path / "some/test_some.py").write_text(TESTS)
    return tmp_path / "some"


def said(*arguments: str | pathlib.Path, image: bool) -> str:
    """Run pytest with these rules and `arguments`, in the test image or elsewhere."""
    variables = dict(os.environ)
    variables.pop("NIXOS_IMAGE_IN_TEST_IMAGE", None)
    if image:
        variables["NIXOS_IMAGE_IN_TEST_IMAGE"] = "1"
    options = ("-p", "tests.conftest", "-p", "no:cacheprovider", "-c", "pyproject.toml")
    return subprocess.run(
        [sys.executable, "-m", "pytest", *options, *arguments],
        cwd=ROOT,
        env=variables,
        stdout=subprocess.PIPE,
        text=True,
        check=False,
    ).stdout


def test_outside_of_the_test_image_what_is_absent_is_named(folder: pathlib.Path) -> None:
    text = said(folder, "-n0", image=False)
    assert "needs no-such-program, no-such-library.so, /no/such/file" in text
    assert "1 passed, 1 skipped, 1 deselected" in text


def test_in_the_test_image_a_skip_is_a_failure(folder: pathlib.Path) -> None:
    text = said(folder, "-n0", image=True)
    assert "skipped in the test image" in text
    assert "1 passed, 1 deselected, 1 error" in text


@pytest.mark.slow
def test_a_file_that_is_named_is_run_whole(folder: pathlib.Path) -> None:
    file = folder / "test_some.py"
    assert "2 passed, 1 skipped" in said(file, image=False)
    assert "1 passed in" in said(f"{file}::test_slow", image=False)


@pytest.mark.slow
def test_all_is_all(folder: pathlib.Path) -> None:
    assert "2 passed, 1 skipped" in said(folder, "--all", image=False)


def cases(folder: pathlib.Path, *arguments: str) -> list[str]:
    """Return the cases of FAMILIES that a run with `--all` tries."""
    (folder / "test_families.py").write_text(FAMILIES)
    text = said(folder, "-n0", "-s", "--all", "-k", "families", *arguments, image=False)
    return [line[line.index("case ") :] for line in text.splitlines() if "case " in line]


@pytest.mark.slow
def test_the_shares_together_are_the_whole(folder: pathlib.Path) -> None:
    shares = 3
    whole = cases(folder)
    assert len(whole) == 5 + 2 + 2 * 7 + 1 + 2
    dealt = [cases(folder, f"--share={one}/{shares}") for one in range(1, shares + 1)]
    assert set(whole) == set().union(*dealt)
    families = [one for one in whole if "quick" not in one]
    assert sorted(families) == sorted(one for part in dealt for one in part if one in families)
    for part in dealt:
        assert {"case quick 0", "case quick 1"} <= set(part)


def in_shell(script: str) -> str:
    """Return what a shell says that has the functions of tests/caller/lib.sh."""
    whole = f'. "${{0%/*}}/lib.sh"\n{script}\nrm -r "$work"'
    command = ["sh", "-c", whole, str(ROOT / "tests/caller/test")]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def test_after_a_failed_check_a_script_can_leave_the_rest_out() -> None:
    assert in_shell("check a false || echo left") == "FAIL a\nleft\n"
    assert in_shell("expect b 0 '' false || echo left").endswith("\nleft\n")
    assert in_shell("check c true && expect d 1 '' false && echo on") == "PASS c\nPASS d\non\n"


@pytest.mark.parametrize(
    ("text", "is_one"), [("echo a\n", True), ("if\n", False), ("", False), (None, False)]
)
def test_what_a_shell_can_read_is_a_script(
    text: str | None, is_one: bool, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "script"
    if text is not None:
        file.write_text(text)
    assert in_shell(f'is_script "{file}" && echo yes') == "yes\n" * is_one


def test_a_folder_is_no_script(tmp_path: pathlib.Path) -> None:
    assert in_shell(f'is_script "{tmp_path}" || echo no') == "no\n"


def test_scripts_ask_by_the_function_whether_a_file_is_one() -> None:
    scripts = [*ROOT.glob("tests/*/*.sh")]
    asking = [path.name for path in scripts if re.search(r"\bsh -n\b", path.read_text())]
    assert asking == ["lib.sh"]


@pytest.mark.parametrize("text", ["0/2", "3/2", "2", "a/b", "1/"])
def test_what_is_no_share_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        share(text)


@pytest.mark.slow
@pytest.mark.parametrize("image", [True, False])
def test_two_workers_share_what_is_not_named(image: bool, folder: pathlib.Path) -> None:
    assert "2 workers" in said(folder, "-v", image=image)
    assert "2 workers" not in said(folder / "test_some.py", "-v", image=image)


def test_one_worker_has_all_that_shares_something() -> None:
    scheduler = ByGroup.__new__(ByGroup)

    def group(name: str) -> str:
        return str(scheduler._split_scope(f"tests/{name}::test_x[a::b]"))

    files = [path.name for path in (ROOT / "tests/integration").glob("test_*.py")]
    assert len(files) > 3
    assert {group(f"integration/{name}") for name in files} == {"engine"}
    assert group("tools/test_assemble.py") == group("tools/test_grub_menus.py") == "store"
    assert group("unit/test_plan.py") == "test_plan.py"
