"""Opens a shell in a failed derivation's folder, for --debug-shell.

The run that failed leaves its folder on the work volume (`keep`). run.sh then calls the
orchestrator once more, on the caller's terminal (`open_shell`), and removes the volume afterwards.
"""

import shutil
import sys

from orchestrator.ask.request import Caller
from orchestrator.docker.engine import Engine
from orchestrator.docker.workspace import KEPT, ROOTS_OWN, Workspace
from orchestrator.shared.run import WORK
from orchestrator.shared.task import FAILED, Task


def keep(workspace: Workspace) -> None:
    """Keep the run's folder and Compose's variables, if the builder has noted a derivation."""
    if (workspace.shared / FAILED).is_file(follow_symlinks=False):
        shutil.copyfile(workspace.variables, workspace.shared / ROOTS_OWN / KEPT)


def open_shell(who: Caller) -> int:
    """Run the shell on this process' terminal; returns 0.

    Without a derivation that has failed, for example after an error of the evaluation, say so.
    """
    folder = WORK / who.run
    variables = folder / ROOTS_OWN / KEPT
    if not variables.is_file(follow_symlinks=False):
        sys.stderr.write("--debug-shell: no derivation has failed, so there is no shell\n")
        return 0
    task = Task.read(folder)
    engine = Engine(who.run, variables)
    try:
        if task.private:  # fills the volume with the emulators, which the debug container registers
            engine.run_to_end("emulators")
        name = f"{engine.project}-debug-1"
        engine.run_on_terminal("debug", ["--name", name], [])
    finally:
        engine.down()
    return 0
