"""Agent cleanup: keeps binfmt_misc mounted during a run, then restores it.

At the end it removes the entries that the run has registered, and verifies that they are gone.
cleanup starts first: since Linux 6.7, binfmt_misc would end with the registrar's mount. It ends
when the builder unlocks it over TCP, or by itself (see `lease`). Its exit code is 0 only if it has
seen that no entry of the run is left.
"""

import asyncio
import os
import secrets
import signal
import sys
import time

from orchestrator.agents import events
from orchestrator.agents.emulation import binfmt
from orchestrator.agents.emulation.lease import PORT, Lease, serve
from orchestrator.agents.failure import AgentError, run_agent
from orchestrator.shared.run import TOKEN_FILE, Run, this_run


def main() -> None:
    """Guard a run (without arguments), or run a subcommand.

    `look`: only keep binfmt_misc mounted. `reap NAME...`, executed in that container: remove
    entries of dead runs.
    """
    match sys.argv[1:]:
        case ["reap", *names]:
            run_agent("cleanup", lambda: reap(names))
        case ["look"]:
            run_agent("cleanup", look)
        case _:
            run_agent("cleanup", guard)


def guard() -> None:
    """Mount binfmt_misc, record its entries, wait for the lease's end, clean up, verify."""
    run = this_run()
    # A previous cleanup's token must not be taken for this one's.
    TOKEN_FILE.unlink(missing_ok=True)
    binfmt.mount()
    before = binfmt.entries()
    # Left by a dead run of the same name: a plain `docker compose up` has a fixed one.
    if mine := _of_run(run, before):
        for name in mine:
            binfmt.remove(name)
        before = binfmt.entries()
    events.emit("table", message="cleanup has mounted binfmt_misc", entries=sorted(before))
    reason = asyncio.run(_wait(run))
    clean(run, before, reason)


def look() -> None:
    """Report all entries, and keep binfmt_misc mounted until this container is removed.

    Without a binfmt_misc that a registrar could have written to, the report has no entries.
    """
    try:
        binfmt.mount()
    except binfmt.NoTableError as error:
        events.emit("table", message=str(error), entries=[])
    else:
        events.emit(
            "table", message="cleanup has mounted binfmt_misc", entries=sorted(binfmt.entries())
        )
    signal.pause()


def clean(run: Run, before: dict[str, binfmt.Entry], reason: str) -> None:
    """Remove the entries that `run` has registered.

    Raises `AgentError` if any of them is left. A change of another tool's entry is a warning.
    """
    # The token goes first: a late registrar then sees that nobody would remove its entries.
    TOKEN_FILE.unlink(missing_ok=True)
    removed = _of_run(run, binfmt.entries())
    for name in removed:
        binfmt.remove(name)
    after = binfmt.entries()
    left = _of_run(run, after)
    if left:
        raise AgentError(
            f"entries of this run are left in binfmt_misc: {', '.join(left)}",
            hint="./run.sh clean removes what is left",
            kind="cleanup",
        )
    changed = sorted(
        name for name in _foreign(before) | _foreign(after) if before.get(name) != after.get(name)
    )
    if changed:
        events.emit(
            "foreign-change",
            level="warning",
            message=f"other programs have changed binfmt_misc entries: {', '.join(changed)}",
        )
    state = "no entry of this run is left" if changed else "binfmt_misc is as before"
    message = f"removed {', '.join(removed) or 'nothing'} ({reason}); {state}"
    events.emit(
        "cleaned",
        message=message,
        reason=reason,
        removed=removed,
        entries=sorted(after),
        changed=changed,
    )


def reap(names: list[str]) -> None:
    """Remove the entries `names` of dead runs from binfmt_misc."""
    for name in names:
        binfmt.remove(name)
    left = sorted(set(names) & binfmt.entries().keys())
    if left:
        raise AgentError(
            f"entries of dead runs are left in binfmt_misc: {', '.join(left)}", kind="cleanup"
        )
    events.emit(
        "reaped", message=f"removed entries of dead runs: {', '.join(names)}", removed=names
    )


async def _wait(run: Run) -> str:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    now = time.monotonic()
    lease = Lease(now + run.start_seconds, run.grace_seconds, now + run.deadline_seconds)
    token = secrets.token_hex(32)
    await serve(lease, token, PORT, lambda: _publish(token), stop)
    # asyncio's signal handlers end with its loop: block the signals, so that clean() completes.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    return lease.reason


def _publish(token: str) -> None:
    """Write the token file, readable for the builder, which is another user.

    Only this run's containers have the volume. The file appears atomically.
    """
    partial = TOKEN_FILE.with_suffix(".partial")
    partial.write_text(token)
    partial.chmod(0o444)
    os.replace(partial, TOKEN_FILE)
    events.emit("ready", message="cleanup is ready: it waits for the builder to connect")


def _of_run(run: Run, table: dict[str, binfmt.Entry]) -> list[str]:
    return sorted(name for name in table if name.startswith(f"{binfmt.PREFIX}{run.id}-"))


def _foreign(table: dict[str, binfmt.Entry]) -> set[str]:
    return {name for name in table if not name.startswith(binfmt.PREFIX)}


if __name__ == "__main__":
    main()
