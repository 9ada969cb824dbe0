"""Late values: files added to an image after the build, never in the Nix store or a log.

Late values come from `--inject` (files), `--host-name`, `--wifi-ssid`, `--wifi-password-file`,
`--stamp` (one row per device), and `--identity-seed`.
"""

import csv
import dataclasses
import io
import pathlib
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType

from orchestrator.image import identity, wifi
from orchestrator.image.identity import Identity
from orchestrator.image.tree import Entry
from orchestrator.shared.image_options import ImageOptions
from orchestrator.shared.spec import Late, SpecError
from orchestrator.shared.text import USER_NAME, is_line

#: Columns of a `--stamp` file. `host` is required and names the image; other fields may be empty.
#: The field of column AS_IT_IS is not stripped.
AS_IT_IS = "wifi_password"
COLUMNS = ("host", "ssh_key", "ssh_user", "wifi_ssid", AS_IT_IS)

#: File with the host's name.
HOST_NAME = "etc/hostname"

#: One label of a host name (RFC 1123, section 2.1).
HOST_LABEL = re.compile(r"[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


@dataclasses.dataclass(frozen=True)
class Device:
    """Late values of one device; an empty `host` keeps the configuration's host name."""

    host: str = ""
    ssh_key: str = ""
    ssh_user: str = ""
    wifi_ssid: str = ""
    wifi_password: str = dataclasses.field(default="", repr=False)

    @property
    def user(self) -> str:
        """The user whom the device's SSH key lets in."""
        return self.ssh_user or "root"


def read_devices(text: str, is_key: Callable[[str], bool] = is_line) -> list[Device]:
    """Parse the CSV text of a `--stamp` file.

    `is_key` checks a public key. The builder has no OpenSSH and uses the default, any single line:
    the orchestrator has checked the keys before. Raises `SpecError` with the line's number, never
    with a password.
    """
    rows = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    devices: list[Device] = []
    try:
        unknown = sorted(set(rows.fieldnames or ()) - set(COLUMNS))
        if "host" not in (rows.fieldnames or ()):
            raise SpecError(
                "--stamp: the first line must name the columns, with commas between them: host, and"
                f" any of {', '.join(one for one in COLUMNS if one != 'host')}"
            )
        if unknown:
            raise SpecError(f"--stamp: unknown column {unknown[0]}, known: {', '.join(COLUMNS)}")
        if len(set(rows.fieldnames or ())) != len(rows.fieldnames or ()):
            raise SpecError("--stamp: line 1: a column is repeated")
        for row in rows:
            if None in row or None in row.values():
                raise SpecError(
                    f"--stamp: line {rows.line_num}: number of fields is not that of line 1"
                )
            # The password is not stripped: it may begin and end with a space.
            values = {name: text.strip() for name, text in row.items() if name != AS_IT_IS}
            device = Device(**values, wifi_password=row.get(AS_IT_IS, ""))
            if not device.host:
                raise SpecError(f"--stamp: line {rows.line_num}: host is empty")
            _check_device(device, f"--stamp: line {rows.line_num}")
            if device.ssh_key and not is_key(device.ssh_key):
                raise SpecError(f"--stamp: line {rows.line_num}: ssh_key is not a public key")
            if any(device.host.lower() == other.host.lower() for other in devices):
                raise SpecError(f"--stamp: line {rows.line_num}: host is repeated")
            devices.append(device)
    except csv.Error as error:
        raise SpecError(f"--stamp: line {rows.reader.line_num}: {error}") from error
    if not devices:
        raise SpecError("--stamp: the file has no row below its header")
    return devices


def one_device(options: ImageOptions) -> Device:
    """Return what --host-name, --wifi-ssid and --wifi-password-file give; not used with --stamp."""
    password = ""
    if options.wifi_password_file:
        text = pathlib.Path(options.wifi_password_file).read_text(errors="replace")
        password = text.removesuffix("\n").removesuffix("\r")
        if not password:
            raise SpecError("--wifi-password-file: the file is empty")
    device = Device(host=options.host_name, wifi_ssid=options.wifi_ssid, wifi_password=password)
    _check_device(device, "--wifi-password-file" if password else "--wifi-ssid")
    return device


def late_entries(
    options: ImageOptions,
    device: Device,
    places: Late,
    known: Identity | None = None,
    files: Mapping[str, str] = MappingProxyType({}),
) -> tuple[Entry, ...]:
    """Return the root file system's entries for the late values of `device` and `--inject`.

    `places` says where the image's system reads them; `known` is the device's identity; `files` are
    those of any device, text by path.
    """
    entries = [_file(path, text) for path, text in files.items()]
    for one in options.injections:
        source = pathlib.Path(one.source)
        if not source.is_file():
            raise SpecError(f"--inject: {one.target}: the source is not a file")
        path, data = one.target.strip("/"), source.read_bytes()
        entries.append(Entry(path, "file", one.mode, data=data, user=one.user, group=one.group))
    if device.host:
        entries.append(_file(HOST_NAME, f"{device.host}\n"))
    if device.ssh_key:
        entries.append(_file(f"{places.keys}/{device.user}", f"{device.ssh_key}\n"))
    for program, place in places.wifi.items() if device.wifi_ssid else ():
        entries += wifi.entries(program, place, device.wifi_ssid, device.wifi_password)
    if known:
        entries += identity.entries(known, places.hostKey)
    return tuple(dataclasses.replace(one, path=_below(places.etc, one.path)) for one in entries)


def _below(etc: str, path: str) -> str:
    """Return the place of `path` in the root file system, where /etc is the folder `etc`."""
    return f"{etc}/{path.removeprefix('etc/')}" if path.startswith("etc/") else path


def check_host(host: str, where: str) -> None:
    """Raise `SpecError` unless `host` is a valid host name; image file names contain it, too."""
    labels = host.split(".")
    if len(host) > 253 or not all(HOST_LABEL.fullmatch(label) for label in labels):
        raise SpecError(f"{where}: {host!r} is not a host name")


def _check_device(device: Device, where: str) -> None:
    if device.host:
        check_host(device.host, where)
    if device.ssh_user and not re.fullmatch(USER_NAME, device.ssh_user):
        raise SpecError(f"{where}: {device.ssh_user!r} is not a user name")
    wifi.check(device.wifi_ssid, device.wifi_password, where)


def _file(path: str, text: str) -> Entry:
    return Entry(path, "file", 0o644, data=text.encode())
