"""Tests sent files: links that lead out, placeholder keys, missing folders."""

import dataclasses
import os
import pathlib

import pytest

from orchestrator.ask import uploads
from orchestrator.ask.request import Caller
from orchestrator.shared.errors import DeliveryError, UsageError
from orchestrator.shared.task import Commit

P = pathlib.PurePosixPath


@pytest.fixture
def sent(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Make the received folder /home/me/machines."""
    folder = tmp_path / "input"
    monkeypatch.setattr(uploads, "input_folder", lambda _who: folder)
    monkeypatch.setattr(uploads, "list_folder", lambda _who: folder)
    tree = folder / "home/me/machines"
    (tree / "hosts").mkdir(parents=True)
    (tree / "hosts/pi.nix").write_text("{ }\n")
    (folder / uploads.TREES).write_text("/home/me/machines\0")
    return tree


def test_links_inside_are_kept_and_lead_where_they_led(sent: pathlib.Path, who: Caller) -> None:
    (sent / "relative").symlink_to("hosts/../hosts/pi.nix")
    (sent / "absolute").symlink_to("/home/me/machines/hosts/pi.nix")
    (sent / "dangling").symlink_to("hosts/gone.nix")
    uploads.check_trees(who)
    assert (sent / "relative").read_text() == (sent / "absolute").read_text() == "{ }\n"
    assert (sent / "dangling").is_symlink()


@pytest.mark.parametrize(
    "target", ["/etc/passwd", "../../../etc", "hosts/../../x", "/home/me/machines/../other"]
)
def test_a_link_that_leads_out_is_refused_by_name(
    target: str, sent: pathlib.Path, who: Caller
) -> None:
    (sent / "hosts/escape.nix").symlink_to(target if target[0] == "/" else f"../{target}")
    with pytest.raises(UsageError, match=r"/home/me/machines/hosts/escape.nix: links to") as caught:
        uploads.check_trees(who)
    assert str(caught.value).endswith("is not sent with /home/me/machines")


def test_a_link_that_leads_out_through_another_is_refused(sent: pathlib.Path, who: Caller) -> None:
    (sent / "a/b").mkdir(parents=True)
    (sent / "near").symlink_to("a/b")
    (sent / "a/b/inner").symlink_to("../../near/../../../outside")
    with pytest.raises(UsageError, match="a/b/inner: links to"):
        uploads.check_trees(who)


def test_what_nix_build_leaves_behind_is_left_out(sent: pathlib.Path, who: Caller) -> None:
    (sent / "result").symlink_to("/nix/store/abc-x")
    uploads.check_trees(who)
    assert not (sent / "result").is_symlink()


def test_what_is_no_file_is_refused_by_name(sent: pathlib.Path, who: Caller) -> None:
    """Pipes, which block readers, and devices are refused."""
    os.mkfifo(sent / "hosts/pipe")
    with pytest.raises(UsageError, match=r"^/home/me/machines/hosts/pipe: is not a file"):
        uploads.check_trees(who)


def test_names_that_are_no_text_are_names(sent: pathlib.Path, who: Caller) -> None:
    name = os.fsdecode(b"a\n\xff\x1b")
    (sent / name).write_text("")
    uploads.check_trees(who)
    (sent / "link").symlink_to(f"/{name}")
    with pytest.raises(UsageError, match="link: links to"):
        uploads.check_trees(who)


def test_folders_are_named_with_a_zero_at_the_end(sent: pathlib.Path, who: Caller) -> None:
    """A name may contain other characters that Python counts as line ends."""
    names = ["/home/me/a\x0bb", "/home/me/\u2028", "/home/me/\udcff"]
    (sent.parents[2] / uploads.TREES).write_bytes(
        b"".join(os.fsencode(name) + b"\0" for name in names)
    )
    assert {f"/{tree.relative_to(sent.parents[2])}" for tree in uploads.trees(who)} == set(names)
    (sent.parents[2] / uploads.TREES).write_text("")
    assert uploads.trees(who) == ()


HEAD = "0123456789abcdef" * 2 + "01234567"


@pytest.mark.usefixtures("sent")
def test_a_commit_is_the_one_of_its_folder(who: Caller) -> None:
    here = uploads.input_folder(who)
    assert uploads.commit_of(who, here / "x y") is None
    words = ["/x", "a" * 40, "1", "2", "1", "1", "/x y", HEAD, "61", "5", "0", "0"]
    (here / uploads.COMMITS).write_text("".join(f"{word}\0" for word in words))
    assert uploads.commit_of(who, here / "x y") == Commit(HEAD, 61, 5, clean=False)
    assert uploads.commit_of(who, here / "x") == Commit("a" * 40, 1, 2, clean=True, submodules=True)
    assert uploads.commit_of(who, here / "z") is None


@pytest.mark.usefixtures("sent")
@pytest.mark.parametrize(
    "words",
    [["/x", "HEAD", "1", "1", "1", "0"], ["/x", HEAD, "-1", "1", "1", "0"], ["/x", HEAD], ["/x"]],
)
def test_what_is_no_commit_is_none(words: list[str], who: Caller) -> None:
    here = uploads.input_folder(who)
    (here / uploads.COMMITS).write_text("".join(f"{word}\0" for word in words))
    assert uploads.commit_of(who, here / "x") is None


def test_a_secret_behind_a_link_is_taken_itself(sent: pathlib.Path, who: Caller) -> None:
    """Nix copies the folder, so neither the link nor the secret file may stay in it."""
    (sent / "real").write_text("s")
    (sent / "link").symlink_to("real")
    kept = sent.parents[2] / "kept"
    places = {
        uploads.keep_late(who, P(f"/home/me/machines/{name}"), kept) for name in ("link", "real")
    }
    assert len(places) == 1
    assert [one.read_text() for one in kept.iterdir()] == ["s"]
    assert {pathlib.Path(place).name for place in places} == {one.name for one in kept.iterdir()}
    assert not (sent / "real").exists()


@pytest.mark.parametrize("target", ["/etc/hostname", f"{'../' * 20}etc/hostname", "gone"])
def test_a_secret_is_no_file_of_ours(target: str, sent: pathlib.Path, who: Caller) -> None:
    """If root followed the link, the builder would get a file of root's container."""
    (sent / "link").symlink_to(target)
    with pytest.raises(UsageError, match="was not sent"):
        uploads.keep_late(who, P("/home/me/machines/link"), sent.parents[2] / "kept")


def test_folders_that_did_not_arrive_are_told(sent: pathlib.Path, who: Caller) -> None:
    (sent.parents[2] / uploads.TREES).unlink()
    with pytest.raises(DeliveryError, match="not all of the caller's files") as caught:
        uploads.check_trees(who)
    assert "repeat the command" in caught.value.hint


def test_the_innermost_folder_is_the_one_that_a_path_is_in(who: Caller, sent: pathlib.Path) -> None:
    (sent.parents[2] / uploads.TREES).write_text("/home/me\0/home/me/machines\0/x\0")
    trees = uploads.trees(who)
    assert uploads.tree_of(sent / "hosts", trees) == sent
    assert uploads.tree_of(sent.parent / "other", trees) == sent.parent


@pytest.mark.parametrize("line", ['"ssh-ed25519 ... you@example.org"', '  "ecdsa-sha2  ..."'])
def test_a_placeholder_is_refused_with_its_line(line: str, sent: pathlib.Path, who: Caller) -> None:
    (sent / "hosts/pi.nix").write_text(f"{{\n  # keys\n{line}\n}}\n")
    with pytest.raises(UsageError, match=r"^/home/me/machines/hosts/pi.nix:3: the SSH key is"):
        uploads.check_keys(who, P("/home/me/machines/hosts/pi.nix"))


def test_who_has_no_configuration_is_told_of_init(sent: pathlib.Path, who: Caller) -> None:
    own = dataclasses.replace(who, root=P("/home/me/machines"))
    (sent / "config").mkdir()
    for name, hint in (("sd-card.nix", "./run.sh init writes"), ("x.nix", "insert your key")):
        (sent / "config" / name).write_text('"ssh-ed25519 ... you@example.org"')
        with pytest.raises(UsageError) as caught:
            uploads.check_keys(own, P(f"/home/me/machines/config/{name}"))
        assert (caught.value.hint or "").startswith(hint)


@pytest.mark.parametrize(
    "line", ['"ssh-ed25519 AAAAC3 me"', '# "ssh-ed25519 ... like this"', "ssh.settings = { ... };"]
)
def test_what_is_no_placeholder_is_not_taken_for_one(
    line: str, sent: pathlib.Path, who: Caller
) -> None:
    (sent / "hosts/pi.nix").write_text(f"{line}\r\n")
    uploads.check_keys(who, P("/home/me/machines/hosts/pi.nix"))


def test_a_configuration_that_git_ignores_is_told(sent: pathlib.Path, who: Caller) -> None:
    with pytest.raises(UsageError, match=r"/home/me/machines/my.nix was not sent") as caught:
        uploads.check_keys(who, P("/home/me/machines/my.nix"))
    assert "git does not ignore" in caught.value.hint
