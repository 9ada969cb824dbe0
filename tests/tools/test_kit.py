"""Tests what a kit carries of the store with the real Nix: keys, what a result is built of."""

import pathlib
import shutil
import tarfile
from collections.abc import Callable

import pytest

from orchestrator.agents.builder import collect, kit, push
from orchestrator.agents.failure import AgentError
from orchestrator.shared.kit import STORE, KitOrder
from orchestrator.shared.push import KEYS, SIGN_KEY, Order, public_key
from tests.tools.nix_store import add, run

pytestmark = [pytest.mark.own_store, pytest.mark.needs("nix")]

CONFIG = "experimental-features = nix-command\nbuild-users-group =\nsandbox = false\n"

#: A public key that has signed nothing.
OTHER = f"nixos-image:{'A' * 43}="


@pytest.fixture
def shared(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> pathlib.Path:
    """Return a run's folder with a key."""
    monkeypatch.setenv("NIX_CONFIG", CONFIG)
    monkeypatch.setattr(collect, "KIT_ROOTS", tmp_path / "kit-roots")
    monkeypatch.setattr(collect, "ROOTS", tmp_path / "roots")
    folder = tmp_path / "shared"
    (folder / KEYS).mkdir(parents=True)
    push.make_key(Order("key"), folder / KEYS)
    return folder


def built(name: str, text: str, needs: str = "") -> str:
    """Build a store path with `text`, of a file of the store `needs`."""
    more = f" needs = builtins.storePath {needs};" if needs else ""
    made = (
        f'derivation {{ name = "{name}"; system = builtins.currentSystem; builder = "/bin/sh";'
        f' args = [ "-c" "echo {text} > $out" ];{more} }}'
    )
    return run("nix-build", "--no-out-link", "--expr", made, NIX_CONFIG=CONFIG)


def forget(path: str) -> None:
    run("nix-store", "--delete", "--ignore-liveness", path)
    assert not pathlib.Path(path).exists()


def test_what_is_packed_is_unpacked_by_its_key_and_kept(shared: pathlib.Path) -> None:
    path = built("thing", str(shared))
    kit.pack(KitOrder("pack", paths=(path,)), shared)
    key = public_key((shared / KEYS / SIGN_KEY).read_bytes())
    forget(path)
    with pytest.raises(AgentError, match="signature") as error:
        kit.unpack(KitOrder("unpack", key=OTHER), shared)
    assert error.value.kind == "verification"
    assert not pathlib.Path(path).exists()
    kit.unpack(KitOrder("unpack", key=key), shared)
    assert pathlib.Path(path).read_text() == f"{shared}\n"
    assert [str(root.readlink()) for root in collect.kit_roots()] == [path]
    assert {one.name for one in shared.iterdir()} == {KEYS, STORE}


def test_what_its_hash_fixes_needs_no_key(shared: pathlib.Path) -> None:
    file = shared.parent / "file"
    file.write_text(str(shared))
    path = add(file)
    kit.pack(KitOrder("pack", paths=(path,)), shared)
    forget(path)
    kit.unpack(KitOrder("unpack", key=OTHER), shared)
    assert pathlib.Path(path).read_text() == str(shared)


def test_other_content_under_a_fixed_hash_is_refused(shared: pathlib.Path) -> None:
    file = shared.parent / "file"
    file.write_text(f"{shared} good")
    good = add(file)
    kit.pack(KitOrder("pack", paths=(good,)), shared)
    file.write_text(f"{shared} evil")
    evil = add(file)
    place = shared.parent / "cache"
    place.mkdir()
    with (shared / STORE).open("rb") as packed:
        kit.extract(packed, place)
    shutil.rmtree(place / "nar")
    run("nix", "copy", "--to", f"file://{place}?compression=none", evil, NIX_CONFIG=CONFIG)
    (entry,) = (one for one in place.glob("*.narinfo") if one.stem not in evil)
    (lie,) = (one for one in place.glob("*.narinfo") if one.stem in evil)
    entry.write_text(lie.read_text().replace(evil, good))
    lie.unlink()
    forget(good)
    with tarfile.open(shared / STORE, "w") as packed_again:
        for one in place.rglob("*"):
            if one.is_file():
                packed_again.add(one, one.relative_to(place))
    with pytest.raises(AgentError, match="refused"):
        kit.unpack(KitOrder("unpack", key=OTHER), shared)
    assert not pathlib.Path(good).exists()


@pytest.mark.parametrize("name", [lambda path: path.name, str], ids=["by name", "by path"])
def test_a_result_comes_with_what_it_was_built_of(
    name: Callable[[pathlib.Path], str], shared: pathlib.Path
) -> None:
    tool = built("tool", str(shared))
    result = built("result", f"{shared} result", needs=tool)
    collect.keep([pathlib.Path(result)])
    kit.pack(KitOrder("pack", results=(name(pathlib.Path(result)),)), shared)
    deriver = run("nix-store", "--query", "--deriver", result)
    for path in (result, deriver, tool):
        forget(path)
    kit.unpack(KitOrder("unpack", key=public_key((shared / KEYS / SIGN_KEY).read_bytes())), shared)
    assert pathlib.Path(result).exists()
    assert pathlib.Path(tool).exists()


def test_a_result_that_is_not_there_is_named(shared: pathlib.Path) -> None:
    collect.keep([pathlib.Path(built("result", f"{shared} there"))])
    for order in (kit.inputs, kit.pack):  # it is told before anything is fetched
        with pytest.raises(AgentError, match=r"--with evil: .* \(there are: .*result"):
            order(KitOrder("pack", results=("evil",)), shared)
