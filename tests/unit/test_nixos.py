"""Tests NixOS builds: Nix' arguments, network requests, the plan of a dry run."""

import dataclasses
import json
import pathlib
import re

import pytest

from orchestrator.agents.builder import nixos
from orchestrator.agents.builder.crew import Crew
from orchestrator.agents.builder.early import check_image
from orchestrator.agents.builder.flakes import Flake
from orchestrator.agents.builder.nix import Nix
from orchestrator.agents.builder.nix_settings import CACHE_KEY, Settings
from orchestrator.agents.failure import AgentError
from orchestrator.shared.builders import read_line
from orchestrator.shared.image_options import ImageOptions, Injection
from orchestrator.shared.json_reader import JsonError
from orchestrator.shared.nix_options import NixOptions
from orchestrator.shared.paths import ROOT
from orchestrator.shared.task import Commit, DemoTask, NixosTask, Task
from orchestrator.shared.text import public

TASK = NixosTask(
    systems=("aarch64-linux",),
    systems_given=True,
    name="pi",
    formats=("sd-aarch64",),
    format_paths={},
    configuration="/in/home/me/pi.nix",
    flake="",
    attribute="",
    nixpkgs="",
    search_path=(),
    disk={"diskSize": 8192},
    nix_options=NixOptions(arguments=(("who", "me"),)),
    dry_run=False,
    sources="/in",
)


def task(**changes: object) -> NixosTask:
    return dataclasses.replace(TASK, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "work",
    [
        DemoTask("x86_64-linux", authorized_keys=("ssh-ed25519 A me",), locked=True),
        TASK,
        task(
            search_path=(("a", "/b"),),
            nix_options=NixOptions(options=(("x", "y"),), cores=0, nix_conf="/c"),
            format_paths={"f": "/g.nix"},
        ),
        task(flake="path:/x", overrides=(("n", "path:/n"),), commit=Commit("a", 1, 0, clean=True)),
    ],
)
def test_a_task_is_read_as_it_was_written(
    work: DemoTask | NixosTask, tmp_path: pathlib.Path
) -> None:
    options = ImageOptions(disk_size=7, injections=(Injection("/s", "/d", 0o600),))
    arm = ("aarch64-linux",)
    written = Task(work, True, arm, 5, "/ca", options, private=arm, strict=True)
    written.write(tmp_path)
    assert Task.read(tmp_path) == written


def test_a_task_of_another_version_is_an_error(tmp_path: pathlib.Path) -> None:
    Task(TASK, False, ()).write(tmp_path)
    document = json.loads((tmp_path / "task.json").read_text())
    document["work"]["unheard_of"] = 1
    (tmp_path / "task.json").write_text(json.dumps(document))
    with pytest.raises(JsonError, match=r"^task\.work: unknown field unheard_of$"):
        Task.read(tmp_path)


def test_inputs_name_a_configuration_or_a_flakes() -> None:
    given = nixos.inputs_of(TASK, nixos.Nixpkgs("/n", "rev", ".1.rev"), Flake())
    assert given["configuration"] == "/in/home/me/pi.nix"
    assert (given["nixpkgs"], given["revision"], given["versionSuffix"]) == ("/n", "rev", ".1.rev")
    assert (given["disk"], given["specialArgs"]) == ({"diskSize": 8192}, {"who": "me"})
    assert "flake" not in given
    asked = task(flake="path:/in/x", attribute="pi", computer="moon")
    flake = nixos.inputs_of(asked, nixos.Nixpkgs(None), Flake({"folder": "x"}))
    assert (flake["flake"], flake["flakeGiven"]) == ({"folder": "x"}, "path:/in/x")
    assert (flake["attribute"], flake["hostName"], flake["nixpkgs"]) == ("pi", "moon", None)
    assert not flake.keys() & {"configuration", "name"}, "the flake names its configuration"


def test_features_are_those_of_all_builders_and_of_options() -> None:
    line = "ssh-ng://me@moon aarch64-linux /k 1 1 gccarch-znver3 big"
    asked = task(nix_options=NixOptions(options=(("extra-system-features", "a b"), ("x", "c"))))
    here = Settings(platforms=("armv7l-linux",))
    nix = Nix(here, pathlib.Path("log"), crew=Crew((read_line(line),)))
    offered = nixos.offered(asked, nix)
    assert set(offered) == {"kvm", "gccarch-armv7-a", "a", "b", "gccarch-znver3", "big"}
    given = nixos.inputs_of(asked, nixos.Nixpkgs("/n"), Flake(), offered)
    assert given["features"] == offered


def test_what_was_fetched_is_told_without_passwords() -> None:
    fetched = nixos.Nixpkgs("/n", "a" * 40, ".1", "git+https://me:secret@example.org/x", "sha256-x")
    (one,) = fetched.materials
    assert (one.name, one.uri) == ("nixpkgs", "git+https://example.org/x")
    assert one.digest == {"gitCommit": "a" * 40, "narHash": "sha256-x"}
    assert nixos.Nixpkgs("/n").materials == (), "a folder of the caller's was not"


def test_inputs_are_those_that_the_expression_knows() -> None:
    """inputs.json has exactly the fields that nix/build.nix documents."""
    text = (pathlib.Path(__file__).parents[2] / "nix/build.nix").read_text()
    head = text[: text.index("{ inputs }:")]
    for work in (TASK, task(flake="path:/x", attribute="a")):
        for name in nixos.inputs_of(work, nixos.Nixpkgs("/n"), Flake()):
            assert name in head, name


def test_options_of_nix_are_passed_on() -> None:
    asked = task(
        search_path=(("a", "/b"), ("", "/c"), ("d", "github:x/y"), ("e", "channel:f")),
        nix_options=NixOptions(options=(("keep-going", "true"),), cores=2),
    )
    assert nixos.nix_arguments(asked, nixos.Nixpkgs("/n")) == [
        *("-I", "nixpkgs=/n", "-I", "nixos-config=/in/home/me/pi.nix"),
        *("-I", "a=/b", "-I", "/c"),
        *("-I", "d=flake:github:x/y", "-I", "e=channel:f"),
    ]
    assert nixos.build_options(asked) == ("--option", "keep-going", "true", "--cores", "2")
    of_flake = task(configuration="", flake="path:/x")
    assert nixos.nix_arguments(of_flake, nixos.Nixpkgs(None)) == []


# --- the network ----------------------------------------------------------------------------------


#: Address without a server.
NOBODY = "http://127.0.0.1:9"


@pytest.mark.parametrize(
    ("reference", "host"),
    [
        ("github:NixOS/nixpkgs/nixos-26.05", "https://github.com"),
        ("https://example.org/a/b.tar.gz?x", "https://example.org"),
        ("git+https://example.org:8443/a", "https://example.org:8443"),
        ("tarball+http://example.org/a", "http://example.org"),
        ("channel:nixos-19.09", "https://channels.nixos.org"),
        ("path:/in/home", ""),
        ("/in/home", ""),
        ("git+ssh://me@example.org/x", ""),
        ("", ""),
    ],
)
def test_who_is_asked_for_a_reference(reference: str, host: str) -> None:
    assert nixos.host_of(reference) == host


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://me:secret@cache.example.org/a?b", "https://cache.example.org/a?b"),
        ("https://token@example.org", "https://example.org"),
        ("https://example.org/a@b", "https://example.org/a@b"),
        ("github:me/a", "github:me/a"),
        ("git+https://me:s@example.org/x", "git+https://example.org/x"),
    ],
)
def test_a_password_in_an_address_is_never_told(url: str, shown: str) -> None:
    assert public(url) == shown
    assert "secret" not in nixos.host_of(url)


def test_a_cache_with_a_password_is_asked_without_and_told_without(
    cache: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nixos, "CACHE", cache)
    good, bad = (f"http://me:secret@{url.removeprefix('http://')}" for url in (cache, NOBODY))
    settings = nixos.look_around(
        task(nixpkgs="/in/n", nix_options=NixOptions(substituters=(good, bad))), Settings()
    )
    assert settings.substituters == (cache, good)
    assert "secret" not in capsys.readouterr().out


def test_an_address_that_is_none_is_not_there() -> None:
    assert nixos.answers("http://a:b@c:d/")
    assert nixos.answers("http://[")


def test_whoever_answers_is_there(cache: str) -> None:
    assert nixos.answers(cache) == ""
    assert "refused" in nixos.answers(NOBODY)


def test_caches_that_do_not_answer_are_left_out_with_a_warning(
    cache: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(nixos, "CACHE", NOBODY)
    own = NixOptions(substituters=(cache, "s3://mine"), trusted_keys=("k",))
    asked = task(nixpkgs="/in/n", nix_options=own)
    settings = nixos.look_around(asked, Settings(platforms=("aarch64-linux",)))
    assert settings.substituters == (cache, "s3://mine")
    assert settings.trusted_keys == (CACHE_KEY, "k")
    assert settings.platforms == ("aarch64-linux",)
    said = capsys.readouterr().out
    assert f"{NOBODY} cannot be reached" in said
    assert f"{cache} cannot be reached" not in said


def test_sources_that_cannot_be_had_end_the_run_with_ways_out(
    cache: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nixos, "CACHE", cache)
    with pytest.raises(AgentError, match=f"{NOBODY}/n.tar.gz cannot be reached") as caught:
        nixos.look_around(task(nixpkgs=f"{NOBODY}/n.tar.gz"), Settings())
    assert caught.value.kind == "network"
    assert all(way in caught.value.hint for way in ("--nixpkgs PATH", "--substituter", "demo"))
    with pytest.raises(AgentError, match="cannot be reached"):
        nixos.look_around(task(flake=f"{NOBODY}/f.tar.gz", attribute="a"), Settings())


def test_a_folder_that_is_no_nixpkgs_is_refused_by_the_callers_path(tmp_path: pathlib.Path) -> None:
    asked = task(nixpkgs=f"{tmp_path}/home/me/n", sources=f"{tmp_path}")
    with pytest.raises(AgentError, match="--nixpkgs /home/me/n: this folder is not a nixpkgs tree"):
        nixos.find_nixpkgs(asked, Nix(Settings(), tmp_path / "log"))


def test_the_pinned_nixpkgs_is_that_of_the_lock_file() -> None:
    lock = pathlib.Path(__file__).parents[2] / "flake.lock"
    locked = json.loads(lock.read_text())["nodes"]["nixpkgs"]["locked"]
    assert nixos._pinned_url(locked).endswith(f"/NixOS/nixpkgs/archive/{locked['rev']}.tar.gz")
    # nixpkgs' own flake makes this suffix for that commit.
    assert nixos.version_suffix(locked["lastModified"], locked["rev"]) == ".20260714.8eeec93"


def test_a_pinned_nixpkgs_that_is_in_the_store_is_not_asked_for(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = pathlib.Path(__file__).parents[2] / "flake.lock"
    monkeypatch.setattr(nixos, "FLAKE_LOCK", lock)
    monkeypatch.setattr(nixos, "store_path", lambda _hash: str(tmp_path / "source"))
    assert nixos._needed_nixpkgs(TASK).startswith("https://github.com/NixOS/nixpkgs/archive/")
    (tmp_path / "source").mkdir()
    assert nixos._needed_nixpkgs(TASK) == ""
    assert nixos._needed_nixpkgs(task(nixpkgs="channel:x")) == "channel:x"


def test_all_that_our_expressions_read_may_be_read() -> None:
    """Our expressions are evaluated in restricted mode, as the caller's are."""
    words = nixos.readable(task(), pathlib.Path("/run/inputs.json"))
    places = [pathlib.Path(word.partition("=")[2]) for word in words if word != "-I"]
    found = 0
    for path in (ROOT / "nix").rglob("*.nix"):
        code = "\n".join(line.partition("#")[0] for line in path.read_text().splitlines())
        code = re.sub(r'"[^"]*"', "", code)
        for name in re.findall(r"(?<![\w.])(\.\.?/[\w./-]+)", code):
            target = (path.parent / name).resolve()
            assert target.exists(), (path, name)
            assert any(target.is_relative_to(place) for place in places), (path, name)
            found += not target.is_relative_to(ROOT / "nix")
    assert found, "some of it lies beside the expressions"


# --- images, before they are built ------------------------------------------------------------

GOLDEN = (ROOT / "tests/nixos/specs/x86_64-linux/raw.json").read_text()


@pytest.mark.parametrize(
    ("options", "spec", "message"),
    [
        (ImageOptions(boot_size=64), GOLDEN, "--boot-size: partition table legacy has no boot"),
        (ImageOptions(bmap=True), GOLDEN.replace('"ext4"', '"btrfs"'), "--bmap does not support"),
        (ImageOptions(disk_size=3 << 20), GOLDEN, "spec.diskSizeMiB: partition table legacy (MBR)"),
        (ImageOptions(), GOLDEN.replace('"nixos"', '"a/b"'), "spec.root.label: 'a/b' is empty, or"),
        (ImageOptions(host_name="a"), "null", "--host-name: nixpkgs makes this image"),
        (ImageOptions(), "[]", "spec: expected an object"),
        (
            ImageOptions(partition_table="legacy+gpt", disk_size=3 << 20, disk_format="vpc"),
            GOLDEN,
            "spec.diskSizeMiB: a disk of format vpc has at most 2040 GiB",
        ),
        (
            ImageOptions(disk_size=200),
            GOLDEN,
            "disk size 200 MiB is too small: the partitions need",
        ),
    ],
)
def test_what_does_not_go_together_is_told_before_the_build(
    options: ImageOptions, spec: str, message: str
) -> None:
    with pytest.raises(AgentError) as caught:
        check_image(options, spec)
    assert str(caught.value).startswith(message)
    assert caught.value.kind == "usage"


def test_images_that_can_be_made_pass() -> None:
    check_image(ImageOptions(disk_size=4096, bmap=True, host_name="a"), GOLDEN)
    check_image(ImageOptions(), "null")
