"""Agent sweep: removes staging folders of dead runs from the store's volume.

Its argument is a JSON object; `Sweep` has the fields. The verb `clean` starts it.
"""

import os
import sys

from orchestrator.agents import events
from orchestrator.agents.failure import run_agent
from orchestrator.image import staging
from orchestrator.shared.json_reader import from_json, read_json
from orchestrator.shared.store import Sweep
from orchestrator.shared.text import plain


def main() -> None:
    """Run `sweep` as the main function of its container, also on the store of an earlier user."""
    run_agent("sweep", sweep, owns_store=False)


def sweep() -> None:
    """Remove staging folders of dead runs and report their names."""
    if not staging.FOLDER.exists() or staging.FOLDER.stat().st_uid != os.geteuid():
        return  # no builder has run yet, or it was an earlier version's with another user
    order = from_json(Sweep, read_json(sys.argv[1], "order"), "order")
    swept = staging.sweep(everything=order.everything)
    if swept.removed:
        names = [plain(name) for name in swept.removed]
        events.emit("swept", message=f"removed {', '.join(names)}", removed=names)
    warn(swept)


def warn(swept: staging.Swept) -> None:
    """Warn of folders of dead runs that are left."""
    for name, cause in swept.left.items():
        events.emit(
            "left",
            level="warning",
            message=f"{staging.FOLDER}/{plain(name)} of a dead run cannot be removed: {cause}",
        )


if __name__ == "__main__":
    main()
