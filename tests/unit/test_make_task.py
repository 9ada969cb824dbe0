"""Tests the builder's task made from a request: paths, disk options, refusals."""

import base64
import dataclasses
import os
import pathlib
import re
import typing

import pytest

from orchestrator.ask import uploads
from orchestrator.ask.github import keys_of
from orchestrator.ask.request import Build, Caller
from orchestrator.decide import identities, late_files
from orchestrator.decide import make_task as module
from orchestrator.decide.plan import Plan
from orchestrator.docker.workspace import Workspace
from orchestrator.image.identity import read_identities
from orchestrator.image.late import Device
from orchestrator.shared.architectures import this_system
from orchestrator.shared.builders import Builder, read_keyed
from orchestrator.shared.errors import UsageError
from orchestrator.shared.image_options import ImageOptions, Injection
from orchestrator.shared.nix_options import NixOptions
from orchestrator.shared.push import CREDENTIALS, SIGN_KEY, Push
from orchestrator.shared.run import LATE, WORK
from orchestrator.shared.task import Commit, DemoTask, NixosTask, Task
from tests.unit.asking import demo
from tests.unit.requests import BUILD

P = pathlib.PurePosixPath
PLAN = Plan(
    systems=("aarch64-linux", "x86_64-linux"),
    mode="shared",
    reason="",
    register=("aarch64-linux",),
    private=(),
    services=(),
    memory=1024,
    boot=False,
    kvm=False,
    machines=(),
    natively=frozenset({"x86_64-linux"}),
    ran_before=frozenset({"x86_64-linux"}),
)


@pytest.fixture
def sent(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Make received files: a configuration, a flake in a repository's folder, a nixpkgs."""
    here = tmp_path / "input"
    monkeypatch.setattr(uploads, "input_folder", lambda _who: here)
    monkeypatch.setattr(uploads, "list_folder", lambda _who: here)
    monkeypatch.setattr(module, "input_folder", lambda _who: here)
    monkeypatch.setattr(os, "chown", lambda *_args, **_options: None)
    for name in ("checkout/config", "me/my machines/pi", "n"):
        (here / name).mkdir(parents=True)
    (here / "checkout/config/sd-card.nix").write_text("{ }\n")
    (here / "secret").write_text("s")
    (here / uploads.TREES).write_text("/checkout\0/me/my machines\0/n\0")
    return here


def made(
    request: Build, who: Caller, folder: pathlib.Path, plan: Plan = PLAN
) -> tuple[Task, NixosTask]:
    shared, own = folder / "shared", folder / "own"
    shared.mkdir(exist_ok=True)
    own.mkdir(exist_ok=True)
    task = module.make_task(request, plan, who, Workspace(shared, own))
    assert isinstance(task.work, NixosTask)
    return task, task.work


def test_the_builder_is_told_its_own_paths(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    request = dataclasses.replace(
        BUILD, nixpkgs=P("/n"), search_path=(("a", P("/n")), ("b", "channel:b"))
    )
    task, work = made(request, who, tmp_path)
    assert work.configuration == f"{sent}/checkout/config/sd-card.nix"
    assert work.nixpkgs == f"{sent}/n"
    assert work.search_path == (("a", f"{sent}/n"), ("b", "channel:b"))
    assert (work.systems, work.systems_given) == (PLAN.systems, False)
    assert (task.leased, task.foreign) == (True, ("aarch64-linux",))
    assert work.sources == str(sent)


def test_a_dry_run_is_told_for_which_systems_there_are_builders(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    plan = dataclasses.replace(PLAN, remote=("aarch64-linux",))
    for dry_run, systems in ((True, ("aarch64-linux",)), (False, ())):
        request = dataclasses.replace(BUILD, nixpkgs=P("/n"), dry_run=dry_run)
        assert made(request, who, tmp_path, plan)[0].elsewhere == systems
    own = Builder("ssh-ng://h", (this_system(),), "/k")
    request = dataclasses.replace(BUILD, nixpkgs=P("/n"), dry_run=True, builders=(own,))
    assert made(request, who, tmp_path, plan)[0].elsewhere == ("aarch64-linux", this_system())


def test_a_demo_may_have_no_file_of_the_callers(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    (sent / uploads.TREES).unlink()
    for name in ("shared", "own"):
        (tmp_path / name).mkdir()
    places = Workspace(tmp_path / "shared", tmp_path / "own")
    assert isinstance(module.make_task(demo(), PLAN, who, places).work, DemoTask)


def test_a_flake_is_as_old_as_its_newest_file(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    """Folders' times change with what is not sent, and tar makes some of them anew."""
    (sent / uploads.MOUNTED).write_text(f"/n\0{'0' * 32}\0{'0' * 32}\0")
    flake = dataclasses.replace(BUILD, configuration=None, flake=P("/me/my machines"))
    before = (sent / "n").stat().st_mtime
    made(flake, who, tmp_path)
    assert {(sent / f"me/my machines{one}").stat().st_mtime for one in ("", "/pi")} == {1}
    assert (sent / "n").stat().st_mtime == before  # a copy is mounted read-only


def test_a_flake_is_the_whole_repository_and_its_folder_in_it(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    flake = dataclasses.replace(
        BUILD, configuration=None, flake=P("/me/my machines/pi"), attribute="pi"
    )
    _task, work = made(flake, who, tmp_path)
    assert work.flake == f"path:{sent}/me/my%20machines?dir=pi"
    whole = dataclasses.replace(flake, flake=P("/me/my machines"))
    assert made(whole, who, tmp_path)[1].flake == f"path:{sent}/me/my%20machines"
    remote = dataclasses.replace(flake, flake="github:me/machines")
    assert made(remote, who, tmp_path)[1].flake == "github:me/machines"


def test_a_flake_may_lie_in_a_folder_of_what_is_sent(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    flake = dataclasses.replace(BUILD, configuration=None, flake=P("/me/my machines"))
    below = dataclasses.replace(flake, flake_folder="pi/x")
    assert made(below, who, tmp_path)[1].flake == f"path:{sent}/me/my%20machines?dir=pi/x"
    (sent / "me/my machines/flake.nix").write_text("")
    assert made(below, who, tmp_path)[1].flake == f"path:{sent}/me/my%20machines?dir=pi/x"
    inside = dataclasses.replace(flake, flake=P("/me/my machines/pi"))
    assert made(inside, who, tmp_path)[1].flake == f"path:{sent}/me/my%20machines", "as Nix does"
    (sent / "me/my machines/flake.nix").rename(sent / "me/flake.nix")
    assert made(inside, who, tmp_path)[1].flake == f"path:{sent}/me/my%20machines?dir=pi"


def test_a_flake_has_the_commit_of_its_repository(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    words = ("/me/my machines", "a" * 40, "61", "5", "1", "0")
    (sent / uploads.COMMITS).write_text("".join(f"{word}\0" for word in words))
    flake = dataclasses.replace(BUILD, configuration=None, flake=P("/me/my machines/pi"))
    assert made(flake, who, tmp_path)[1].commit == Commit("a" * 40, 61, 5, clean=True)
    assert made(dataclasses.replace(flake, flake="github:a/b"), who, tmp_path)[1].commit is None
    assert made(BUILD, who, tmp_path)[1].commit is None


def test_inputs_of_a_flake_are_replaced_by_sent_folders(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    request = dataclasses.replace(
        BUILD,
        configuration=None,
        flake=P("/me/my machines/pi"),
        nixpkgs=P("/n"),
        overrides=(("a", P("/me/my machines"), "pi"), ("b/c", "github:c/c", "")),
    )
    caller = dataclasses.replace(who, computer="moon")
    work = made(request, caller, tmp_path)[1]
    assert work.overrides == (
        ("nixpkgs", f"path:{sent}/n"),
        ("a", f"path:{sent}/me/my%20machines?dir=pi"),
        ("b/c", "github:c/c"),
    )
    assert (work.nixpkgs, work.computer) == ("", "moon")
    assert made(BUILD, who, tmp_path)[1].overrides == ()


def test_options_of_the_disk_are_nixs_too(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    image = ImageOptions(partition_table="efi", disk_size=9, compression="xz", boot_size=5)
    request = dataclasses.replace(
        BUILD, image=image, root_fs="btrfs", allow_no_login=True, ignore_hardware=True
    )
    task, work = made(request, who, tmp_path)
    assert work.disk == {
        "partitionTableType": "efi",
        "diskSize": 9,
        "bootSize": 5,
        "compression": "xz",
        "fsType": "btrfs",
        "allowNoLogin": True,
        "ignoreHardware": True,
    }
    assert task.options == image
    assert made(BUILD, who, tmp_path)[1].disk == {}
    auto = dataclasses.replace(BUILD, image=ImageOptions(disk_size=0, boot_size=0))
    assert made(auto, who, tmp_path)[1].disk == {"diskSize": "auto", "bootSize": "auto"}


def test_secrets_are_in_no_folder_that_an_agent_sees(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    """Late files are moved away; the task has their later paths, not their content."""
    files = {"injected": "/secret", "stamp": "/rows", "wifi": "/wifi", "conf": "/nix.conf"}
    files |= {"key": "/key", "certificate": "/certificate"}
    secrets = {name: f"a secret: {name}" for name in files} | {"stamp": "host\na-secret-host\n"}
    for name, path in files.items():
        (sent / path.lstrip("/")).write_text(secrets[name])
    image = ImageOptions(
        injections=(Injection("/secret", "/etc/s", 0o600),),
        stamp="/rows",
        wifi_password_file="/wifi",
        secure_boot_key="/key",
        secure_boot_cert="/certificate",
    )
    request = dataclasses.replace(BUILD, image=image, nix_options=NixOptions(nix_conf="/nix.conf"))
    task, _work = made(request, who, tmp_path)
    assert task.late
    task.write(tmp_path / "shared")
    kept = {path for path in (tmp_path / "own").rglob("*") if path.is_file()}
    assert {path.read_text() for path in kept} == set(secrets.values())
    late = {task.options.injections[0].source, task.options.stamp, task.options.wifi_password_file}
    late |= {task.options.secure_boot_key, task.options.secure_boot_cert}
    places = {pathlib.Path(place) for place in late}
    assert {place.parent for place in places} == {WORK / who.run / LATE}
    assert {place.name for place in places} < {path.name for path in kept}
    for place in tmp_path.rglob("*"):
        if place.is_file() and place not in kept:
            assert not re.search("a.secret", place.read_text()), place


def test_the_seed_of_a_fleet_stays_with_the_orchestrator(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Agents get the identities that are derived from it, and those only with the late values."""
    monkeypatch.setattr(identities, "_public", lambda private: private[::-1])
    seed = "0123456789abcdef" * 4
    (sent / "rows").write_text("host\nalpha\nbeta\n")
    (sent / "seed").write_text(f"{seed}\n")
    image = ImageOptions(stamp="/rows", identity_seed="/seed")
    task, work = made(dataclasses.replace(BUILD, image=image), who, tmp_path)
    assert work.late["identity"]
    [place] = (tmp_path / "own").rglob(pathlib.Path(task.options.identity_seed).name)
    known = read_identities(place.read_text())
    assert known["beta"] == identities.identity(seed.encode(), "beta")
    assert known.keys() == {"alpha", "beta"}
    for file in tmp_path.rglob("*"):
        assert not file.is_file() or seed not in file.read_text(), file
        assert file == place or not file.is_file() or known["beta"].serial not in file.read_text()


def test_a_seed_that_could_be_guessed_is_refused(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    (sent / "seed").write_text("x" * 31 + "\n\n")
    image = ImageOptions(host_name="a", identity_seed="/seed")
    with pytest.raises(UsageError, match=r"^--identity-seed: the file has 31 bytes, a seed"):
        made(dataclasses.replace(BUILD, image=image), who, tmp_path)


def test_a_seed_is_no_public_key(sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path) -> None:
    data = (11).to_bytes(4) + b"ssh-ed25519" + (32).to_bytes(4) + bytes(32)
    blob = base64.b64encode(data).decode()
    (sent / "key.pub").write_text(f"ssh-ed25519 {blob} me@home\n")
    image = ImageOptions(host_name="a", identity_seed="/key.pub")
    with pytest.raises(UsageError, match=r"^--identity-seed: the file has a public key"):
        made(dataclasses.replace(BUILD, image=image), who, tmp_path)


def test_a_seed_is_no_other_late_value(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    (sent / "seed").write_text("x" * 32)
    injected = (Injection("/a/../seed", "/etc/seed", 0o600),)
    image = ImageOptions(host_name="a", identity_seed="/seed", injections=injected)
    with pytest.raises(UsageError, match=r"^--identity-seed /seed: another option names this"):
        made(dataclasses.replace(BUILD, image=image), who, tmp_path)
    assert (sent / "seed").read_text() == "x" * 32


def test_a_late_value_may_be_the_ca_bundle_and_the_nix_conf_too(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    (sent / "ca.crt").write_text("a certificate")
    (sent / "nix.conf").write_text("access-tokens = a=b")
    injected = tuple(
        Injection(f"/{name}", f"/etc/{name}", 0o600) for name in ("ca.crt", "nix.conf")
    )
    request = dataclasses.replace(
        BUILD,
        image=ImageOptions(injections=injected),
        nix_options=NixOptions(nix_conf="/nix.conf"),
    )
    task, _work = made(request, dataclasses.replace(who, ca_bundle="/ca.crt"), tmp_path)
    assert pathlib.Path(task.ca_bundle).read_text() == "a certificate"
    kept = [path.read_text() for path in (tmp_path / "own").rglob("*") if path.is_file()]
    assert sorted(kept) == ["a certificate", *["access-tokens = a=b"] * 2]
    assert not (sent / "nix.conf").exists()
    assert not (sent / "ca.crt").exists()


def test_what_nobody_has_named_is_in_no_folder_that_an_evaluation_sees(
    who: Caller, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """run.sh sends lists, and bills of materials of earlier images, by itself."""
    monkeypatch.setattr(uploads, "WORK", tmp_path / "work")
    sent = uploads.input_folder(who)
    (sent / ".earlier").mkdir(parents=True)
    (sent / ".earlier/a.img.cdx.json").write_text("{}")
    (sent / ".earlier/b.img.cdx.json").symlink_to("/etc/passwd")
    (sent / ".delivered").mkdir()
    for name in (".kept", ".commits", ".trees"):
        (sent / name).write_text("a\0")
    (sent / "mine").write_text("")
    uploads.take_lists(who)
    assert [one.name for one in sent.iterdir()] == ["mine"]
    assert uploads.list_folder(who).stat().st_mode & 0o777 == 0o700
    assert not uploads.list_folder(who).is_relative_to(sent)
    assert not keys_of(who, "ada").is_relative_to(sent)
    assert uploads.kept(who) == {"a"}
    uploads.keep_earlier(who, tmp_path / "bills")
    assert uploads.earlier_bills(tmp_path / "bills") == (tmp_path / "bills/a.img.cdx.json",)


def test_without_late_values_nobody_waits_for_any(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    assert not made(BUILD, who, tmp_path)[0].late


def test_nixs_own_file_is_kept_beside_the_task(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    asked = NixOptions(nix_conf="/secret", cores=3)
    _task, work = made(dataclasses.replace(BUILD, nix_options=asked), who, tmp_path)
    assert work.nix_options == NixOptions(cores=3)
    assert [path.read_text() for path in (tmp_path / "own").iterdir()] == ["s"]


def test_one_key_may_be_that_of_a_builder_of_a_push_and_a_late_value(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    sign_key = "me-1:" + base64.b64encode(bytes(64)).decode()
    (sent / "k").write_text("a key")
    (sent / "sign").write_text(sign_key)
    request = dataclasses.replace(
        BUILD,
        builders=(Builder("ssh-ng://h", ("aarch64-linux",), "/k"),),
        push=Push("https://h", "/sign", "/k"),
        image=ImageOptions(injections=(Injection("/k", "/k", 0o600),)),
    )
    made(request, who, tmp_path)
    assert not (sent / "k").exists()  # an evaluation may read this folder
    assert not (sent / "sign").exists()
    workspace = Workspace(tmp_path / "shared", tmp_path / "own")
    assert [one.secret for one in read_keyed(workspace.builders.read_text())] == ["a key"]
    assert (workspace.keys / CREDENTIALS).read_text() == "a key"
    assert (workspace.keys / SIGN_KEY).stat().st_mode & 0o777 == 0o600
    assert [one.read_text() for one in workspace.late.iterdir()] == ["a key"]


def test_a_secret_in_a_folder_that_nix_sees_is_taken_out_of_it(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    (sent / "me/my machines/key").write_text("s")
    twice = (
        Injection("/me/my machines/key", "/a", 0o600),
        Injection("/me/my machines/key", "/b", 0o600),
    )
    request = dataclasses.replace(
        BUILD,
        configuration=None,
        flake=P("/me/my machines/pi"),
        attribute="pi",
        image=ImageOptions(injections=twice),
    )
    task, work = made(request, who, tmp_path)
    assert not (sent / "me/my machines/key").exists()
    places = {one.source for one in task.options.injections}
    assert len(places) == 1
    assert (tmp_path / "own/late" / pathlib.Path(places.pop()).name).read_text() == "s"
    assert "my%20machines" in work.flake


def test_a_folder_is_its_default_nix_and_a_flakes_file_its_folder(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    (sent / "n/default.nix").write_text("{ }\n")
    (sent / "n/flake.nix").write_text("{ }\n")
    folder = dataclasses.replace(BUILD, configuration=P("/n"))
    assert made(folder, who, tmp_path)[1].configuration == f"{sent}/n/default.nix"
    file = dataclasses.replace(BUILD, configuration=None, flake=P("/n/flake.nix"), attribute="pi")
    assert made(file, who, tmp_path)[1].flake == f"path:{sent}/n"


def test_a_placeholder_ends_the_run_unless_nobody_need_log_in(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    (sent / "checkout/config/sd-card.nix").write_text('"ssh-ed25519 ... you@example.org"\n')
    with pytest.raises(UsageError, match=r"/checkout/config/sd-card.nix:1: the SSH key"):
        made(BUILD, who, tmp_path)
    made(dataclasses.replace(BUILD, allow_no_login=True), who, tmp_path)


def test_a_format_of_ones_own_has_the_files_name(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    request = dataclasses.replace(BUILD, format_paths=(P("/n/mine.nix"),))
    _task, work = made(request, who, tmp_path)
    assert (work.formats, work.format_paths) == (
        ("sd-aarch64", "mine"),
        {"mine": f"{sent}/n/mine.nix"},
    )


def test_a_format_finds_the_library_beside_its_folder(
    sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    for name in ("own", "none", "n"):
        (sent / name / "formats").mkdir(parents=True)
    (sent / "own/lib.nix").write_text("theirs")
    sent_whole = "/own/formats\0/none/formats\0/n\0"
    (sent / uploads.TREES).write_text(f"/checkout\0{sent_whole}")
    formats = [P(f"/{name}/formats/a{name}.nix") for name in ("own", "none", "n")]
    made(dataclasses.replace(BUILD, format_paths=tuple(formats)), who, tmp_path)
    assert (sent / "own/lib.nix").read_text() == "theirs"
    assert "maybe" in (sent / "none/lib.nix").read_text()
    assert not (sent / "n/lib.nix").exists(), "a folder that was sent gets no file of ours"


# --- what the configuration is told of late values ----------------------------------------------


def test_the_configuration_knows_which_late_values_there_are_not_what_they_are() -> None:
    devices = [Device("alpha", "ssh-ed25519 AAAA", "me", "net", "correct horse"), Device("beta")]
    options = ImageOptions(stamp="/x", injections=(Injection("/secret", "/etc/key", 0o600),))
    assert late_files.late_facts(options, devices) == {
        "hostName": True,
        "keyUsers": ["me"],
        "everyDeviceHasKey": False,
        "wifi": True,
        "identity": False,
        "injected": ["/etc/key"],
    }
    assert late_files.late_facts(ImageOptions(), [Device()]) == {}
    told = late_files.late_facts(ImageOptions(), [Device("a", "ssh-ed25519 AAAA")])
    assert told["everyDeviceHasKey"]
    assert told["keyUsers"] == ["root"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("wifi_password_file", "short", "--wifi-password-file: wifi_password must have 8 to 63"),
        ("wifi_password_file", "\n", "--wifi-password-file: the file is empty"),
        ("stamp", "host\na\na\n", "--stamp: line 3: host is repeated"),
    ],
)
def test_a_mistake_in_a_late_file_is_told_before_the_build(
    name: str, text: str, message: str, sent: pathlib.Path, who: Caller, tmp_path: pathlib.Path
) -> None:
    (sent / "late").write_text(text)
    named: dict[str, typing.Any] = {name: "/late"}
    named |= {"wifi_ssid": "net"} if name != "stamp" else {}
    with pytest.raises(UsageError, match=f"^{message}"):
        made(dataclasses.replace(BUILD, image=ImageOptions(**named)), who, tmp_path)
