"""Recognises crashes of an emulator in a failed build's log.

The patterns are messages of QEMU's `linux-user` (signal.c, elfload.c, `host_signal_handler`) and of
its translator, versions 7.2 to 11.1.
"""

import re

#: Messages of a crashed emulator in a build's log. Signal 6 is not among them: a program that calls
#: abort(3) means to.
_WORDS = re.compile(
    r"qemu: uncaught target signal (?:4|7|11)\b.*"
    r"|qemu\S*: QEMU internal SIG.*"
    r"|.*Unable to reserve 0x[0-9a-f]+ bytes of virtual address space.*"
    r"|.*Unable to find a guest_base.*"
    r"|.*\btcg fatal error\b.*"
    r"|.*ERROR:\S*/(?:tcg|linux-user)/.*"
    r"|.*\bFunction not implemented\b.*"
)

#: Nix' message about a builder that was killed by SIGILL, SIGBUS or SIGSEGV, or whose shell's child
#: was.
_ENDS = re.compile(r"failed (?:with exit code (?:132|135|139)\b|due to signal (?:4|7|11)\b.*)")

#: Place of the build system in a .drv file: after the list of sources, before the builder.
_SYSTEM = re.compile(r'\],"([^"]+)","')


def sign(said: str, log: str) -> str:
    """Return the line of a failed build that shows an emulator's crash, or "".

    `said` is Nix' error message, `log` the end of the build's log.
    """
    words = [line.strip() for line in log.splitlines() if _WORDS.match(line.strip())]
    ends = _ENDS.search(said)
    return words[-1] if words else ends[0] if ends else ""


def system_of(derivation: str) -> str:
    """Return the build system that the text of a `.drv` file names, or ""."""
    match = _SYSTEM.search(derivation)
    return match[1] if match else ""
