"""Tests the rules of `doctor`: their table, who examines each, findings as text and JSON."""

import pathlib
import re

import pytest

from orchestrator.decide.examine import EXAMINED
from orchestrator.shared import rules
from orchestrator.shared.rules import RULES, Finding

ROOT = pathlib.Path(__file__).parents[2]
CALLER = "".join(path.read_text() for path in sorted((ROOT / "caller").glob("*.sh")))

#: Rules of run.sh that it names in another way than `finding RULE`.
NAMED = set(re.findall(r"(?:finding|examine_space|lacks|lack=|:-)\s*([a-z-]+)", CALLER))


def finding(rule: str = "memory", state: rules.State = "fails", found: str = "512 MiB") -> Finding:
    return Finding(RULES[rule], state, found)


def test_run_sh_can_read_the_table_by_line() -> None:
    text = (ROOT / "orchestrator/shared/rules.toml").read_text()
    for line in text.splitlines():
        assert re.fullmatch(r'(#.*|\[[a-z-]+\]|[a-z]+ = "[^"\\]+"|threads = \[.*\]|)', line), line


def test_each_rule_of_the_orchestrator_has_its_function() -> None:
    assert EXAMINED.keys() == {name for name, rule in RULES.items() if rule.by != "run.sh"}


@pytest.mark.parametrize(
    "name", [name for name, rule in RULES.items() if rule.by != "orchestrator"]
)
def test_each_rule_of_run_sh_is_examined_there(name: str) -> None:
    assert name in NAMED


def test_run_sh_names_no_rule_that_is_not_there() -> None:
    names = re.findall(r"\bfinding ([a-z-]+) (?:ok|warns|fails|unknown)\b", CALLER)
    assert len(names) > 20
    assert set(names) <= RULES.keys()


def test_the_documentation_has_the_rules() -> None:
    assert (ROOT / rules.PAGE).read_text().endswith(rules.reference())
    assert f"\n### {RULES['memory'].page.partition('#')[2]}\n" in rules.reference()


def test_a_thread_has_an_address() -> None:
    for rule in RULES.values():
        for thread in rule.threads:
            assert re.fullmatch(r"[\w.-]+/[\w.-]+#\d+", thread)


def test_what_is_well_is_one_line_and_what_is_not_has_a_way_out() -> None:
    assert finding(state="ok").describe() == f"ok       {'memory':<26} 512 MiB"
    lines = finding().describe().splitlines()
    assert lines[0].startswith("fails    memory ")
    assert [line.split()[0] for line in lines[1:]] == ["needed", "why", "try"]
    assert lines[3].endswith(RULES["memory"].remedy)
    assert Finding(RULES["start"], "fails", "x", "do that").describe().endswith("try     do that")


def test_what_run_sh_has_found_is_read_and_nothing_else() -> None:
    text = "memory\tok\t1 MiB\nnonsense\tok\tx\nmemory\tgood\tx\nmemory\tok\nclock\tfails\ta\n"
    assert rules.received(text) == [
        finding(state="ok", found="1 MiB"),
        finding("clock", "fails", "a"),
    ]
    assert rules.received("") == []


def test_findings_stand_in_the_order_of_the_rules() -> None:
    names = [one.rule.name for one in rules.sorted_findings([finding("clock"), finding("kernel")])]
    assert names == ["kernel", "clock"]


@pytest.mark.parametrize(
    ("states", "verdict", "summary"),
    [
        ([], "ok", "no problem was found"),
        (["ok", "unknown"], "ok", "no problem was found"),
        (["ok", "warns"], "warns", "nothing will make runs fail, 1 is a warning"),
        (["warns", "warns"], "warns", "nothing will make runs fail, 2 are warnings"),
        (["fails", "warns", "ok"], "fails", "1 will make runs fail, 1 is a warning"),
        (["fails", "fails"], "fails", "2 will make runs fail"),
    ],
)
def test_the_verdict_is_the_worst(
    states: list[rules.State], verdict: rules.State, summary: str
) -> None:
    findings = [finding(state=state) for state in states]
    assert rules.verdict(findings) == verdict
    assert rules.summary(findings) == summary


def test_a_program_gets_all_words() -> None:
    document = finding().document()
    assert document["rule"] == "memory"
    assert document["page"] == "docs/doctor.md#memory"
    assert document["remedy"] == RULES["memory"].remedy
    assert all(document.values())
