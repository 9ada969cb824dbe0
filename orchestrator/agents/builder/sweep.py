"""sweep: removes from the store's volume what dead runs have left beside the store itself."""

import sys

from orchestrator.agents import events
from orchestrator.agents.failure import run_agent
from orchestrator.image import staging


def main() -> None:
    """Remove it; with the argument `everything` also what earlier versions have left."""
    run_agent("sweep", sweep)


def sweep() -> None:
    """Tell what was removed."""
    if not staging.FOLDER.exists():
        return  # nothing was ever built
    removed = staging.sweep(everything=sys.argv[1:] == ["everything"])
    if removed:
        events.emit("swept", message=f"removed {', '.join(removed)}", removed=removed)


if __name__ == "__main__":
    main()
