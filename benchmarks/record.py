"""Records a command's terminal as asciicast v2 (asciinema): `record.py FILE COMMAND...`.

https://docs.asciinema.org/manual/asciicast/v2/. Silence longer than IDLE_SECONDS is shortened.
"""

import codecs
import contextlib
import fcntl
import json
import os
import pathlib
import pty
import struct
import sys
import termios
import time

COLUMNS, ROWS = 100, 28

#: Longest silence in the recording, in seconds.
IDLE_SECONDS = 1.0


def record(target: pathlib.Path, command: list[str]) -> int:
    """Run `command` on a terminal of its own and write what it shows; returns its exit code."""
    child, terminal = pty.fork()
    if child == 0:
        # Set here, because the command may ask for the size before the parent does anything.
        fcntl.ioctl(0, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        os.environ |= {"TERM": "xterm-256color"}
        os.execvp(command[0], command)  # noqa: S606 - the caller's own command
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    at, last = 0.0, time.monotonic()
    with target.open("w") as file:
        head = {"version": 2, "width": COLUMNS, "height": ROWS, "title": " ".join(command)}
        file.write(f"{json.dumps(head)}\n")
        # The terminal is closed when the command has ended: then reading fails.
        with contextlib.suppress(OSError):
            while data := os.read(terminal, 65536):
                now = time.monotonic()
                at, last = at + min(now - last, IDLE_SECONDS), now
                if text := decoder.decode(data):
                    file.write(f"{json.dumps([round(at, 3), 'o', text], ensure_ascii=False)}\n")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


if __name__ == "__main__":
    sys.exit(record(pathlib.Path(sys.argv[1]), sys.argv[2:]))
