"""Agent sweep: removes staging folders of dead runs from the store's volume."""

import sys

from orchestrator.agents import events
from orchestrator.agents.failure import run_agent
from orchestrator.image import staging


def main() -> None:
    """Run `sweep`; with the argument `everything` it removes folders of earlier versions, too."""
    run_agent("sweep", sweep)


def sweep() -> None:
    """Remove staging folders of dead runs and report their names."""
    if not staging.FOLDER.exists():
        return  # no builder has run yet
    removed = staging.sweep(everything=sys.argv[1:] == ["everything"])
    if removed:
        events.emit("swept", message=f"removed {', '.join(removed)}", removed=removed)


if __name__ == "__main__":
    main()
