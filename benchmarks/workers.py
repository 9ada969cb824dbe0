"""Benchmark: what builders on other machines save, and what one that has nothing to do costs.

`workers.sh` runs this in the builder's image with the workers' addresses, host keys and the SSH key
on stdin; docs/performance.md explains what is measured. Prints JSON.
"""

import contextlib
import dataclasses
import io
import json
import os
import pathlib
import secrets
import sys
import time

from orchestrator.agents.builder import crew
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.builder.nix_settings import Settings
from orchestrator.shared.builders import BUILDERS, Builder, Keyed, write_keyed
from orchestrator.shared.run import Run

#: Independent derivations of one build; loops of bash in each: about a second of CPU time.
COUNT = int(os.environ.get("BENCHMARK_COUNT") or 40)
LOOPS = int(os.environ.get("BENCHMARK_LOOPS") or 400_000)

#: Builds with nothing to do, of which the fastest counts.
REPEATS = 5

RUN = Run("benchmark", (), 1, 1, 1)


def main() -> None:
    """Build with one, two and all workers, then nothing with none and with one."""
    given = json.load(sys.stdin)
    for folder in (RUN.folder, pathlib.Path("/nix/var/nix"), pathlib.Path("/tmp/builds")):  # noqa: S108
        folder.mkdir(parents=True, exist_ok=True)
    workers = [
        Keyed(
            Builder(f"ssh-ng://builder@{one['host']}:2222", ("x86_64-linux",), "key", jobs=1,
                    host_key=one["key"]),
            given["secret"],
        )
        for one in given["workers"]
    ]  # fmt: skip
    loaded = os.getloadavg()
    counts = [count for count in (1, 2, 4) if count <= len(workers)]
    # Nothing is built here: a local build would be limited by nothing.
    seconds = {count: built(workers[:count], expression(), ("--max-jobs", "0")) for count in counts}
    done = expression()
    built([], done)
    idle = {
        name: [round(built(crowd, done), 3) for _ in range(REPEATS)]
        for name, crowd in (("without", []), ("with one builder", workers[:1]))
    }
    found = {
        "derivations": COUNT,
        "loops of each": LOOPS,
        "cores": os.cpu_count(),
        "load before": loaded,
        "load after": os.getloadavg(),
        "seconds by workers": {str(count): round(one, 2) for count, one in seconds.items()},
        "times as fast": {str(count): round(seconds[1] / one, 2) for count, one in seconds.items()},
        "seconds of nothing to do": idle,
        "seconds that a builder adds": round(
            min(idle["with one builder"]) - min(idle["without"]), 3
        ),
    }
    print(json.dumps(found, indent=2))


def expression() -> str:
    """Return a Nix expression of COUNT derivations that nobody has built."""
    script = f"i=0; while [ $i -lt {LOOPS} ]; do i=$((i + 1)); done; echo $i > $out"
    return (
        f'builtins.genList (i: derivation {{ name = "t-${{toString i}}"; system = "x86_64-linux";'
        f' salt = "{secrets.token_hex(8)}"; builder = "/bin/sh";'
        f' args = [ "-c" {json.dumps(script).replace("$", chr(92) + "$")} ]; }}) {COUNT}'
    )


def built(workers: list[Keyed], text: str, options: tuple[str, ...] = ()) -> float:
    """Return the seconds of a build with these workers, from the look for them to the end."""
    if workers:
        (RUN.folder / BUILDERS).write_text(write_keyed(tuple(workers)))
    began = time.monotonic()
    settings = Settings(sandbox=True, build_dir="/tmp/builds")  # noqa: S108
    nix = Nix(settings, RUN.folder / "nix.log", options=options)
    with contextlib.redirect_stdout(io.StringIO()):  # events
        nix = dataclasses.replace(nix, crew=crew.hire(RUN))
        nix.build(["--impure", "--expr", text], COUNT)
    return time.monotonic() - began


if __name__ == "__main__":
    main()
