"""Fuzz tests: each parser of untrusted input returns a value or raises its own error.

Parsers: image spec, bootspec, Nix' output, containers' events, `--stamp` files, result.json.
Beside what each module's own tests have: values that are nearly right, and those that break readers
of JSON.
"""

import contextlib
import copy
import io
import json
import pathlib
import typing

import hypothesis
import pytest
from hypothesis import strategies as st

from orchestrator.__main__ import tell
from orchestrator.agents import events
from orchestrator.agents.builder.nixlog import NixLog
from orchestrator.decide import image_facts
from orchestrator.decide.image_facts import ImageFacts, probe
from orchestrator.image.bootspec import (
    BOOTSPEC_V1,
    EXTRA_INITRD_V1,
    SPECIALISATION_V1,
    SYSTEMD_BOOT,
    read_bootspec,
)
from orchestrator.image.late import COLUMNS, Device, late_entries, one_device, read_devices
from orchestrator.image.tree import Tree, TreeError
from orchestrator.run.supervisor import read_event
from orchestrator.shared.architectures import SYSTEMS
from orchestrator.shared.disk_formats import DISK_FORMATS
from orchestrator.shared.display import Display, Style, Terminal
from orchestrator.shared.errors import BuildError, failure
from orchestrator.shared.image_options import ImageOptions
from orchestrator.shared.progress import make_progress
from orchestrator.shared.spec import ImageSpec, Late, SpecError, is_file_name
from orchestrator.shared.spec_reader import read_spec
from orchestrator.shared.text import plain
from tests.unit.test_bootspec import BOOT
from tests.unit.test_spec import JSON, SPEC, changed

#: Hostile text: any characters, and those with a meaning for terminals, shells and lines.
STEERING = "\0\n\r\t\b\x1b\x7f\x9b[]P\\;:/.-'\"`$@ \u2028\u202e\ufeff"
TEXTS = st.text(st.one_of(st.sampled_from(STEERING), st.characters()))

#: Text in JSON may include unpaired surrogates.
LONE = '"\\ud800"'

ENDLESS = [
    "[" * 100_000,
    '{"a":' * 100_000,
    "1" * 100_000,
    "-1e999999",
    "NaN",
    LONE,
    '"\\u0000"',
    "\0",
    "\ufeff{}",
]


def is_plain(text: str) -> bool:
    return all(letter.isprintable() or letter in "\n\t\u00a0" for letter in text)


# --- the spec ---------------------------------------------------------------------------------

HOSTILE: list[tuple[str, object, str]] = [
    ("name", "a\nb", "characters that are not allowed in a text"),
    ("name", "\x1b[2J", "characters that are not allowed in a text"),
    ("name", "-rf", "cannot be a file name"),
    ("name", ".complete", "cannot be a file name"),
    ("name", "a\u202eb", "cannot be a file name"),
    ("name", " a", "cannot be a file name"),
    ("name", "a" * 250, "cannot be a file name"),
    ("name", "é" * 130, "cannot be a file name"),
    ("toplevel", "/nix/store/\0", "characters that are not allowed in a text"),
    ("diskSizeMiB", 1 << 24, "more than the limit of 16 TiB"),
    ("diskSizeMiB", 10**300, "more than the limit of 16 TiB"),
    ("boot.sizeMiB", -1, "negative"),
    ("root.additionalSpaceMiB", 10**30, "more than the limit of 16 TiB"),
    ("firmware.offsetMiB", True, "expected int"),
    ("firmware.files", {"a\n": "/x"}, "characters that are not allowed in a text"),
    ("firmware.files", {"a": 1}, "expected str"),
    ("firmware.identifier", "2178694e\n", "characters that are not allowed in a text"),
    ("root.label", "a\nb", "characters that are not allowed in a text"),
    ("root.uuid", "\n", "characters that are not allowed in a text"),
    ("contents", [SPEC["contents"][0] | {"mode": "0o7"}], "is not an octal mode"),
    ("contents", [SPEC["contents"][0] | {"mode": "-77"}], "is not an octal mode"),
    ("contents", [SPEC["contents"][0] | {"mode": "\u0663\u0663\u0663"}], "is not an octal mode"),
    ("contents", [SPEC["contents"][0] | {"user": 1 << 32}], "number is too large"),
    ("contents", [SPEC["contents"][0] | {"group": -1}], "negative"),
    ("readyText", ["x" * 10**6], "expected str"),
]


@pytest.mark.parametrize(("field", "value", "message"), HOSTILE)
def test_hostile_values_of_a_spec_are_refused(field: str, value: object, message: str) -> None:
    with pytest.raises(SpecError, match=message) as caught:
        read_spec(changed(field, value))
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize("text", ENDLESS)
def test_what_breaks_readers_of_json_is_no_spec(text: str) -> None:
    for document in (text, json.dumps(SPEC)[:-1] + f', "name": {text}}}', f"[{text}]"):
        with pytest.raises(SpecError):
            read_spec(document)


def test_a_field_that_is_there_twice_is_refused() -> None:
    inner = json.dumps(SPEC).replace('"label": "nixos"', '"label": "nixos", "label": "other"')
    for text in (json.dumps(SPEC)[:-1] + ', "name": "other"}', inner):
        with pytest.raises(SpecError, match="is repeated"):
            read_spec(text)


def test_a_half_of_a_character_is_refused() -> None:
    for field in ("name", "root.label", "system", "firmware.files"):
        value: object = "\ud800" if field != "firmware.files" else {"\ud800": "x"}
        with pytest.raises(SpecError, match="characters that are not allowed in a text"):
            read_spec(changed(field, value))


PLACES = st.lists(st.sampled_from(["a", "..", ".", "", "/", "nix", "store", "\u00e9"]), max_size=6)


@hypothesis.given(target=st.one_of(PLACES.map("/".join), TEXTS))
def test_no_content_climbs_out(target: str) -> None:
    try:
        spec = read_spec(changed("contents", [SPEC["contents"][0] | {"target": target}]))
    except SpecError:
        return
    tree = Tree(())
    with contextlib.suppress(TreeError):
        tree.add_file(spec.contents[0].target.strip("/"), b"")
    for entry in tree.entries:
        assert ".." not in entry.path.split("/")
        assert not entry.path.startswith(("/", "nix/store/"))


@hypothesis.given(name=TEXTS)
def test_names_of_files_are_lines_that_steer_nothing(name: str) -> None:
    if is_file_name(name):
        assert is_plain(name)
        assert name == name.strip()
        assert not {"/", "\n"}.intersection(name)
        assert name[0] not in ".-"
        assert 0 < len(name.encode()) < 255


def mutated(document: object, path: list[int], value: object) -> object:
    """Replace one part of `document`, chosen by numbers, by `value`."""
    if not path or not isinstance(document, dict | list) or not document:
        return value
    keys = list(document) if isinstance(document, dict) else list(range(len(document)))
    key: typing.Any = keys[path[0] % len(keys)]
    result: typing.Any = copy.copy(document)
    result[key] = mutated(result[key], path[1:], value)
    return result


VALUES = JSON | TEXTS
PATHS = st.lists(st.integers(0, 20), min_size=1, max_size=3)


@hypothesis.given(path=PATHS, value=VALUES)
@hypothesis.settings(max_examples=3 * hypothesis.settings().max_examples)
def test_a_spec_that_is_nearly_right_is_read_or_refused(path: list[int], value: object) -> None:
    try:
        spec = read_spec(json.dumps(mutated(SPEC, path, value)))
    except SpecError:
        return
    assert isinstance(spec, ImageSpec)
    assert is_file_name(spec.file_name)
    for what in ("root", "disk"):
        spec.identifier(what)


# --- the bootspec -----------------------------------------------------------------------------

WHOLE: dict[str, object] = {
    BOOTSPEC_V1: {**BOOT, "initrdSecrets": None},
    SPECIALISATION_V1: {"a": {BOOTSPEC_V1: BOOT}},
    EXTRA_INITRD_V1: {"paths": ["/nix/store/m/microcode"]},
    SYSTEMD_BOOT: {"sortKey": "mine", "devicetree": "/nix/store/d/board.dtb"},
}


@pytest.fixture(scope="module")
def toplevel(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    return tmp_path_factory.mktemp("toplevel")


@hypothesis.given(path=PATHS, value=VALUES)
@hypothesis.settings(max_examples=3 * hypothesis.settings().max_examples)
def test_a_bootspec_that_is_nearly_right_is_read_or_refused(
    path: list[int], value: object, toplevel: pathlib.Path
) -> None:
    (toplevel / "boot.json").write_text(json.dumps(mutated(WHOLE, path, value)))
    try:
        boot = read_bootspec(toplevel)
    except SpecError:
        return
    for text in (boot.label, boot.kernel, boot.device_tree, boot.sort_key, *boot.kernel_params):
        assert isinstance(text, str)
        assert "\n" not in text


@pytest.mark.parametrize("text", ENDLESS)
def test_what_breaks_readers_of_json_is_no_bootspec(text: str, toplevel: pathlib.Path) -> None:
    (toplevel / "boot.json").write_text(text)
    with pytest.raises(SpecError):
        read_bootspec(toplevel)


# --- files of devices -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    ["../x", "a/b", "/etc", ".", "..", "a..b", "-a", "a-", "a" * 64, "a.", "a\x1b[2J", "a\0", "é"],
)
def test_a_host_that_is_no_name_is_refused(host: str) -> None:
    with pytest.raises(SpecError, match="--stamp: line 2"):
        read_devices(f"host\n{host}\n")


@pytest.mark.parametrize("line", ["", " ", '""', ",", "\0"])
def test_an_empty_host_is_refused(line: str) -> None:
    with pytest.raises(SpecError, match="--stamp"):
        read_devices(f"host\n{line}\n")


@hypothesis.given(
    head=st.lists(st.sampled_from([*COLUMNS, "", "Host", "\x1b"]), max_size=6),
    rows=st.lists(st.lists(st.one_of(TEXTS, st.just("pi")), max_size=6), max_size=3),
    comma=st.sampled_from([",", ";", "\t"]),
)
@hypothesis.settings(max_examples=3 * hypothesis.settings().max_examples)
def test_a_file_of_devices_is_read_or_refused(
    head: list[str], rows: list[list[str]], comma: str
) -> None:
    try:
        devices = read_devices("\n".join(comma.join(cells) for cells in [head, *rows]))
    except SpecError:
        return
    assert len({device.host.lower() for device in devices}) == len(devices) > 0
    for device in devices:
        assert is_file_name(f"image-{device.host}.img")
        for entry in late_entries(ImageOptions(), device, ALL_WIFI):
            Tree(()).add(entry)


ALL_WIFI = Late(wifi={**Late().wifi, "iwd": "var/lib/iwd"})


@hypothesis.given(ssid=st.text(st.characters(exclude_categories=())), host=TEXTS)
def test_options_for_one_device_are_taken_or_refused(ssid: str, host: str) -> None:
    """Bytes of the command line that are not UTF-8 are surrogates in Python."""
    with contextlib.suppress(SpecError):
        assert isinstance(one_device(ImageOptions(wifi_ssid=ssid, host_name=host)), Device)


# --- what Nix says ----------------------------------------------------------------------------

ACTIONS: list[dict[str, object]] = [
    {"action": "start", "id": 1, "level": 3, "type": 105, "fields": ["/nix/store/x-a.drv"]},
    {"action": "start", "id": 2, "level": 3, "type": 101, "fields": ["https://host/file"]},
    {"action": "start", "id": 3, "type": 104},
    {"action": "result", "id": 1, "type": 101, "fields": ["a line"]},
    {"action": "result", "id": 3, "type": 105, "fields": [1, 2, 0, 0]},
    {"action": "msg", "level": 0, "msg": "error", "raw_msg": "raw", "file": "a.nix:1:2", "line": 1}
    | {"trace": [{"file": "b.nix:1:2", "line": 1, "raw_msg": "while"}]},
    {"action": "stop", "id": 1},
]


@hypothesis.given(
    lines=st.lists(st.tuples(st.sampled_from(ACTIONS), PATHS, VALUES), max_size=6),
    noise=st.lists(TEXTS, max_size=2),
)
@hypothesis.settings(max_examples=3 * hypothesis.settings().max_examples)
def test_whatever_nix_says_the_build_goes_on(
    lines: list[tuple[dict[str, object], list[int], object]], noise: list[str]
) -> None:
    log = NixLog(io.StringIO())
    for event, path, value in lines:
        log.feed(f"@nix {json.dumps(event)}")
        log.feed(f"@nix {json.dumps(mutated(event, path, value))}")
    for text in noise:
        log.feed(text)
        log.feed(f"@nix {text}")
    told = [log.current, log.failed, log.tail, *log.errors, *log.notes]
    told += [log.problem.text, *log.problem.places] if log.problem else []
    assert isinstance(log.log, io.StringIO)
    for text in (*told, log.log.getvalue()):
        assert is_plain(text)
        text.encode()


@pytest.mark.parametrize("text", ENDLESS)
def test_what_breaks_readers_of_json_does_not_end_the_build(text: str) -> None:
    log = NixLog(io.StringIO())
    log.feed(f"@nix {text}")
    log.feed(f'@nix {{"action": "msg", "level": 0, "msg": {text}}}')
    log.feed('@nix {"action": "msg", "level": 0, "msg": "still here"}')
    assert log.errors[-1] == "still here"


# --- what containers say ----------------------------------------------------------------------


@hypothesis.given(line=st.one_of(TEXTS, VALUES.map(json.dumps)))
def test_a_line_of_a_container_is_an_event_or_none(line: str) -> None:
    event = read_event(line)
    assert event is None or isinstance(event["event"], str)


@pytest.mark.parametrize("text", ENDLESS)
def test_what_breaks_readers_of_json_is_no_event(text: str) -> None:
    assert read_event(text) is None
    with contextlib.suppress(TypeError):
        assert read_event(f'{{"event": {text}}}') in (None, {"event": "\ud800"}, {"event": "\0"})


@hypothesis.given(fields=st.dictionaries(TEXTS | st.sampled_from(["self", "event"]), VALUES))
@hypothesis.example(fields={"self": 1, "event": 1, "level": 1, "message": 1, "exc_info": 1})
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
@pytest.mark.parametrize("style", ["json", "plain"])
def test_whatever_an_event_holds_it_is_told(
    fields: dict[str, object], style: Style, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    progress = make_progress(Display(style), Terminal())
    progress.say("\x1b[2Jsaid", "warning", fields)
    progress.to("stage", "\x1b]0;title\x07detail")
    progress.end()
    progress.close()
    said = capsys.readouterr().err
    assert is_plain(said)
    assert "said" in said


@hypothesis.given(message=TEXTS, hint=TEXTS, detail=TEXTS)
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_no_error_steers_the_terminal(
    message: str, hint: str, detail: str, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    tell(failure(BuildError, {"message": message, "hint": hint, "detail": detail}))
    assert is_plain(capsys.readouterr().err)


@hypothesis.given(text=TEXTS)
@hypothesis.settings(suppress_health_check=[hypothesis.HealthCheck.function_scoped_fixture])
def test_no_agent_steers_the_terminal_of_docker_compose_up(
    text: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NIXOS_IMAGE_LOG", raising=False)
    capsys.readouterr()
    events.configure("builder")
    events.emit("nix", message=None, current=text)
    events.emit("failed", level="error", message=text, hint=text, detail=text)
    assert is_plain(capsys.readouterr().out)


@hypothesis.given(text=st.text(st.characters(exclude_categories=())))
def test_plain_text_is_printable_and_can_be_written(text: str) -> None:
    found = plain(text)
    assert is_plain(found)
    found.encode()
    assert plain(found) == found


def test_marks_that_turn_letters_round_go() -> None:
    assert plain("a\u202eb\u2066c\ufeff\u2028d\x9b31me\x90q\x9cf") == "abcdef"


# --- results of other runs --------------------------------------------------------------------


@hypothesis.given(
    one=st.fixed_dictionaries(
        {
            "path": st.just("/out/a.img"),
            "system": st.sampled_from(["aarch64-linux", "x/y:evil", "a\nX=1"]) | VALUES,
            "firmware": st.just(["uefi"]) | VALUES,
            "disk_format": st.sampled_from(["raw", "qcow2"]) | VALUES,
        }
    )
)
def test_a_result_names_no_machine_that_there_is_not(
    one: dict[str, object], toplevel: pathlib.Path
) -> None:
    """The system and format in result.json become names of Docker images and arguments."""
    (toplevel / "a.img").write_bytes(b"\xeb" * 512)
    (toplevel / "a.img.result.json").write_text(json.dumps({"images": [one]}))
    facts = probe(toplevel / "a.img")
    assert facts.system in SYSTEMS
    assert facts.disk_format in DISK_FORMATS
    assert set(facts.firmware) <= {"uefi", "bios", "u-boot"}


@pytest.mark.parametrize("text", ENDLESS)
def test_what_breaks_readers_of_json_is_no_result(text: str, toplevel: pathlib.Path) -> None:
    (toplevel / "a.img").write_bytes(b"\xeb" * 512)
    (toplevel / "a.img.result.json").write_text(f'{{"images": {text}}}')
    facts = probe(toplevel / "a.img")
    assert facts == ImageFacts("x86_64-linux", ("bios",), "raw")


def test_a_result_of_any_size_is_not_read_whole(
    toplevel: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (toplevel / "a.img").write_bytes(b"\xeb" * 512)
    one = {"path": "a.img", "system": "riscv64-linux", "firmware": ["uefi"], "disk_format": "raw"}
    text = json.dumps({"images": [one]})
    (toplevel / "a.img.result.json").write_text(text)
    assert probe(toplevel / "a.img").system == "riscv64-linux"
    monkeypatch.setattr(image_facts, "RESULT_LETTERS", len(text) - 1)
    assert probe(toplevel / "a.img").system == "x86_64-linux"
