"""What a report says of checks: which were made, which passed, what was not checked."""

import dataclasses
import pathlib
import typing

from orchestrator.deliver.provenance import About
from orchestrator.shared.artifact import Artifact
from orchestrator.shared.steps import Steps
from orchestrator.shared.text import plain

#: Number of the console's last lines in a report, those of a terminal.
SCREEN_LINES = 25

MARKS = {"good": "✓", "bad": "✗", "none": "\N{EN DASH}"}


@dataclasses.dataclass(frozen=True)
class Story:
    """What happened in a run, besides the facts of the provenance.

    `boot` is the boot check's result, `failed` why it failed, `unclean` why the host is not known
    to be clean; `console` is what the guest has printed. `seconds` has the duration of each stage,
    `bills` are bills of materials of earlier images.
    """

    boot: dict[str, typing.Any] | None = None
    failed: str = ""
    unclean: str = ""
    console: str = ""
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    steps: Steps = dataclasses.field(default_factory=Steps)
    bills: tuple[pathlib.Path, ...] = ()


@dataclasses.dataclass(frozen=True)
class Check:
    """One check: `verdict` is good, bad or none; `short` stands at the top of the page."""

    title: str
    verdict: typing.Literal["good", "bad", "none"]
    word: str
    detail: str = ""
    short: str = ""

    @property
    def mark(self) -> str:
        """The verdict's sign."""
        return MARKS[self.verdict]


def checks(image: Artifact, about: About, story: Story) -> list[Check]:
    """Return all checks of `image`, the most important first."""
    options = about.request.image
    found = [_boot(image, story)]
    if options.check:
        found.append(
            Check(
                "Built twice",
                "good",
                "identical",
                "Two files were made and compared.",
                "reproducible",
            )
        )
    if image.toplevel:
        found += [
            Check(
                "File",
                "good",
                "passed",
                "Independent tools have read the partition table, the file system and the file.",
            ),
            Check(
                "Store paths",
                "good",
                "passed",
                "Each file was hashed while it was copied, and is what Nix has made.",
            ),
        ]
    if options.secret:
        found.append(
            Check(
                "Secrets",
                "good",
                "passed",
                "The disk has them where they were put, and nowhere else.",
            )
        )
    found += [_emulation(about, story), _sandbox(about)]
    if about.request.sign:
        found.append(
            Check("Signature", "good", "signed", "The list of checksums is signed.", "signed")
        )
    else:
        found.append(
            Check("Signature", "none", "not signed", "--sign FILE signs the list of checksums.")
        )
    return found


def _boot(image: Artifact, story: Story) -> Check:
    if story.boot:
        words = ", ".join(str(story.boot.get(key) or "") for key in ("machine", "accelerator"))
        detail = f"A virtual machine ({words}) has booted a copy, and SSH let the check in."
        return Check("Boot check", "good", "passed", detail, "boots")
    if story.failed:
        return Check("Boot check", "bad", "failed", story.failed, "boot check failed")
    if not image.firmware:
        return Check("Boot check", "none", "not made", "No firmware boots a file of this format.")
    return Check(
        "Boot check",
        "none",
        "not made in this run",
        "--boot checks an image when it is made, `boot --test` at any time.",
        "boot not checked",
    )


def _emulation(about: About, story: Story) -> Check:
    title = "The host's binfmt_misc"
    match about.emulation:
        case "shared" if story.unclean:
            return Check(title, "bad", "not clean", story.unclean, "host not clean")
        case "shared":
            return Check(
                title,
                "good",
                "clean",
                "The emulators' entries are gone, and their programs do not run.",
            )
        case "private":
            return Check(
                title,
                "good",
                "untouched",
                "Emulators were registered in the builder's container alone.",
            )
        case _:
            return Check(title, "good", "untouched", "This run has registered no emulator.")


def _sandbox(about: About) -> Check:
    if about.sandbox.get("sandbox"):
        return Check("Nix' sandbox", "good", "on", "Builds saw their inputs, and no network.")
    return Check(
        "Nix' sandbox", "none", "off", "Builds could see more of their container than their inputs."
    )


def screen(console: str) -> str:
    """Return the last lines of the guest's console, without control sequences."""
    text = plain(console.replace("\r", "\n"))
    lines = [line.rstrip() for line in text.splitlines() if line.strip()]
    return "\n".join(lines[-SCREEN_LINES:])
