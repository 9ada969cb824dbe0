"""Checks an image's spec as soon as Nix has evaluated it, before anything is built."""

from orchestrator.agents.failure import AgentError
from orchestrator.image.layout import LayoutError, Sizes, plan_layout
from orchestrator.shared.constants import MIB
from orchestrator.shared.image_options import ImageOptions, apply
from orchestrator.shared.spec import SpecError
from orchestrator.shared.spec_reader import read_spec


def check_image(options: ImageOptions, spec: str) -> None:
    """Raise `AgentError` if `options` and an image's spec (JSON, or null) do not go together."""
    if spec == "null":
        if options.given:
            raise AgentError(
                f"{options.given[0]}: nixpkgs makes this image, without this option",
                hint="leave out nixosImage.touchEFIVars and postVM, or the option",
                kind="usage",
            )
        return
    try:
        made = apply(options, read_spec(spec))
        # The closure's size is not known yet: at least the other partitions must fit.
        sizes = Sizes(
            root=made.root.additionalSpaceMiB * MIB,
            boot=made.boot.sizeMiB * MIB,
            esp=made.esp.sizeMiB * MIB,
            firmware=made.firmware.sizeMiB * MIB,
            firmware_offset=made.firmware.offsetMiB * MIB,
            disk=made.diskSizeMiB * MIB,
        )
        plan_layout(made.partitionTable, sizes)
    except (SpecError, LayoutError) as error:
        raise AgentError(str(error), kind="usage") from error
