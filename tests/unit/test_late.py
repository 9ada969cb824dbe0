"""Tests late values: rows of a `--stamp` file, files made of them, places of secrets."""

import os
import pathlib

import hypothesis
import pytest
from hypothesis import strategies as st

from orchestrator.image import late, search
from orchestrator.image.identity import Identity
from orchestrator.image.late import COLUMNS, Device, late_entries, read_devices
from orchestrator.image.search import misplaced
from orchestrator.image.tree import Entry, Tree
from orchestrator.shared.image_options import ImageOptions, Injection
from orchestrator.shared.spec import Late, SpecError

HEAD = ",".join(COLUMNS)
KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOt0 me@home"
PASSWORD = "correct horse"
CHUNK = 16 << 20


def rows(*lines: str, head: str = HEAD) -> str:
    return "\n".join([head, *lines]) + "\n"


def data_of(device: Device) -> dict[str, bytes]:
    return {entry.path: entry.data for entry in late_entries(ImageOptions(), device, Late())}


# --- rows -------------------------------------------------------------------------------------


def test_rows_are_read() -> None:
    text = rows(f"pi-1,{KEY},admin,My Net,{PASSWORD}", "pi-2.example.org,,,,")
    assert read_devices(text) == [
        Device("pi-1", KEY, "admin", "My Net", PASSWORD),
        Device("pi-2.example.org"),
    ]


@pytest.mark.parametrize(
    ("text", "devices"),
    [
        (rows("a", "b", head="host"), [Device("a"), Device("b")]),
        (rows("net,a", head="wifi_ssid,host"), [Device("a", wifi_ssid="net")]),
        ("host\r\na\r\nb\r\n", [Device("a"), Device("b")]),
        ("host\na", [Device("a")]),
        ("host\n\na\n\n", [Device("a")]),
        (rows(" a ,,, net ,"), [Device("a", wifi_ssid="net")]),
        (rows('a,,,"x, ""y""",'), [Device("a", wifi_ssid='x, "y"')]),
        (rows("a,,,Käse ☕,"), [Device("a", wifi_ssid="Käse ☕")]),
        (rows(f"{'a' * 63},,,,"), [Device("a" * 63)]),
        (rows(f"a,,,net,{'~' * 63}"), [Device("a", wifi_ssid="net", wifi_password="~" * 63)]),
        (rows(f"a,,,{'ä' * 16},"), [Device("a", wifi_ssid="ä" * 16)]),
    ],
)
def test_csv_is_taken_as_programs_write_it(text: str, devices: list[Device]) -> None:
    assert read_devices(text) == devices


@pytest.mark.parametrize("password", [" correct horse", "correct horse "])
def test_a_password_keeps_its_blanks(password: str) -> None:
    (device,) = read_devices(rows(f"a,,,net,{password}"))
    assert device.wifi_password == password


BAD_HOSTS = (
    *("", " ", "../a", "a/b", "/a", "..", ".", "a..b", ".a", "a.", "-a", "a-", "a.-b", "a_b", "ä"),
    *("a b", "a\tb", "a\0", "*", "a" * 64, ".".join(["a" * 63] * 4)),
)


@pytest.mark.parametrize("host", BAD_HOSTS)
def test_what_is_no_host_name_is_refused_with_its_line(host: str) -> None:
    with pytest.raises(SpecError, match=r"^--stamp: line 3: .*\bhost\b"):
        read_devices(rows("a,,,,", f"{host},,,net,{PASSWORD}"))


@pytest.mark.parametrize(
    ("row", "message"),
    [
        ('b,"AAAAC3Nz\nx",,,', "ssh_key is not a public key"),
        (f"b,{KEY},Root,,", "'Root' is not a user name"),
        (f"b,{KEY},../x,,", "'../x' is not a user name"),
        (f"b,{KEY},-x,,", "'-x' is not a user name"),
        (f"b,{KEY},{'x' * 33},,", "is not a user name"),
        (f"b,,,{'ä' * 17},", "wifi_ssid is not a network name"),
        ("b,,,a\tb,", "wifi_ssid is not a network name"),
        ('b,,,"a\nb",', "wifi_ssid is not a network name"),
        ("b,,,net,Hunter7", "wifi_password must have 8 to 63 ASCII characters, or"),
        (
            f"b,,,net,Hunter7{'a' * 57}",
            "wifi_password must have 8 to 63 ASCII characters, or",
        ),
        ("b,,,net,Hunter7ä", "wifi_password must have 8 to 63 ASCII characters, or"),
        ('b,,,net,"Hunter7\nx"', "wifi_password must have 8 to 63 ASCII characters, or"),
        ("b,,,net,Hunter7\0", "wifi_password must have 8 to 63 ASCII characters, or"),
        ("b,,,,Hunter77", "wifi_password without wifi_ssid"),
        ("a,,,net,Hunter77", "host is repeated"),
        ("A,,,net,Hunter77", "host is repeated"),
        ("b,,net,Hunter77", "number of fields is not that of line 1"),
        ("b,,,net,Hunter77,", "number of fields is not that of line 1"),
        ("b", "number of fields is not that of line 1"),
        ('b,,,net,"Hunter77', "unexpected end of data"),
        ('b,,,net,"Hunter77"x', "expected after"),
    ],
)
def test_a_bad_row_is_named_by_its_line_and_shows_no_password(row: str, message: str) -> None:
    with pytest.raises(SpecError) as caught:
        read_devices(rows("a,,,,", row))
    said = str(caught.value)
    # A row may extend over several lines: the error names its last one.
    assert said.startswith(f"--stamp: line {3 + row.count('\n')}")
    assert message in said
    assert "Hunter" not in said


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", r"the columns, with commas between them: host, and any of ssh_key, "),
        ("host;wifi_ssid\na;net\n", r"the columns, with commas between them: host, "),
        ("\n", r"^--stamp: the first line must name the columns"),
        ("pi,ssh-ed25519 A,,net,Hunter77\n", r"^--stamp: the first line must name the columns"),
        ("ssh_key\nssh-ed25519 A\n", r"^--stamp: the first line must name the columns"),
        ("host,wifi\na,Hunter77\n", r"^--stamp: unknown column wifi, known: host, "),
        ("Host\na\n", r"^--stamp: the first line must name the columns"),
        (f"{HEAD}\n", r"^--stamp: the file has no row below its header$"),
        (HEAD, r"^--stamp: the file has no row below its header$"),
        ('"host', r"^--stamp: line 1: "),
    ],
)
def test_a_file_without_the_right_columns_or_rows_is_refused(text: str, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        read_devices(text)
    assert "Hunter" not in str(caught.value)


def test_a_column_that_is_there_twice_is_refused() -> None:
    with pytest.raises(SpecError):
        read_devices("host,host\na,b\n")


CELLS = st.text(st.sampled_from('ab.-/_" \\\n\t\0ä~1,'), max_size=12) | st.text(max_size=12)


def harmless(text: str) -> None:
    try:
        devices = read_devices(text)
    except SpecError:
        return
    for host in (device.host for device in devices):
        assert host
        assert "/" not in host
        assert ".." not in host
        assert not host.startswith(("-", "."))


@hypothesis.given(st.text())
def test_any_text_is_read_or_refused(text: str) -> None:
    harmless(text)


@hypothesis.given(st.lists(CELLS, min_size=1, max_size=3), st.booleans())
@hypothesis.settings(max_examples=5 * hypothesis.settings().max_examples)
def test_any_host_is_harmless_or_refused(hosts: list[str], quoted: bool) -> None:
    lines = ['"' + host.replace('"', '""') + '"' if quoted else host for host in hosts]
    harmless(rows(*lines, head="host"))


@hypothesis.given(st.lists(CELLS, min_size=4, max_size=6))
def test_any_row_is_read_or_refused(cells: list[str]) -> None:
    quoted = ",".join('"' + cell.replace('"', '""') + '"' for cell in cells)
    harmless(rows(f"a,{quoted}"))


# --- files ------------------------------------------------------------------------------------


def test_a_device_without_values_has_no_files() -> None:
    assert late_entries(ImageOptions(), Device(), Late()) == ()


def test_host_name_and_key_are_files_of_roots() -> None:
    assert late_entries(ImageOptions(), Device(host="pi-1", ssh_key=KEY), Late()) == (
        Entry("etc/hostname", "file", 0o644, data=b"pi-1\n"),
        Entry("etc/ssh/authorized_keys.d/root", "file", 0o644, data=f"{KEY}\n".encode()),
    )


def test_a_key_goes_to_its_user() -> None:
    assert data_of(Device(ssh_key=KEY, ssh_user="admin")) == {
        "etc/ssh/authorized_keys.d/admin": f"{KEY}\n".encode()
    }


def test_wifi_access_is_written_for_both_programs() -> None:
    device = Device(wifi_ssid="net", wifi_password=PASSWORD)
    assert late_entries(ImageOptions(), device, Late()) == (
        Entry("etc/NetworkManager/system-connections", "folder", 0o700),
        Entry(
            "etc/NetworkManager/system-connections/wifi.nmconnection",
            "file",
            0o600,
            data=b"[connection]\nid=wifi\ntype=wifi\n\n"
            b"[wifi]\nmode=infrastructure\nssid=110;101;116;\n\n"
            b"[wifi-security]\nkey-mgmt=wpa-psk\npsk=correct horse\n",
        ),
        Entry(
            "etc/wpa_supplicant/imperative.conf",
            "file",
            0o600,
            data=b'network={\n  ssid=6e6574\n  psk="correct horse"\n}\n',
        ),
    )


def test_an_open_network_has_no_password() -> None:
    manager, supplicant = list(data_of(Device(wifi_ssid="net")).values())[1:]
    assert b"security" not in manager
    assert b"psk" not in manager + supplicant
    assert supplicant == b"network={\n  ssid=6e6574\n  key_mgmt=NONE\n}\n"


@pytest.mark.parametrize(
    ("password", "written"),
    [
        (r"a\nb\\c\s", r"a\\nb\\\\c\\s"),
        (" leading", r"\sleading"),
        ("  leading", r"\s leading"),
        (' "[x]=;#', r'\s"[x]=;#'),
        ("#comment", "#comment"),
    ],
)
def test_a_password_with_special_letters(password: str, written: str) -> None:
    manager, supplicant = list(data_of(Device(wifi_ssid="net", wifi_password=password)).values())[
        1:
    ]
    assert f"\npsk={written}\n".encode() in manager
    # wpa_supplicant takes the text between the first and the last quote of the line.
    assert f'\n  psk="{password}"\n'.encode() in supplicant


@pytest.mark.parametrize("ssid", ['"net"', "Käse ☕", "a;b=[c]\\", " net"])
def test_a_networks_name_is_written_as_bytes(ssid: str) -> None:
    manager, supplicant = list(data_of(Device(wifi_ssid=ssid)).values())[1:]
    (numbers,) = [line[5:] for line in manager.decode().splitlines() if line.startswith("ssid=")]
    assert bytes(int(number) for number in numbers.rstrip(";").split(";")).decode() == ssid
    (hexed,) = [line for line in supplicant.decode().splitlines() if "ssid=" in line]
    assert bytes.fromhex(hexed.partition("=")[2]).decode() == ssid


def test_iwd_has_a_file_for_each_network() -> None:
    places = Late(wifi={"iwd": "var/lib/iwd"})

    def made(ssid: str, password: str = "") -> dict[str, bytes]:
        device = Device(wifi_ssid=ssid, wifi_password=password)
        folder, *files = late_entries(ImageOptions(), device, places)
        assert folder == Entry("var/lib/iwd", "folder", 0o700)
        assert all(one.mode == 0o600 for one in files)
        return {one.path.removeprefix("var/lib/iwd/"): one.data for one in files}

    assert made("My Net-1", PASSWORD) == {"My Net-1.psk": b"[Security]\nPassphrase=correct horse\n"}
    assert made("Käse/.") == {"=4bc3a473652f2e.open": b"[Settings]\nAutoConnect=true\n"}
    assert made("a", " \\ x23456") == {"a.psk": b"[Security]\nPassphrase=\\s\\\\ x23456\n"}


def test_64_digits_are_the_key_itself() -> None:
    key = "0123456789abcdefABCDEF" + "0" * 42
    (device,) = read_devices(rows(f"a,,,net,{key}"))
    places = Late(wifi={**Late().wifi, "iwd": "var/lib/iwd"})
    data = b"".join(one.data for one in late_entries(ImageOptions(), device, places))
    for line in (f"\npsk={key}\n", f"\n  psk={key}\n", f"\nPreSharedKey={key}\n"):
        assert line.encode() in data


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "--wifi-password-file: the file is empty"),
        (b"\r\n", "--wifi-password-file: the file is empty"),
        (b"short", "--wifi-password-file: wifi_password must have 8 to 63 ASCII characters, or"),
        ("\ufeffcorrect horse".encode(), "64 hexadecimal digits: it begins with a byte order mark"),
        (b"g" * 64, "must have 8 to 63 ASCII characters, or 64 hexadecimal digits"),
    ],
)
def test_a_password_file_is_refused_without_its_content(
    text: bytes, message: str, tmp_path: pathlib.Path
) -> None:
    file = tmp_path / "password"
    file.write_bytes(text)
    with pytest.raises(SpecError) as caught:
        late.one_device(ImageOptions(wifi_ssid="net", wifi_password_file=str(file)))
    assert message in str(caught.value)
    assert "horse" not in str(caught.value)


def test_late_files_go_where_etc_is_and_sshd_looks() -> None:
    places = Late(etc=".rw-etc/upper", keys="etc/ssh/device_keys.d")
    entries = late_entries(ImageOptions(), Device(host="a", ssh_key=KEY), places)
    assert [one.path for one in entries] == [
        ".rw-etc/upper/hostname",
        ".rw-etc/upper/ssh/device_keys.d/root",
    ]


def test_an_injected_file_has_its_owner(tmp_path: pathlib.Path) -> None:
    (tmp_path / "f").write_bytes(b"x")
    injection = Injection(f"{tmp_path}/f", "/home/me/.ssh/id", 0o600, 1000, 100)
    (entry,) = late_entries(ImageOptions(injections=(injection,)), Device(), Late())
    assert (entry.user, entry.group) == (1000, 100)
    tree = Tree(())
    tree.add(entry)
    owners = {one.path: (one.user, one.group) for one in tree.entries}
    assert owners["home/me/.ssh"] == owners["home/me/.ssh/id"] == (1000, 100)
    assert owners["home/me"] == owners["home"] == (0, 0)


def test_an_injected_file_goes_where_it_was_told(tmp_path: pathlib.Path) -> None:
    (tmp_path / "secret").write_bytes(b"\0\xff")
    options = ImageOptions(injections=(Injection(f"{tmp_path}/secret", "/etc/my/key", 0o400),))
    assert late_entries(options, Device(host="a"), Late()) == (
        Entry("etc/my/key", "file", 0o400, data=b"\0\xff"),
        Entry("etc/hostname", "file", 0o644, data=b"a\n"),
    )


@pytest.mark.parametrize("source", ["", "nothing"])
def test_an_injection_without_a_file_is_named_by_its_target(
    source: str, tmp_path: pathlib.Path
) -> None:
    options = ImageOptions(injections=(Injection(f"{tmp_path}/{source}", "/etc/key", 0o400),))
    with pytest.raises(SpecError, match=r"^--inject: /etc/key: the source is not a file$"):
        late_entries(options, Device(), Late())


def test_a_device_is_shown_without_its_password() -> None:
    device = Device("pi-1", KEY, "admin", "net", PASSWORD)
    assert PASSWORD not in f"{device!r} {device}"
    assert "pi-1" in repr(device)


def test_an_identity_becomes_files_where_the_system_reads_them() -> None:
    known = Identity("PRIVATE\n", "ssh-ed25519 AAAA pi", "0" * 32, "0A0A")
    for etc, host_key in (("etc", "etc/ssh/key"), (".rw-etc/upper", "persist/key"), ("etc", "")):
        places = Late(etc=etc, hostKey=host_key)
        found = late_entries(ImageOptions(), Device("pi"), places, known)
        files = {one.path: (one.mode, one.data) for one in found}
        assert files[f"{etc}/machine-id"] == (0o444, b"0" * 32 + b"\n")
        assert files[f"{etc}/device-serial"] == (0o444, b"0A0A\n")
        key = host_key.replace("etc/", f"{etc}/") if host_key.startswith("etc/") else host_key
        assert (key in files) == bool(host_key)
        if host_key:
            assert files[key] == (0o600, b"PRIVATE\n")
            assert files[f"{key}.pub"] == (0o644, b"ssh-ed25519 AAAA pi\n")
        assert len(files) == (5 if host_key else 3)
    assert "PRIVATE" not in repr(known)
    assert "0" * 32 not in repr(known)


# --- secrets ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "secret"),
    [(0o600, True), (0o400, True), (0o640, False), (0o604, False), (0o611, False), (0, True)],
)
def test_a_secret_is_what_only_its_owner_may_read(mode: int, secret: bool) -> None:
    entry = Entry("a", "file", mode, data=b"x")
    assert search.secrets((entry,)) == ([entry] if secret else [])


def test_folders_links_and_empty_files_are_no_secrets() -> None:
    entries = (
        Entry("a", "folder", 0o700),
        Entry("b", "link", 0o600, target="a"),
        Entry("c", "file", 0o600),
    )
    assert search.secrets(entries) == []


SECRET = Entry("etc/key", "file", 0o600, data=bytes(range(256)) * 3)
LONG = Entry("etc/long", "file", 0o600, data=b"".join(f"{n:7}\n".encode() for n in range(2000)))


def image_of(path: pathlib.Path, *pieces: tuple[int, bytes], size: int = 2 * CHUNK + 12345) -> None:
    """Make a sparse file with `pieces` at their offsets."""
    with path.open("wb") as file:
        for offset, data in pieces:
            file.seek(offset)
            file.write(data)
    os.truncate(path, size)


PLACES = [0, 4096, *(CHUNK - at for at in (1, 384, 767, 768, 4095, 4096, 4097)), CHUNK, CHUNK + 1]


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("entry", [SECRET, LONG], ids=["short", "long"])
def test_a_secret_in_its_place_is_counted_once(
    entry: Entry, place: int, tmp_path: pathlib.Path
) -> None:
    image_of(tmp_path / "raw", (place, entry.data))
    assert misplaced(tmp_path / "raw", (entry,)) == []
    assert misplaced(tmp_path / "raw", (SECRET, LONG)) == [
        other.path for other in (SECRET, LONG) if other is not entry
    ]


@pytest.mark.parametrize("place", [8192, *PLACES[2:], 2 * CHUNK - 500, 2 * CHUNK + 12345 - 768])
def test_a_secret_once_more_is_found(place: int, tmp_path: pathlib.Path) -> None:
    image_of(tmp_path / "raw", (4096, SECRET.data), (place, SECRET.data))
    assert misplaced(tmp_path / "raw", (SECRET,)) == ["etc/key"]


def test_a_secret_that_is_missing_is_found(tmp_path: pathlib.Path) -> None:
    image_of(tmp_path / "raw", (4096, SECRET.data[:-1]))
    assert misplaced(tmp_path / "raw", (SECRET,)) == ["etc/key"]
    image_of(tmp_path / "raw", size=0)
    assert misplaced(tmp_path / "raw", (SECRET,)) == ["etc/key"]


def test_the_first_block_of_a_long_secret_tells(tmp_path: pathlib.Path) -> None:
    first, rest = LONG.data[:4096], LONG.data[4096:]
    image_of(tmp_path / "raw", (CHUNK - 4096, first), (8192, rest))
    assert misplaced(tmp_path / "raw", (LONG,)) == []


def test_the_same_secret_in_two_files_must_be_there_twice(tmp_path: pathlib.Path) -> None:
    both = (SECRET, Entry("etc/other", "file", 0o400, data=b"<" + SECRET.data + b">"))
    image_of(tmp_path / "raw", (CHUNK - 100, SECRET.data), (4096, both[1].data))
    assert misplaced(tmp_path / "raw", both) == []
    image_of(tmp_path / "raw", (4096, both[1].data))
    assert misplaced(tmp_path / "raw", both) == ["etc/key"]


def test_what_others_may_read_is_not_looked_for(tmp_path: pathlib.Path) -> None:
    image_of(tmp_path / "raw")
    assert misplaced(tmp_path / "raw", (Entry("a", "file", 0o644, data=b"public"),)) == []
    assert misplaced(tmp_path / "raw", ()) == []
