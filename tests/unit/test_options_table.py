"""The table of NixOS options: complete, of kinds that there are, and as docs/nixos.md shows it."""

import pathlib
import re
import tomllib

ROOT = pathlib.Path(__file__).parents[2]
TABLE = tomllib.loads((ROOT / "nix/options.toml").read_text())
ROWS = TABLE["option"]
GAPS = tomllib.loads((ROOT / "tests/nixos/gaps.toml").read_text())

#: Options of the table by meaning that have no dot: other words there are values.
OPTIONS = ("fileSystems", "swapDevices")

KINDS = ("uefi", "bios", "bare", "card", "live", "kexec", "container", "vm", "machine")

#: What a row's kinds may be beside the kinds: nix/options.toml says what it means.
WORDS = {
    "all": "all",
    "declared": "where nixpkgs' module of the format has it",
    "limine": "uefi with Limine",
}


def test_kinds_are_those_of_images() -> None:
    for row in ROWS:
        for outcome in ("honoured", "replaced"):
            assert set(row.get(outcome, ())) <= {*KINDS, *WORDS}, row
        assert not set(row.get("honoured", ())) & set(row.get("replaced", ())), row


def test_each_name_has_one_row_in_a_family() -> None:
    names = [name for row in ROWS for name in row["names"]]
    assert len(set(names)) == len(names)
    for name in names:
        families = [one for one in TABLE["families"] if f"{name}.".startswith(f"{one}.")]
        assert families or any(one.startswith(f"{name}.") for one in TABLE["families"]), name


def test_what_each_run_sets_is_possible_for_each_format() -> None:
    """nix/build.nix gives every configuration an option, which no format may refuse."""
    text = (ROOT / "nix/build.nix").read_text()
    (always,) = re.findall(
        r"^    nixosImage = .* // \{ inherit \(given\) (\w+);"
        r" (\w+) = .* \};$",
        text,
        re.MULTILINE,
    )
    for name in always:
        rows = [row for row in ROWS if f"nixosImage.{name}" in row["names"]]
        assert [row["honoured"] for row in rows] == [["all"]]


def documented() -> list[str]:
    """The rows of the table in docs/nixos.md."""
    lines = []
    for row in ROWS:
        names = ", ".join(f"`{name}`" for name in row["names"])
        cells = [
            ", ".join(WORDS.get(kind, kind) for kind in row.get(outcome, ())) or "-"
            for outcome in ("honoured", "replaced")
        ]
        covered = {*row.get("honoured", ()), *row.get("replaced", ())}
        rest = "all" not in covered and not set(KINDS) <= covered
        instead = f"; {row['instead']}" if row.get("instead") else ""
        why = f"{row.get('why', 'this format has no use for it')}{instead}" if rest else "-"
        lines.append(f"| {names} | {cells[0]} | {cells[1]} | {why} |")
    return lines


def test_the_document_has_the_table() -> None:
    text = (ROOT / "docs/nixos.md").read_text().splitlines()
    first = (
        text.index("| option | honoured | replaced, told in one line | refused otherwise: why |")
        + 2
    )
    assert text[first : first + len(ROWS)] == documented()
    assert not text[first + len(ROWS)].startswith("|")


def test_what_can_be_refused_is_tried() -> None:
    """For each row that can refuse, gaps.toml has a configuration that is refused by it."""
    tried = " ".join(row.get("refused", "").replace("\\", "") for row in GAPS.values())
    for row in ROWS:
        if "why" in row:
            assert any(name in tried for name in row["names"]), row["names"]


def test_what_is_told_by_meaning_is_tried() -> None:
    """Each option of docs/nixos.md's table of disks is in a row of gaps.toml with that outcome."""
    text = (ROOT / "docs/nixos.md").read_text()
    table = text.partition("| declared | what happens |\n| --- | --- |\n")[2].partition("\n\n")[0]
    refused = [row["refused"].replace("\\", "") for row in GAPS.values() if "refused" in row]
    taken = [row["given"] for row in GAPS.values() if "refused" not in row]
    rows = [line.strip("| ").rsplit(" | ", 1) for line in table.splitlines()]
    assert len(rows) > 15
    for what, outcome in rows:
        rows_of = taken if outcome.startswith(("honoured", "replaced", "nothing")) else refused
        for name in re.findall(r"`([a-zA-Z]+(?:\.[a-zA-Z-]+)*)[`.]", what):
            if name.startswith("lib.") or ("." not in name and name not in OPTIONS):
                continue
            tail = name.rpartition(".")[2]
            assert any(tail in one for one in rows_of), (name, outcome)
