"""cleanup: holds binfmt_misc mounted for the whole run.

Then removes what the run registered and proves it.

It starts first: since Linux 6.7 the table would be gone with the registrar otherwise. It ends when
it is unlocked over TCP, or by itself (see `lease`). Its exit code is 0 only if the table was seen
to be clean.
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
    """Without arguments: guard a run.

    `look`: only hold the table; `reap NAME...`, beside it: remove dead runs' entries.
    """
    match sys.argv[1:]:
        case ["reap", *names]:
            run_agent("cleanup", lambda: reap(names))
        case ["look"]:
            run_agent("cleanup", look)
        case _:
            run_agent("cleanup", guard)


def guard() -> None:
    """Mount, record, wait, clean, prove."""
    run = this_run()
    TOKEN_FILE.unlink(missing_ok=True)  # of a cleanup before this one: nobody must take it for ours
    binfmt.mount()
    before = binfmt.entries()
    if mine := _of_run(
        run, before
    ):  # left by a dead run of the same name: `docker compose up` has only one
        for name in mine:
            binfmt.remove(name)
        before = binfmt.entries()
    events.emit("table", message="binfmt_misc is held", entries=sorted(before))
    reason = asyncio.run(_wait(run))
    clean(run, before, reason)


def look() -> None:
    """Tell the table and hold it until this container is removed."""
    binfmt.mount()
    events.emit("table", message="binfmt_misc is held", entries=sorted(binfmt.entries()))
    signal.pause()


def clean(run: Run, before: dict[str, binfmt.Entry], reason: str) -> None:
    """Remove what `run` registered.

    Raises `AgentError` if any of it is left or another tool's entry differs.
    """
    # First: a registrar that is late sees that nobody would remove what it has registered.
    TOKEN_FILE.unlink(missing_ok=True)
    removed = _of_run(run, binfmt.entries())
    for name in removed:
        binfmt.remove(name)
    after = binfmt.entries()
    left = _of_run(run, after)
    if left:
        raise AgentError(
            f"binfmt_misc still has {', '.join(left)}", hint="./run.sh clean", kind="cleanup"
        )
    changed = sorted(
        name for name in _foreign(before) | _foreign(after) if before.get(name) != after.get(name)
    )
    if changed:
        events.emit(
            "foreign-change",
            level="warning",
            message=f"changed by others meanwhile: {', '.join(changed)}",
        )
    state = "nothing of this run is left" if changed else "the table is as it was"
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
    """Remove the entries `names`, which belong to runs that are dead."""
    for name in names:
        binfmt.remove(name)
    left = sorted(set(names) & binfmt.entries().keys())
    if left:
        raise AgentError(f"binfmt_misc still has {', '.join(left)}", kind="cleanup")
    events.emit("reaped", message=f"removed what dead runs left: {', '.join(names)}", removed=names)


async def _wait(run: Run) -> str:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    now = time.monotonic()
    lease = Lease(now + run.start_seconds, run.grace_seconds, now + run.deadline_seconds)
    token = secrets.token_hex(32)
    await serve(lease, token, PORT, lambda: _publish(token), stop)
    # The loop takes its handlers away with it: from here on nothing ends what it has decided.
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    return lease.reason


def _publish(token: str) -> None:
    """Write the token for the builder, which runs as another user.

    The volume has no other readers. Whole or not at all.
    """
    partial = TOKEN_FILE.with_suffix(".partial")
    partial.write_text(token)
    partial.chmod(0o444)
    os.replace(partial, TOKEN_FILE)
    events.emit("ready", message="waiting to be unlocked")


def _of_run(run: Run, table: dict[str, binfmt.Entry]) -> list[str]:
    return sorted(name for name in table if name.startswith(f"{binfmt.PREFIX}{run.id}-"))


def _foreign(table: dict[str, binfmt.Entry]) -> set[str]:
    return {name for name in table if not name.startswith(binfmt.PREFIX)}


if __name__ == "__main__":
    main()
