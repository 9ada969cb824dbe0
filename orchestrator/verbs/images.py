"""`images`: push this checkout's container images to a registry.

run.sh does it, because the caller's Docker client has the passwords of registries
(caller/registry.sh). Before that, this verb's work builds what is missing or old.
"""

import argparse
import contextlib
import dataclasses
import re

from orchestrator.ask.orders import Orders
from orchestrator.ask.parser import Parser, add_display_options, display
from orchestrator.ask.request import Caller
from orchestrator.shared.display import Display
from orchestrator.shared.errors import UsageError
from orchestrator.verbs.registry import Session, Verb

#: A registry with or without a port and a path; caller/registry.sh has the same rule.
REGISTRY = re.compile(r"[a-z0-9][a-z0-9._:/-]*")

#: Services whose images are pushed, besides those that run.sh makes.
SERVICES = ("builder", "cleanup")


@dataclasses.dataclass(frozen=True)
class Images:
    """What `images` is asked for: push to `registry`."""

    registry: str
    display: Display


def _parser() -> Parser:
    parser = Parser(
        "images",
        "Push the container images of this checkout to a registry, and write their digests to"
        "\nlocks/images. Whoever has this file in the same checkout pulls these images instead of"
        "\nbuilding them; NIXOS_IMAGE_REGISTRY names another registry that has them, or none.",
        examples=(("images push ghcr.io/me/nixos-image", "docker login ghcr.io comes first"),),
    )
    parser.add_argument("action", choices=("push",))
    parser.add_argument("registry", metavar="REGISTRY", help="HOST[:PORT]/PATH")
    add_display_options(parser)
    return parser


def _request(found: argparse.Namespace, _who: Caller) -> Images:
    name = found.registry
    if not REGISTRY.fullmatch(name) or "//" in name or name.endswith("/"):
        raise UsageError(
            f"{name!r} is not the name of a registry",
            hint="HOST[:PORT]/PATH in small letters, no https:",
        )
    return Images(name, display(found))


def _orders(request: Images) -> Orders:
    return [["terminal"], ["push_images", request.registry]]


def _work(request: Images, session: Session) -> int:
    from orchestrator.docker import images
    from orchestrator.run.runs import run_workspace
    from orchestrator.shared.progress import make_progress

    who = session.who
    with (
        contextlib.closing(make_progress(request.display, who.terminal)) as progress,
        run_workspace(who, {}) as (engine, workspace),
    ):
        made = images.Images(engine, "aarch64", workspace.logs, own=who.image)
        try:
            made.want(SERVICES)
            made.wait(SERVICES, progress)
        finally:
            made.close()
        progress.end()
        engine.down()
    return 0


VERB = Verb(
    group="keep house",
    shown=(("images push REGISTRY", "push the container images, for others to pull"),),
    parser=_parser,
    request=_request,
    work=_work,
    orders=_orders,
)
