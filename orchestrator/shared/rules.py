"""The rules of `doctor`: what a machine needs, why, and what to do; findings as text and JSON.

The rules are rows of rules.toml, which run.sh reads, too.
"""

import dataclasses
import pathlib
import tomllib
import typing

from orchestrator.shared.json_reader import from_json

State = typing.Literal["ok", "warns", "fails", "unknown"]

#: Verdicts, worst first.
ORDER: tuple[State, ...] = ("fails", "warns", "unknown", "ok")

#: The page about all rules; a rule's name is its anchor.
PAGE = "docs/doctor.md"

#: Width of a finding's subject in text.
WIDTH = 26


@dataclasses.dataclass(frozen=True)
class Rule:
    """One row of rules.toml, which explains the fields."""

    name: str
    subject: str
    by: typing.Literal["run.sh", "orchestrator", "both"]
    level: typing.Literal["fails", "warns"]
    needed: str
    why: str
    remedy: str
    threads: tuple[str, ...]

    @property
    def page(self) -> str:
        """The rule's place in the documentation."""
        return f"{PAGE}#{self.name}"


@dataclasses.dataclass(frozen=True)
class Finding:
    """What a rule has found: `found` is one line; `remedy` replaces the rule's if it is not empty.

    State: "ok", "warns", "fails", or "unknown" if it could not be examined.
    """

    rule: Rule
    state: State
    found: str
    remedy: str = ""

    def describe(self) -> str:
        """Describe the finding for a person: one line, three more unless all is well."""
        first = f"{self.state:<8} {self.rule.subject:<{WIDTH}} {self.found}".rstrip()
        if self.state == "ok":
            return first
        return "\n".join(
            [
                first,
                f"           needed  {self.rule.needed}",
                f"           why     {self.rule.why}",
                f"           try     {self.remedy or self.rule.remedy}",
            ]
        )

    def document(self) -> dict[str, str]:
        """Return the finding for a program."""
        return {
            "rule": self.rule.name,
            "subject": self.rule.subject,
            "state": self.state,
            "found": self.found,
            "needed": self.rule.needed,
            "why": self.rule.why,
            "remedy": self.remedy or self.rule.remedy,
            "page": self.rule.page,
        }


def _read() -> dict[str, Rule]:
    path = pathlib.Path(__file__).with_name("rules.toml")
    rows = [{"name": name, **row} for name, row in tomllib.loads(path.read_text()).items()]
    return {rule.name: rule for rule in from_json(tuple[Rule, ...], rows, path.name)}


#: All rules by name, in the order of findings.
RULES = _read()


def received(text: str) -> list[Finding]:
    """Read run.sh's findings: rule, state and found, separated by tabs, one finding a line.

    Other lines are left out: run.sh and this image are of one checkout, so there are none.
    """
    rows = (line.split("\t") for line in text.splitlines())
    states: dict[str, State] = {state: state for state in ORDER}
    return [
        Finding(RULES[row[0]], states[row[1]], row[2])
        for row in rows
        if len(row) == 3 and row[0] in RULES and row[1] in states
    ]


def sorted_findings(findings: list[Finding]) -> list[Finding]:
    """Return findings in the order of the rules."""
    order = list(RULES)
    return sorted(findings, key=lambda one: order.index(one.rule.name))


def verdict(findings: list[Finding]) -> State:
    """Return the worst state of `findings`; unknown ones count as no problem."""
    states = {one.state for one in findings} - {"unknown"}
    return next((state for state in ORDER if state in states), "ok")


def summary(findings: list[Finding]) -> str:
    """Return one line for a person: how many findings make runs fail, how many warn."""
    fails, warns = (sum(one.state == state for one in findings) for state in ("fails", "warns"))
    if not fails + warns:
        return "no problem was found"
    found = [f"{fails} will make runs fail"] if fails else ["nothing will make runs fail"]
    found += [f"{warns} {'is a warning' if warns == 1 else 'are warnings'}"] if warns else []
    return ", ".join(found)


def reference() -> str:
    """Return all rules as Markdown, for docs/doctor.md."""
    return "\n".join(_section(rule) for rule in RULES.values())


def _section(rule: Rule) -> str:
    links = [f"[{one}](https://github.com/{one.replace('#', '/issues/')})" for one in rule.threads]
    lines = [
        f"### {rule.name}",
        "",
        f"{rule.subject[0].upper()}{rule.subject[1:]}. At worst, this {rule.level}.",
        "",
        f"- Needed: {rule.needed}",
        f"- Why: {rule.why}",
        f"- Remedy: {rule.remedy}",
        *([f"- Others who had it: {', '.join(links)}"] if links else []),
        "",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    print(reference(), end="")
