"""Benchmark: native assembly of images; `emulated.py` measures nixpkgs' way under emulation.

`assembly.sh` runs this inside containers; docs/performance.md explains what is measured.
"""

import concurrent.futures
import functools
import hashlib
import json
import math
import os
import pathlib
import platform
import random
import shutil
import subprocess
import sys
import typing

from measuring import FOLDER, MIB, Json, best, measure

from orchestrator.image import assemble, closure, convert, pack
from orchestrator.image.bootspec import BOOTSPEC_V1
from orchestrator.shared.spec_reader import read_spec

STORE = "/nix/store"

#: Alphabet of a store path's hash: Nix' base 32.
NIX_BASE32 = "0123456789abcdfghijklmnpqrsvwxyz"

#: A closure consists of groups, so that a small closure is part of each larger one. A group of 512
#: MiB has 15,000 files in 250 store paths, like half of a small NixOS system.
GROUP_BYTES = int(os.environ.get("BENCHMARK_GROUP_MIB") or 512) * MIB
GROUP_FILES = GROUP_BYTES * 15_000 // (512 * MIB)
PATH_FILES = 60
SEED = 1

#: Sizes are spread log-normally: most files have a few KiB, few have MiB.
SIZE_SIGMA = 2.1

#: Seven of ten files are text, which zstd compresses to a third; the others are noise. Together
#: they compress to about half, like a NixOS store.
TEXT_SHARE = 0.7

#: A group's text files are parts of one text, much longer than zstd's window: its generation takes
#: most of the time.
TEXT_BYTES = 32 * MIB

#: Sizes of closures in groups: the first (1 GiB) is compared with nixpkgs' way, all of them show
#: the scaling; the largest is omitted if the disk is too small.
COMPARED = 2
SCALING = (1, 2, 4, 8, 16)

#: Bytes of kernel, initrd and firmware, besides the groups.
BOOT_FILES = {"kernel": 12 * MIB, "initrd": 20 * MIB, "firmware": 8 * MIB}

FOREIGN = "aarch64-linux"


# --- the closure ----------------------------------------------------------------------------------


def store_path(name: str) -> str:
    """Return a made-up store path."""
    digest = hashlib.sha256(f"{SEED}/{name}".encode()).digest()
    return f"{STORE}/{''.join(NIX_BASE32[byte % 32] for byte in digest)}-{name}"


def group_paths(group: int) -> list[str]:
    """Return the store paths of one group."""
    return [store_path(f"package-{group}-{at}") for at in range(GROUP_FILES // PATH_FILES)]


def write_group(group: int) -> None:
    """Write the files of `group`; they are the same in every run."""
    noise = random.Random(f"{SEED}/{group}")  # noqa: S311
    letters = "abcdefghijklmnopqrstuvwxyz"
    words = ["".join(noise.choices(letters, k=noise.randint(3, 12))) for _ in range(4096)]
    weights = [noise.lognormvariate(0, SIZE_SIGMA) for _ in range(GROUP_FILES)]
    total = sum(weights)
    sizes = [round(weight / total * GROUP_BYTES) for weight in weights]
    text = " ".join(noise.choices(words, k=max(TEXT_BYTES, *sizes) // 6)).encode()
    left = iter(sizes)
    for path in group_paths(group):
        for at in range(PATH_FILES):
            size = next(left)
            if noise.random() < TEXT_SHARE:
                begin = noise.randrange(len(text) - size)
                data = text[begin : begin + size]
            else:
                data = noise.randbytes(size)
            write_file(pathlib.Path(path, ("bin", "lib", "share/doc")[at % 3], f"file-{at}"), data)
        seal(path)


def write_file(path: pathlib.Path, data: bytes) -> None:
    """Write one file and its parent folders."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)


def seal(path: str) -> None:
    """Give everything below `path` the modes and the time of store files."""
    for folder, _folders, files in os.walk(path, topdown=False):
        for name in files:
            pathlib.Path(folder, name).chmod(0o444)
            os.utime(f"{folder}/{name}", (1, 1))
        pathlib.Path(folder).chmod(0o555)
        os.utime(folder, (1, 1))


def write_boot_files() -> None:
    """Write kernel, initrd and firmware as noise, because real ones are compressed."""
    for name, size in BOOT_FILES.items():
        noise = random.Random(f"{SEED}/{name}")  # noqa: S311
        write_file(pathlib.Path(store_path(name), name), noise.randbytes(size))
        seal(store_path(name))


def write_toplevel(groups: int) -> str:
    """Write a system that refers to the first `groups` groups; returns its store path."""
    path = store_path(f"toplevel-{groups}")
    kernel, initrd = (f"{store_path(name)}/{name}" for name in ("kernel", "initrd"))
    boot = {"system": FOREIGN, "label": "benchmark", "kernel": kernel, "initrd": initrd}
    boot |= {"init": f"{path}/init", "toplevel": path}
    document = {BOOTSPEC_V1: {**boot, "kernelParams": ["loglevel=4"]}}
    write_file(pathlib.Path(path, "boot.json"), json.dumps(document).encode())
    write_file(pathlib.Path(path, "init"), b"#!/bin/sh\n")
    seal(path)
    return path


def closures(scaling: list[int]) -> None:
    """Write the closures, register them with Nix, write an image spec for each."""
    with concurrent.futures.ProcessPoolExecutor() as pool:
        list(pool.map(write_group, range(max(scaling))))
    write_boot_files()
    boot = [store_path(name) for name in BOOT_FILES]
    packages = [path for group in range(max(scaling)) for path in group_paths(group)]
    references: dict[str, list[str]] = {path: [] for path in (*boot, *packages)}
    for groups in scaling:
        needed = [path for group in range(groups) for path in group_paths(group)]
        references[write_toplevel(groups)] = [*boot, *needed]
        spec_file(groups).write_text(json.dumps(image_spec(groups)))
    register(references)


def register(references: dict[str, list[str]]) -> None:
    """Register the paths in the Nix database, with made-up sizes, which nothing reads."""
    records = []
    hashes, _ = pack.pack(references)
    for path, needed in references.items():
        records += [path, hashes[path], "1", "", str(len(needed)), *sorted(needed)]
    text = "".join(f"{line}\n" for line in records)
    subprocess.run(["nix-store", "--load-db"], input=text, text=True, check=True)


def spec_file(groups: int) -> pathlib.Path:
    """Return the path of the image spec for that many groups."""
    return FOLDER / f"spec-{groups}.json"


def image_spec(groups: int) -> Json:
    """Return the image spec of an SD card like nixpkgs'."""
    return {
        "schema": 1,
        "name": "sd-card",
        "system": FOREIGN,
        "toplevel": store_path(f"toplevel-{groups}"),
        "format": "sd-card",
        "partitionTable": "sd-card",
        "bootLoader": {"timeout": 5, "extlinux": {"deviceTree": False}},
        "root": {"fsType": "ext4", "label": "NIXOS_SD"},
        "firmware": {"files": {"firmware.bin": f"{store_path('firmware')}/firmware"}},
    }


# --- what is measured -----------------------------------------------------------------------------


def make(groups: int, compression: typing.Literal["none", "zstd"]) -> None:
    """Make one image in the current folder, with the product's functions."""
    folder = pathlib.Path.cwd()
    spec = read_spec(spec_file(groups).read_text())
    assemble.assemble(spec, folder / "raw", folder)
    if compression != "none":
        convert.compress(folder / "raw", compression, folder / "sd-card.img.zst")


def ours(groups: int, compression: str) -> Json:
    """Measure this project's assembler."""
    work = FOLDER / "ours"
    command = [sys.executable, __file__, "make", str(groups), compression]
    found = best(functools.partial(measure, command, work))
    if compression != "none":
        found["size"] = (work / "sd-card.img.zst").stat().st_size
    shutil.rmtree(work)
    return found


def floor(size: int) -> Json:
    """Measure the lower bound of any tool: read the closure once, write `size` bytes once.

    tar writes to a pipe, as for mke2fs, because GNU tar reads no files if its output is /dev/null.
    dd calls fsync(2), as mke2fs does at its end.
    """
    names = FOLDER / "store-paths"
    read = f"tar --create --file=- --sort=name --files-from={names} 2> /dev/null | cat > /dev/null"
    write = f"dd if=/dev/zero of=data bs=1M count={math.ceil(size / MIB)} conv=fsync status=none"
    found = {
        name: best(functools.partial(measure, ["sh", "-c", command], FOLDER / "floor"))
        for name, command in (("read", read), ("write", write))
    }
    shutil.rmtree(FOLDER / "floor")
    return {**found, "seconds": round(sum(part["seconds"] for part in found.values()), 3)}


def requisites(groups: int) -> list[str]:
    """Return the closure of the system with that many groups."""
    return closure.closure_of([store_path(f"toplevel-{groups}")])


def native() -> None:
    """Measure everything that runs natively, as an ordinary user without capabilities."""
    free = shutil.disk_usage(FOLDER).free
    # Space for the closure, its image, and as much again for other users of the disk.
    scaling = [groups for groups in SCALING if 3 * groups * GROUP_BYTES < free]
    load = os.getloadavg()
    closures(scaling)
    paths = sorted(requisites(COMPARED))
    # Files that emulated.py reads; in nixpkgs, closureInfo makes the first two.
    (FOLDER / "store-paths").write_text("".join(f"{path}\n" for path in paths))
    (FOLDER / "registration").write_bytes(closure.registration(closure.records(paths)))
    boot_files = [f"{store_path(name)}/{name}" for name in BOOT_FILES]
    (FOLDER / "boot-files").write_text("\n".join(boot_files))
    raw = {groups: ours(groups, "none") for groups in scaling}
    found = {
        "machine": {
            "machine": platform.machine(),
            "kernel": platform.release(),
            "cores": os.cpu_count(),
            "load_before": load,
        },
        "closure": {
            "bytes": COMPARED * GROUP_BYTES,
            "files": COMPARED * GROUP_FILES,
            "paths": len(paths),
            "beside": sum(BOOT_FILES.values()),
        },
        "raw": raw[COMPARED],
        "zst": ours(COMPARED, "zstd"),
        "floor": floor(raw[COMPARED]["disk"]),
        "scaling": [{"bytes": groups * GROUP_BYTES, **raw[groups]} for groups in scaling],
        "left_out": [groups * GROUP_BYTES for groups in SCALING if groups not in scaling],
    }
    (FOLDER / "native.json").write_text(json.dumps(found))


# --- results --------------------------------------------------------------------------------------


def results() -> Json:
    """Return all results, with the ratios that the documentation claims."""
    native_part = json.loads((FOLDER / "native.json").read_text())
    peers = json.loads((FOLDER / "emulated.json").read_text())
    native_part["machine"]["load_after"] = os.getloadavg()
    raw, zst, low = (native_part[name]["seconds"] for name in ("raw", "zst", "floor"))
    small, large = native_part["scaling"][SCALING.index(COMPARED)], native_part["scaling"][-1]
    ratios = {
        "peers to ours": peers["seconds"] / zst,
        "raw to floor": raw / low,
        "growth of time to growth of the closure": (large["seconds"] / small["seconds"])
        / (large["bytes"] / small["bytes"]),
        "growth of memory": large["total_rss"] / small["total_rss"],
        "disk to closure": native_part["raw"]["disk"]
        / (native_part["closure"]["bytes"] + native_part["closure"]["beside"]),
    }
    rounded = {name: round(value, 2) for name, value in ratios.items()}
    return {**native_part, "peers": peers, "ratios": rounded}


def table(found: Json) -> str:
    """Return the results in Markdown."""
    lines = [
        "| way | seconds | CPU seconds | largest process | all processes | disk, peak | written |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    names = {"raw": "ours, raw", "zst": "ours, .img.zst", "peers": "nixpkgs' commands, emulated"}
    for key, name in names.items():
        one = found[key]
        sizes = [one[field] for field in ("largest_rss", "total_rss", "disk", "written")]
        cells = [f"{one['seconds']:.1f}", f"{one['cpu_seconds']:.1f}"]
        lines.append(f"| {' | '.join([name, *cells, *(mib(size) for size in sizes)])} |")
    low = found["floor"]
    parts = ", ".join(f"{name} {low[name]['seconds']:.1f}" for name in ("read", "write"))
    lines.append(f"| floor ({parts}) | {low['seconds']:.1f} | | | | | |")
    lines += ["", "| closure | seconds | seconds per GiB | all processes | disk, peak |"]
    lines.append("| ---: | ---: | ---: | ---: | ---: |")
    for one in found["scaling"]:
        rate = one["seconds"] / one["bytes"] * 1024 * MIB
        sizes = [mib(one["bytes"]), f"{one['seconds']:.1f}", f"{rate:.1f}"]
        lines.append(f"| {' | '.join([*sizes, mib(one['total_rss']), mib(one['disk'])])} |")
    lines += [f"| {mib(size)} | too little disk | | | |" for size in found["left_out"]]
    lines += ["", "| ratio | |", "| --- | ---: |"]
    lines += [f"| {name} | {value:.2f} |" for name, value in found["ratios"].items()]
    return "\n".join(lines)


def mib(size: int) -> str:
    """Format a size for a table."""
    return f"{size / MIB:,.0f} MiB"


def plot(found: Json) -> str:
    """Return the results as SVG: bars of seconds, and seconds by size of the closure."""
    bars = {
        "nixpkgs' commands, emulated": found["peers"]["seconds"],
        "ours, .img.zst": found["zst"]["seconds"],
        "ours, raw": found["raw"]["seconds"],
        "floor": found["floor"]["seconds"],
    }
    longest = max(bars.values())
    parts = ['<text x="10" y="24" class="head">1 GiB closure: seconds</text>']
    for at, (name, seconds) in enumerate(bars.items()):
        y, width = 44 + 34 * at, 480 * seconds / longest
        parts.append(f'<text x="210" y="{y + 16}" text-anchor="end">{name}</text>')
        parts.append(f'<rect x="220" y="{y}" width="{width:.1f}" height="22"/>')
        parts.append(f'<text x="{226 + width:.1f}" y="{y + 16}">{seconds:.1f}</text>')
    widest, highest = (max(one[key] for one in found["scaling"]) for key in ("bytes", "seconds"))
    points = [
        (220 + 480 * one["bytes"] / widest, 400 - 160 * one["seconds"] / highest, one)
        for one in found["scaling"]
    ]
    parts.append('<text x="10" y="216" class="head">ours, raw: seconds over GiB</text>')
    parts.append('<path d="M220 230V400H710" class="axis"/>')
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y, _one in points)
    parts.append(f'<polyline points="220,400 {line}"/>')
    for x, y, one in points:
        parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="4"/>')
        seconds = f"{one['seconds']:.1f}"
        parts.append(f'<text x="{x:.1f}" y="{y - 8:.1f}" text-anchor="end">{seconds}</text>')
        size = f"{one['bytes'] / 1024 / MIB:g}"
        parts.append(f'<text x="{x:.1f}" y="418" text-anchor="middle">{size}</text>')
    style = (
        "text{font:13px sans-serif;fill:#333}.head{font-weight:bold}rect,circle{fill:#3b6ea5}"
        "polyline{fill:none;stroke:#3b6ea5;stroke-width:2}.axis{fill:none;stroke:#999}"
    )
    inner = "\n".join(parts)
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 760 430">'
        f'\n<style>{style}</style>\n<rect width="760" height="430" style="fill:#fff"/>\n{inner}\n'
        "</svg>"
    )


def main() -> None:
    """Run one subcommand; assembly.sh calls them in order."""
    match sys.argv[1:]:
        case ["native"]:
            native()
        case ["make", groups, ("none" | "zstd") as compression]:
            make(int(groups), compression)
        case ["json"]:
            print(json.dumps(results(), indent=2))
        case ["table"]:
            print(table(results()))
        case ["svg"]:
            print(plot(results()))
        case _:
            raise SystemExit("native | make GROUPS none|zstd | json | table | svg")


if __name__ == "__main__":
    main()
