"""A made-up bill of materials, and what a run tells of it, for tests of the report."""

import dataclasses
import json
import typing

from orchestrator.agents.builder import sbom
from orchestrator.deliver import provenance, report
from orchestrator.deliver.contents import Contents, read_contents
from orchestrator.deliver.provenance import About
from orchestrator.deliver.report_checks import Story
from orchestrator.shared.artifact import Artifact, Material
from orchestrator.shared.steps import Step, Steps, Sum
from tests.unit.artifacts import ABOUT, IMAGE

HASH = "0123456789abcdfghijklmnpqrsvwxyz"

#: Text that would be markup, a script, an attribute's end, a template's expression, an escape.
HOSTILE = (
    "<script>document.title='owned'</script>\"'><img src=x onerror=alert(1)>{{ 7*7 }}\x1b[31m&"
)


def path(name: str, size: int, *references: str, letter: str = "0") -> sbom.StorePath:
    """Make a store path whose hash begins with `letter`."""
    needed = tuple(f"/nix/store/{HASH}-{one}" for one in references)
    return sbom.StorePath(f"/nix/store/{letter}{HASH[1:]}-{name}", "sha256-x", size, needed)


#: A system: its toplevel refers to two paths, through which the others are needed.
SYSTEM = (
    path("nixos-system-pi-26.05.1", 4096, "etc", "linux-6.12.3", "nixos-system-pi-26.05.1"),
    path("etc", 2048, "openssh-10.0", "unit-sshd.service"),
    path("unit-sshd.service", 512, "openssh-10.0"),
    path("openssh-10.0", 8_000_000, "glibc-2.42"),
    path("linux-6.12.3", 90_000_000),
    path("glibc-2.42", 30_000_000),
)


def bill(
    *paths: sbom.StorePath, name: str = "demo.img", packages: tuple[Material, ...] = ()
) -> dict[str, typing.Any]:
    """Return the bill of materials of an image with `paths`, the first of which is the toplevel."""
    return sbom.document(name, IMAGE.sha256, sbom.Parts((paths[0].path,), paths, packages))


def contents(
    *paths: sbom.StorePath, name: str = "demo.img", packages: tuple[Material, ...] = ()
) -> Contents:
    """Read the bill of `paths` as the orchestrator does."""
    return read_contents(json.dumps(bill(*(paths or SYSTEM), name=name, packages=packages)))


PACKAGE = Material("jq", "1.7-1", "pkg:deb/debian/jq@1.7-1?arch=all&distro=x", {"sha256": "a" * 64})

STEPS = Steps(
    longest=(
        Step("fetched", "glibc-2.42", 0.5, 2.0, 9_000_000),
        Step("native", "etc", 2.5, 0.2),
        Step("emulated", "linux-6.12.3", 3.0, 1200.0),
    ),
    sums=(
        Sum("fetched", 3, 4.0, 30_000_000),
        Sum("native", 9, 1.0, 0),
        Sum("emulated", 1, 1200, 0),
    ),
)

STORY = Story(
    boot={"accelerator": "tcg", "machine": "aarch64", "seconds": {"ready": 11.0}},
    console="one\r\ntwo\r\n\x1b[2Jready\r\n",
    seconds={"build": 1203.0, "assemble": 4.5},
    steps=STEPS,
)


def page(
    image: Artifact = IMAGE,
    about: About = ABOUT,
    story: Story = STORY,
    present: Contents | None = None,
    before: Contents | None = None,
) -> str:
    """Render a report."""
    document = provenance.statement(image, "d" * 64, about)
    return report.render(image, present or contents(), before, document, about, story)


def page_of(text: str) -> str:
    """Render a report in which `text` is every text that others choose."""
    image = dataclasses.replace(IMAGE, path=f"image/{text}", host=text, format=text)
    about = dataclasses.replace(
        ABOUT,
        emulators=[{"emulator": text, "version": text}],
        nix=text,
        sent=[{"name": text, "digest": {text: text}}],
    )
    story = dataclasses.replace(
        STORY,
        boot=None,
        failed=text,
        console=text,
        seconds={text: 5.0},
        steps=Steps((Step("native", text, 0, 1),), (Sum("native", 1, 1, 0),)),
    )
    paths = (
        path(f"nixos-system-{text}-1", 900, f"{text}-1"),
        path(f"{text}-1", 500_000),
    )
    before = (paths[0], path(f"{text}-0", 5))
    return page(image, about, story, contents(*paths, name=text), contents(*before, name=text))
