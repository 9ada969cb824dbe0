"""Files with which programs of a guest join a Wi-Fi network.

A NixOS system reads one of them; `nix/modules/late.nix` says which, and where.
"""

import re

from orchestrator.image.tree import Entry
from orchestrator.shared.spec import SpecError

#: A WPA passphrase: 8 to 63 ASCII characters. 64 hexadecimal digits are the key itself.
PASSPHRASE = re.compile(r"[ -~]{8,63}")
RAW_KEY = re.compile(r"[0-9a-fA-F]{64}")

#: Names of networks that iwd takes as names of files; it takes others in hexadecimal
#: (iwd.network(5)).
IWD_NAME = re.compile(r"[A-Za-z0-9 _-]+")


def check(ssid: str, password: str, where: str) -> None:
    """Raise `SpecError` unless these are a network's name and password; never with the password."""
    # A network name has at most 32 bytes (IEEE 802.11, 9.4.2.2).
    if len(ssid.encode()) > 32 or not ssid.isprintable():
        raise SpecError(f"{where}: wifi_ssid is not a network name")
    if password and not (PASSPHRASE.fullmatch(password) or RAW_KEY.fullmatch(password)):
        mark = ": it begins with a byte order mark" if password.startswith("\ufeff") else ""
        raise SpecError(
            f"{where}: wifi_password must have 8 to 63 ASCII characters, or 64 hexadecimal digits"
            f"{mark}"
        )
    if password and not ssid:
        raise SpecError(f"{where}: wifi_password without wifi_ssid")


def entries(program: str, place: str, ssid: str, password: str) -> list[Entry]:
    """Return the entries from which `program` learns the network; `place` is its file or folder."""
    if program == "networkmanager":
        text = _manager(ssid, password)
        return [Entry(place, "folder", 0o700), _secret(f"{place}/wifi.nmconnection", text)]
    if program == "wpa_supplicant":
        return [_secret(place, _supplicant(ssid, password))]
    assert program == "iwd"
    name = ssid if IWD_NAME.fullmatch(ssid) else f"={ssid.encode().hex()}"
    kind = "psk" if password else "open"
    return [Entry(place, "folder", 0o700), _secret(f"{place}/{name}.{kind}", _iwd(password))]


def _manager(ssid: str, password: str) -> str:
    # NetworkManager's keyfile format: SSID as a list of bytes, password with doubled backslashes,
    # so no character can end the line or the section.
    numbers = "".join(f"{byte};" for byte in ssid.encode())
    key = _escaped(password)
    security = f"\n[wifi-security]\nkey-mgmt=wpa-psk\npsk={key}\n" if password else ""
    return (
        "[connection]\nid=wifi\ntype=wifi\n\n"
        f"[wifi]\nmode=infrastructure\nssid={numbers}\n{security}"
    )


def _supplicant(ssid: str, password: str) -> str:
    lines = [f"ssid={ssid.encode().hex()}"]
    if RAW_KEY.fullmatch(password):
        lines.append(f"psk={password}")
    else:
        lines.append(f'psk="{password}"' if password else "key_mgmt=NONE")
    return "network={\n" + "".join(f"  {line}\n" for line in lines) + "}\n"


def _iwd(password: str) -> str:
    if not password:
        return "[Settings]\nAutoConnect=true\n"
    name = "PreSharedKey" if RAW_KEY.fullmatch(password) else "Passphrase"
    return f"[Security]\n{name}={_escaped(password)}\n"


def _escaped(value: str) -> str:
    """Escape a value of a key file as GLib and iwd read it: backslashes, a space at its start."""
    return re.sub("^ ", r"\\s", value.replace("\\", "\\\\"))


def _secret(path: str, text: str) -> Entry:
    return Entry(path, "file", 0o600, data=text.encode())
