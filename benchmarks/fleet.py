"""Benchmark: what a further device of a fleet costs, as a multiple of a copy of its image.

`fleet.sh` runs this in the builder's image; docs/performance.md explains what is measured.
"""

import concurrent.futures
import dataclasses
import functools
import json
import os
import pathlib
import resource
import shutil
import subprocess
import time
import typing
from collections.abc import Callable

import assembly
from measuring import FOLDER, MIB, Json

from orchestrator.agents.builder import sbom
from orchestrator.agents.builder.imaging import Group, Wanted
from orchestrator.image.late import Device, late_entries
from orchestrator.shared import run as runs
from orchestrator.shared.artifact import Artifact
from orchestrator.shared.cost import AT_A_TIME
from orchestrator.shared.disk_formats import DiskFormat
from orchestrator.shared.image_options import ImageOptions, apply
from orchestrator.shared.run import Run
from orchestrator.shared.spec_reader import read_spec

#: Devices of the fleet, besides the first.
DEVICES = int(os.environ.get("BENCHMARK_DEVICES") or 50)

FORMATS: tuple[DiskFormat, ...] = ("raw", "qcow2")


def main() -> None:
    """Make fleets of one and of DEVICES + 1 images, and copies; write JSON."""
    runs.WORK = FOLDER / "work"  # on the store's volume, which is the host's disk
    assembly.closures([assembly.COMPARED])
    found = {kind: measured(kind) for kind in FORMATS}
    about = {"devices": DEVICES, "cores": os.cpu_count(), "load": os.getloadavg()}
    (FOLDER / "fleet.json").write_text(json.dumps({**about, "formats": found}, indent=2) + "\n")


def measured(kind: DiskFormat) -> Json:
    """Return seconds and CPU seconds of the first device, of a further one, and of copies."""
    run = Run("fleet", (assembly.FOREIGN,), 1, 1, 1)
    images: list[Artifact] = []
    first = timed(lambda: images.extend(fleet(run, kind, 1)))
    images.clear()
    all_of_them = timed(lambda: images.extend(fleet(run, kind, DEVICES + 1)))
    further = {key: (all_of_them[key] - first[key]) / DEVICES for key in first}
    for image in images[1:]:
        (run.folder / image.path).unlink()
    source = run.folder / images[0].path
    copy, proven = (
        {
            key: value / DEVICES
            for key, value in timed(functools.partial(copies, source, checksum)).items()
        }
        for checksum in (False, True)
    )
    ratios = {
        f"{key} to {name}": round(further[key] / other[key], 2)
        for name, other in (("copy", copy), ("copy and checksum", proven))
        for key in further
    }
    size = source.stat()
    shutil.rmtree(run.folder)
    return {
        "mib": size.st_size // MIB,
        "mib on disk": size.st_blocks * 512 // MIB,
        "first": rounded(first),
        "further": rounded(further),
        "copy": rounded(copy),
        "copy and checksum": rounded(proven),
        "ratios": ratios,
    }


def fleet(run: Run, kind: DiskFormat, devices: int) -> list[Artifact]:
    """Make the images of so many devices."""
    folder = run.folder / "image"
    shutil.rmtree(run.folder, ignore_errors=True)
    folder.mkdir(parents=True)
    options = ImageOptions(disk_format=kind)
    spec = apply(options, read_spec(assembly.spec_file(assembly.COMPARED).read_text()))
    parts = sbom.parts_of_spec(spec, ())
    wanted = []
    for number in range(devices):
        device = Device(f"sensor-{number}", "", "", "net", f"correct horse {number}")
        own = dataclasses.replace(spec, name=f"{spec.name}-{device.host}")
        wanted.append(Wanted(own, device, late_entries(options, device, spec.late), parts))
    found: list[Artifact] = []
    Group(run, folder, options, wanted, lambda _wanted, image: found.append(image)).make()
    return found


def copies(source: pathlib.Path, checksum: bool) -> None:
    """Copy an image as often as the fleet has further devices, as many at a time."""

    def copy(number: int) -> None:
        target = f"{source}-{number}"
        subprocess.run(["cp", "--sparse=auto", source, target], check=True)
        if checksum:
            subprocess.run(["sha256sum", target], check=True, stdout=subprocess.DEVNULL)

    with concurrent.futures.ThreadPoolExecutor(min(AT_A_TIME, os.cpu_count() or 1)) as pool:
        list(pool.map(copy, range(DEVICES)))
    for number in range(DEVICES):
        pathlib.Path(f"{source}-{number}").unlink()


def timed(action: Callable[[], typing.Any]) -> dict[str, float]:
    """Return the seconds and CPU seconds of `action`; what others have written is on the disk."""
    os.sync()
    began, before = time.monotonic(), cpu()
    action()
    return {"seconds": time.monotonic() - began, "CPU seconds": cpu() - before}


def cpu() -> float:
    """Return the CPU seconds of this process and of its ended children."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def rounded(values: dict[str, float]) -> dict[str, float]:
    """Round seconds for people."""
    return {key: round(value, 3) for key, value in values.items()}


if __name__ == "__main__":
    main()
