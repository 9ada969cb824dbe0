"""Writes an image's report: one HTML page for people, without a script and without a network.

What it shows comes from builds, configurations and the guest's console: anybody's text. The
template escapes every value, and the page's policy allows nothing but its own style sheet.
"""

import base64
import hashlib
import pathlib
import typing

import jinja2
import markupsafe

from orchestrator.deliver import report_checks, report_view
from orchestrator.deliver.contents import Contents, compare, earlier, read_bill
from orchestrator.deliver.provenance import About
from orchestrator.deliver.report_checks import Story
from orchestrator.shared.artifact import REPORT, Artifact
from orchestrator.shared.text import plain

HERE = pathlib.Path(__file__).parent
TEMPLATE, STYLE = "report.html.j2", HERE / "report.css"


def write(
    folder: pathlib.Path,
    image: Artifact,
    statement: dict[str, typing.Any],
    about: About,
    story: Story,
) -> pathlib.Path:
    """Write the report of `image` to the images' `folder`; `statement` is its provenance.

    Raises `ValueError` if the bill of materials cannot be read.
    """
    contents = read_bill(folder / pathlib.PurePosixPath(image.sbom).name)
    before = earlier(story.bills, contents)
    target = folder / f"{image.file_name}{REPORT}"
    target.write_text(render(image, contents, before, statement, about, story))
    return target


def render(
    image: Artifact,
    contents: Contents,
    before: Contents | None,
    statement: dict[str, typing.Any],
    about: About,
    story: Story,
) -> str:
    """Return the page; `before` is the earlier image of the same name."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: plain(value) if type(value) is str else value,
    )
    environment.filters |= {
        "size": report_view.size,
        "growth": report_view.growth,
        "time": report_view.duration,
    }
    style = STYLE.read_text()
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    changes = compare(before, contents) if before else None
    definition = statement["predicate"]["buildDefinition"]
    run = statement["predicate"]["runDetails"]["metadata"]
    return environment.get_template(TEMPLATE).render(
        style=markupsafe.Markup(style),  # noqa: S704 - our own file
        style_hash=f"sha256-{digest}",
        image=image,
        made=run["finishedOn"].replace("T", " ").removesuffix("Z") + " UTC",
        run=run["invocationId"],
        contents=contents,
        earlier=before,
        changes=changes,
        same=changes is not None and report_view.nothing_changed(changes),
        change_tables=report_view.change_tables(changes),
        checks=report_checks.checks(image, about, story),
        uses=report_view.uses(image, about.request.out, about.caller),
        facts=report_view.facts(image, about),
        how=report_view.how(about),
        asked=report_view.asked(definition["externalParameters"]),
        inputs=report_view.inputs(definition["resolvedDependencies"]),
        screen=report_checks.screen(story.console),
        names=report_view.KIND_NAMES,
        **report_view.treemap(contents, before),
        **report_view.timeline(story.seconds, story.steps),
    )
