"""Fills an initrd's folder; replaces nixpkgs' make-initrd-ng, which is written in Rust.

Arguments: a JSON list of sources with targets, and the folder. Each source is copied with the
targets of its links, and with the libraries of its programs, including those for dlopen.
"""

import json
import pathlib
import re
import shutil
import struct
import sys

# Index of e_ident's byte that tells 32 from 64 bits, and its value for the latter.
CLASS, CLASS_64 = 4, 2
SEGMENT_DYNAMIC, SEGMENT_INTERPRETER = 2, 3
NEEDED, STRINGS, RPATH = 1, 5, 15


def libraries(elf: bytes) -> list[str]:
    """Return the paths of ld.so and libraries of a little-endian ELF file."""
    wide = elf[CLASS] == CLASS_64
    (headers,) = struct.unpack_from("<Q" if wide else "<I", elf, 32 if wide else 28)
    size, count = struct.unpack_from("<HH", elf, 54 if wide else 42)
    found, tags, segments = [], [], []
    # A kernel module has no program headers.
    for at in (headers + size * number for number in range(count)):
        if wide:
            kind, _, offset, address, _, length = struct.unpack_from("<IIQQQQ", elf, at)
        else:
            kind, offset, address, _, length = struct.unpack_from("<IIIII", elf, at)
        segments.append((address, offset, length))
        if kind == SEGMENT_INTERPRETER:
            found.append(elf[offset : offset + length - 1].decode())
        if kind == SEGMENT_DYNAMIC:
            tags = list(struct.iter_unpack("<QQ" if wide else "<II", elf[offset : offset + length]))
    strings = next((value for tag, value in tags if tag == STRINGS), 0)
    for address, offset, length in segments:
        if address <= strings < address + length:
            strings += offset - address
            break

    def text(value: int) -> str:
        start = strings + value
        return elf[start : elf.index(0, start)].decode()

    names = [text(value) for tag, value in tags if tag == NEEDED]
    # ELF notes list libraries for dlopen as JSON: https://systemd.io/ELF_DLOPEN_METADATA
    for note in re.findall(rb'"soname":(\[[^]]*\])', elf):
        names += json.loads(note)
    folders = [folder for tag, value in tags if tag == RPATH for folder in text(value).split(":")]
    # A library without RPATH inherits its program's; all stand-ins have the same folders.
    folders += search
    search.extend(folder for folder in folders if folder not in search)
    candidates = (pathlib.Path(folder, name) for name in names for folder in folders)
    return found + [str(path) for path in candidates if path.exists()]


def take(path: str) -> None:
    """Copy `path` and the links that lead to it; queue the files that it refers to."""
    source = pathlib.Path("/")
    parts = [part for part in path.split("/") if part]
    while parts:
        part = parts.pop(0)
        if part == "..":
            source = source.parent
            continue
        source /= part
        target = root / source.relative_to("/")
        if source.is_symlink():
            link = source.readlink()
            if not target.is_symlink() and not target.exists():
                target.symlink_to(link)
            rest = pathlib.Path(source.parent, link, *parts)
            if rest.exists():
                queue.append(str(rest))
            return
        if source.is_dir():
            target.mkdir(exist_ok=True)
        elif not target.exists():
            shutil.copy(source, target)
            content = source.read_bytes()
            if content.startswith(b"\x7fELF"):
                queue.extend(libraries(content))
    if source.is_dir():
        queue.extend(str(child) for child in source.iterdir())


root = pathlib.Path(sys.argv[2])
search: list[str] = []
queue: list[str] = []
seen: set[str] = set()
for item in json.loads(pathlib.Path(sys.argv[1]).read_text()):
    queue.append(item["source"])
    if item.get("target"):
        link = root / item["target"].lstrip("/")
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(item["source"])
while queue:
    if (one := queue.pop(0)) not in seen:
        seen.add(one)
        take(one)
