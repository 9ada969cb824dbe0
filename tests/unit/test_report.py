"""Tests the report for people: what it tells, and that nobody's text is more than text."""

import dataclasses
import html.parser
import itertools
import json
import os
import pathlib
import re
import tracemalloc

import hypothesis
import pytest
from hypothesis import strategies as st

from orchestrator.deliver import evidence, report_view
from orchestrator.deliver.contents import (
    LARGEST,
    LEFT_OUT,
    LONGEST,
    chains,
    compare,
    earlier,
    read_bill,
    read_contents,
)
from orchestrator.deliver.report_checks import Story, checks, screen
from orchestrator.deliver.treemap import Box, squarify
from orchestrator.shared.image_options import ImageOptions
from tests.unit import reports
from tests.unit.artifacts import ABOUT, IMAGE
from tests.unit.reports import HOSTILE, PACKAGE, STORY, SYSTEM, contents, page, path


class Reader(html.parser.HTMLParser):
    """Collects a page's tags, ids, links, headings and text; checks that tags are closed."""

    VOID = frozenset(("meta", "br"))

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += attrs
        found = dict(attrs)
        self.ids += [found["id"] or ""] if "id" in found else []
        self.links += [found["href"] or ""] if "href" in found else []
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self._open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


# --- what is in an image --------------------------------------------------------------------------


def test_each_path_is_there_by_the_shortest_chain() -> None:
    found = {ref[44:]: [one[44:] for one in chain] for ref, chain in chains(contents()).items()}
    toplevel = "nixos-system-pi-26.05.1"
    assert found == {
        toplevel: [toplevel],
        "etc": [toplevel, "etc"],
        "linux-6.12.3": [toplevel, "linux-6.12.3"],
        "unit-sshd.service": [toplevel, "etc", "unit-sshd.service"],
        "openssh-10.0": [toplevel, "etc", "openssh-10.0"],
        "glibc-2.42": [toplevel, "etc", "openssh-10.0", "glibc-2.42"],
    }


def test_a_chain_of_any_length_is_told_by_its_ends() -> None:
    number = 1000
    paths = [path(f"rung-{one}", 1, f"rung-{one + 1}") for one in range(number)]
    found = chains(contents(*paths))
    names = {ref[44:]: [one[44:] for one in chain] for ref, chain in found.items()}
    assert len(names) == number
    assert names["rung-11"] == [f"rung-{one}" for one in range(LONGEST)]
    last = [f"rung-{one}" for one in range(number + 2 - LONGEST, number)]
    assert names[f"rung-{number - 1}"] == ["rung-0", LEFT_OUT, *last]
    assert "rung-0 → … → rung-" in Reader(page(present=contents(*paths))).text


def test_a_large_bill_is_not_read() -> None:
    with pytest.raises(ValueError, match=r"too large to be shown"):
        read_contents(" " * LARGEST + "{}")


def test_of_a_bill_in_a_file_no_more_is_read_than_a_bill_may_have(tmp_path: pathlib.Path) -> None:
    with (tmp_path / "bill").open("wb") as file:
        file.truncate(32 * LARGEST)
    tracemalloc.start()
    with pytest.raises(ValueError, match=r"too large to be shown"):
        read_bill(tmp_path / "bill")
    taken = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert taken < 8 * LARGEST


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"nar_size"', "1e999"),
        ('"nar_size"', f'"{"9" * 5000}"'),
        ('"nar_size"', f'"{"9" * 4000}"'),
        ('"nar_size"', "null"),
        ('"nar_size"', '"-1"'),
        ('"title"', '"\\ud800"'),
        ('"title"', '"x","name":"y"'),
    ],
)
def test_no_bill_of_an_earlier_image_costs_a_report(
    old: str, new: str, tmp_path: pathlib.Path
) -> None:
    size = [{"name": "nix:nar_size", "value": "nar_size"}]
    ref = "/nix/store/" + "0" * 32 + "-nixos-system-pi-26.04"
    document = {
        "metadata": {"component": {"name": "pi-raw-26.04.img"}},
        "components": [{"bom-ref": ref, "name": "title", "version": "26.04", "properties": size}],
        "dependencies": [{"ref": "image", "dependsOn": [ref]}],
    }
    bill = tmp_path / "bill"
    bill.write_text(json.dumps(document).replace(old, new))
    present = contents(path("nixos-system-pi-26.05", 1), name="pi-raw-26.05.img")
    before = earlier([bill], present)
    assert page(present=present, before=before).encode()


def test_sizes_come_from_the_bill() -> None:
    assert contents().size == sum(one.nar_size for one in SYSTEM)


def test_changes_are_told_by_kind() -> None:
    old = contents(
        *SYSTEM[:3], path("openssh-9.9", 7_999_000), path("gone-1.0", 50), path("motd", 5)
    )
    new = contents(*SYSTEM[:2], path("unit-sshd.service", 600, letter="1"), SYSTEM[3], SYSTEM[4])
    found = compare(old, new)
    assert [(one.title, one.old, one.new, one.growth) for one in found.updated] == [
        ("openssh", ("9.9",), ("10.0",), 1000)
    ]
    assert [(one.title, one.new) for one in found.added] == [("linux", ("6.12.3",))]
    assert [(one.title, one.old) for one in found.removed] == [("gone", ("1.0",))]
    assert [(one.title, one.growth) for one in found.files] == [("motd", -5)]
    assert found.rebuilt == 1  # sshd's unit: the same name, another path
    assert found.growth == new.size - old.size


def test_an_image_is_compared_with_the_newest_of_its_name(tmp_path: pathlib.Path) -> None:
    """The version of NixOS is in the name: a newer one is still the same image."""

    def write(name: str, version: str, day: int) -> pathlib.Path:
        toplevel = path(f"nixos-system-pi-{version}", 1)
        file = tmp_path / f"{name}.cdx.json"
        file.write_text(json.dumps(reports.bill(toplevel, name=name)))
        os.utime(file, (day, day))
        return file

    bills = [
        write("pi-raw-26.04.img", "26.04", 3),
        write("pi-raw-26.03.img", "26.03", 2),
        write("other-raw-26.04.img", "26.04", 9),
        write("pi-qcow-26.04.img", "26.04", 9),
    ]
    for name, text in (("a", "{"), ("b", "[]"), ("c", '{"components": [{}]}'), ("d", "[" * 9999)):
        bills.append(tmp_path / f"{name}.cdx.json")
        bills[-1].write_text(text)
    bills.append(tmp_path / "missing.cdx.json")
    present = contents(path("nixos-system-pi-26.05", 1), name="pi-raw-26.05.img")
    found = earlier(bills, present)
    assert found
    assert found.image == "pi-raw-26.04.img"
    # The very same name comes first, however old its file is.
    again = earlier(bills, contents(path("nixos-system-pi-26.03", 1), name="pi-raw-26.03.img"))
    assert again
    assert again.image == "pi-raw-26.03.img"
    assert earlier(bills, contents(path("nixos-system-nas-26.05", 1), name="nas.img")) is None


@hypothesis.given(
    st.recursive(
        st.none() | st.integers() | st.text() | st.just("/nix/store/x"),
        lambda inner: (
            st.lists(inner)
            | st.dictionaries(
                st.sampled_from(
                    "components dependencies metadata component name bom-ref ref dependsOn"
                    " properties version value".split()
                ),
                inner,
            )
        ),
    )
)
def test_any_bill_is_read_or_refused(document: object) -> None:
    try:
        found = read_contents(json.dumps(document))
    except ValueError:
        return
    chains(found)
    compare(found, contents())


@hypothesis.given(
    st.lists(st.integers(1, 10**9), max_size=60), st.integers(50, 1000), st.integers(50, 1000)
)
def test_areas_are_in_proportion_inside_and_do_not_overlap(
    sizes: list[int], width: int, height: int
) -> None:
    sizes.sort(reverse=True)
    boxes = squarify(sizes, Box(0, 0, width, height))
    assert len(boxes) == len(sizes)
    for size, box in zip(sizes, boxes, strict=True):
        assert box.width * box.height == pytest.approx(width * height * size / sum(sizes))
        assert -1e-6 <= box.x <= box.x + box.width <= width + 1e-6
        assert -1e-6 <= box.y <= box.y + box.height <= height + 1e-6
    for number, one in enumerate(boxes):
        for other in boxes[:number]:
            across = min(one.x + one.width, other.x + other.width) - max(one.x, other.x)
            along = min(one.y + one.height, other.y + other.height) - max(one.y, other.y)
            assert across < 1e-6 or along < 1e-6


def test_equal_areas_are_nearly_square() -> None:
    boxes = squarify([1] * 16, Box(0, 0, 400, 400))
    assert all(0.5 <= box.width / box.height <= 2 for box in boxes)


# --- the HTML page --------------------------------------------------------------------------------


def test_the_page_needs_nothing_else_and_runs_nothing() -> None:
    found = Reader(page())
    assert not {"script", "link", "img", "iframe", "object", "form", "base"} & set(found.tags)
    assert all(link.startswith("#") for link in found.links)
    assert not [name for name, _ in found.attributes if name.startswith("on") or name == "style"]
    policy = next(value for name, value in found.attributes if name == "content" and value)
    assert re.fullmatch(r"default-src 'none'; style-src 'sha256-[\w+/=]+'", policy)
    assert "url(" not in page()
    assert "@import" not in page()


def test_every_link_leads_to_one_place() -> None:
    many = contents(*SYSTEM, *(path(f"lib{number}-1.0", 10 + number) for number in range(200)))
    found = Reader(page(present=many))
    assert len(found.ids) == len(set(found.ids))
    assert {link.removeprefix("#") for link in found.links} <= set(found.ids)
    assert "others" in found.ids  # the paths that have no area of their own


def test_headings_have_an_order_and_tables_have_names() -> None:
    tags = [tag for tag in Reader(page()).tags if re.fullmatch("h[1-6]", tag)]
    assert tags[0] == "h1"
    assert tags.count("h1") == 1
    assert all(int(after[1]) - int(before[1]) <= 1 for before, after in itertools.pairwise(tags))
    drawing = re.search(r"<svg class=\"map wide\".*?</svg>", page(), re.DOTALL)
    assert drawing
    # Each area is a link that a screen reader can name.
    assert len(re.findall("<a ", drawing[0])) == len(re.findall(r"<a [^>]*aria-label=", drawing[0]))
    assert len(re.findall("<a ", drawing[0])) == len(SYSTEM)


def test_nobodys_text_is_more_than_text() -> None:
    text = reports.page_of(HOSTILE)
    found = Reader(text)
    assert found.tags == Reader(reports.page_of("harmless")).tags
    assert not {"script", "img"} & set(found.tags)
    assert not [name for name, _ in found.attributes if name.startswith("on")]
    assert "{{ 7*7 }}" in found.text
    assert "\x1b" not in text


def test_it_tells_what_the_run_has_done() -> None:
    text = Reader(page()).text
    for words in (
        "demo.img",
        "linux-6.12.3",
        "nixos-system-pi-26.05.1 → etc → openssh-10.0",  # why glibc is there
        "There was no earlier image of this name",
        "20 min 03 s",  # the stage build
        "built by an emulator",
        "Boot check: passed",
        "one two ready",
        "/checkout/run.sh flash /home/me/project/out/demo.img",
        "/checkout/run.sh boot /home/me/project/out/demo.img",
        "dirHash cccc",
    ):
        assert words in text, words


def test_it_tells_what_has_changed() -> None:
    old = contents(*SYSTEM[:4], SYSTEM[5], path("linux-6.11.9", 80_000_000))
    found = page(before=old)
    text = Reader(found).text
    assert "6.11.9" in text
    assert "+9.5 MiB" in text
    drawing = found.partition('class="map wide"')[2].partition("</svg>")[0]
    new = re.findall(r'aria-label="([^"]*)"><title>[^<]*</title><rect class="new"', drawing)
    assert [one.partition(",")[0] for one in new] == ["linux-6.12.3"]
    assert "The contents are the same." in Reader(page(before=contents())).text


def test_the_order_does_not_depend_on_the_bills() -> None:
    document = reports.bill(*SYSTEM)
    shuffled = {**document, "components": document["components"][::-1]}
    shuffled["dependencies"] = [
        {**one, "dependsOn": one["dependsOn"][::-1]} for one in document["dependencies"]
    ]
    assert page(present=read_contents(json.dumps(shuffled))) == page()


def test_the_demos_packages_are_listed() -> None:
    text = Reader(page(present=contents(packages=(PACKAGE,)))).text
    assert "made of 1 Debian packages" in text
    assert "jq 1.7-1" in text


def test_the_consoles_last_lines_are_shown_as_text() -> None:
    lines = [f"line {number}\x1b[0m\r\n\r\n" for number in range(99)]
    assert screen("".join(lines)).splitlines() == [f"line {number}" for number in range(74, 99)]


@pytest.mark.parametrize(
    ("story", "emulation", "title", "verdict"),
    [
        (STORY, "shared", "Boot check", "good"),
        (dataclasses.replace(STORY, boot=None), "shared", "Boot check", "none"),
        (dataclasses.replace(STORY, boot=None, failed="no login"), "shared", "Boot check", "bad"),
        (STORY, "shared", "The host's binfmt_misc", "good"),
        (STORY, "private", "The host's binfmt_misc", "good"),
        (
            dataclasses.replace(STORY, unclean="an entry is left"),
            "shared",
            "The host's binfmt_misc",
            "bad",
        ),
    ],
)
def test_verdicts_are_those_of_the_run(
    story: Story, emulation: str, title: str, verdict: str
) -> None:
    about = dataclasses.replace(ABOUT, emulation=emulation)
    found = {one.title: one for one in checks(IMAGE, about, story)}
    assert found[title].verdict == verdict
    if verdict == "bad":
        assert found[title].detail == story.failed or story.unclean


def test_only_checks_that_were_made_are_told() -> None:
    plain = {one.title for one in checks(IMAGE, ABOUT, STORY)}
    request = dataclasses.replace(
        ABOUT.request, image=ImageOptions(check=True), sign=pathlib.PurePosixPath("/k")
    )
    more = checks(IMAGE, dataclasses.replace(ABOUT, request=request), STORY)
    assert {one.title for one in more} - plain == {"Built twice"}
    assert {one.title: one.word for one in more}["Signature"] == "signed"
    recipe = {one.title for one in checks(dataclasses.replace(IMAGE, toplevel=""), ABOUT, STORY)}
    assert plain - recipe == {"File", "Store paths"}


def test_commands_are_those_that_the_image_can_use() -> None:
    out = pathlib.PurePosixPath("/home/me/my images")
    who = dataclasses.replace(ABOUT.caller, root=pathlib.PurePosixPath("/my/checkout"))
    here = dataclasses.replace(who, cwd=who.root)
    far = [one.command for one in report_view.uses(IMAGE, out, who)]
    assert far[0] == "/my/checkout/run.sh flash '/home/me/my images/demo.img'"
    card = [one.command for one in report_view.uses(IMAGE, out, here)]
    assert card[0] == "./run.sh flash '/home/me/my images/demo.img'"
    cloud = dataclasses.replace(IMAGE, disk_format="qcow2")
    assert not [one for one in report_view.uses(cloud, out, here) if "flash" in one.command]
    archive = dataclasses.replace(cloud, firmware=())
    assert [one.command.split()[1] for one in report_view.uses(archive, out, here)] == ["verify"]


@pytest.mark.parametrize(
    ("number", "words"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (1536, "1.5 KiB"),
        (200 << 20, "200 MiB"),
        (5 << 30, "5.00 GiB"),
    ],
)
def test_sizes_are_for_people(number: int, words: str) -> None:
    assert report_view.size(number) == words


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.04, "0.0 s"), (59.9, "59.9 s"), (61, "1 min 01 s"), (7260, "2 h 01 min")],
)
def test_durations_are_for_people(seconds: float, words: str) -> None:
    assert report_view.duration(seconds) == words


# --- beside the image -----------------------------------------------------------------------------


def write(folder: pathlib.Path, story: Story = STORY) -> tuple[list[str], list[str]]:
    (folder / "demo.img.cdx.json").write_text(json.dumps(reports.bill(*SYSTEM)))
    warnings: list[str] = []
    names = evidence.write(folder, IMAGE, ABOUT, story, warnings.append)
    return names, warnings


def test_it_lies_beside_the_image_with_its_checksum(tmp_path: pathlib.Path) -> None:
    names, warnings = write(tmp_path)
    assert "demo.img.report.html" in names
    assert warnings == []
    listed = (tmp_path / "demo.img.sha256").read_text().splitlines()
    assert "demo.img.report.html" in [line.split("  ")[1] for line in listed]


def test_a_fault_of_the_report_costs_only_the_report(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report_view, "timeline", lambda *_: 1 / 0)
    names, warnings = write(tmp_path)
    assert "demo.img.report.html" not in names
    assert "demo.img.sha256" in names
    assert len(warnings) == 1
    assert "ZeroDivisionError" in warnings[0]
    assert "report.html" not in (tmp_path / "demo.img.sha256").read_text()
    assert not (tmp_path / "demo.img.report.html").exists()


def test_a_system_of_many_paths_makes_a_page_of_a_reasonable_size() -> None:
    many = contents(*SYSTEM, *(path(f"package-{n}-1.{n}", 5000 + n) for n in range(3000)))
    assert len(page(present=many)) < 1_500_000
