"""What tells that an emulator, and perhaps not the program that it ran, has failed.

The words are those of QEMU's `linux-user` (signal.c, elfload.c, its `host_signal_handler`) and of
its translator, of versions 7.2 to 11.1.
"""

import re

#: In a build's log. A program that calls abort(3) has meant it: signal 6 is no sign.
_WORDS = re.compile(
    r"qemu: uncaught target signal (?:4|7|11)\b.*"
    r"|qemu\S*: QEMU internal SIG.*"
    r"|.*Unable to reserve 0x[0-9a-f]+ bytes of virtual address space.*"
    r"|.*Unable to find a guest_base.*"
    r"|.*\btcg fatal error\b.*"
    r"|.*ERROR:\S*/(?:tcg|linux-user)/.*"
    r"|.*\bFunction not implemented\b.*"
)

#: What Nix says of the builder: SIGILL, SIGBUS or SIGSEGV, of its own or of a child of its shell.
_ENDS = re.compile(r"failed (?:with exit code (?:132|135|139)\b|due to signal (?:4|7|11)\b.*)")

#: In a derivation as Nix writes it to its store, a term: outputs, inputs, sources (a list), system,
#: builder, ...
_SYSTEM = re.compile(r'\],"([^"]+)","')


def sign(said: str, log: str) -> str:
    """The line of a failed build that tells so, or nothing.

    `said` is what Nix says of it, `log` the end of what the build itself has said.
    """
    words = [line.strip() for line in log.splitlines() if _WORDS.match(line.strip())]
    ends = _ENDS.search(said)
    return words[-1] if words else ends[0] if ends else ""


def system_of(derivation: str) -> str:
    """The system that the text of a `.drv` file is built on; nothing where it does not say so."""
    match = _SYSTEM.search(derivation)
    return match[1] if match else ""
