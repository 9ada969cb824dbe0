"""nix/sshd.nix judges a configured sshd as OpenSSH's own sshd does (`sshd -T`), user by user.

    NIXPKGS=FOLDER pytest tests/nixos/sshd.py

It needs Nix, sshd, and of nixpkgs only its library.
"""

import json
import os
import pathlib
import shutil
import subprocess

import pytest

ROOT = pathlib.Path(__file__).parents[2]
NIXPKGS = os.environ.get("NIXPKGS", "")

pytestmark = [
    pytest.mark.skipif(not NIXPKGS, reason="NIXPKGS names no tree with a library"),
    pytest.mark.needs("nix", "sshd", "ssh-keygen"),
]

#: Users that every system has, with their groups: sshd looks groups up.
USERS = {"root": "root", "daemon": "daemon"}

#: services.openssh.settings, and extraConfig, that shut out some users or none.
CASES: list[tuple[dict[str, object], str]] = [
    ({}, ""),
    ({"PubkeyAuthentication": False}, ""),
    ({}, "pubkeyauthentication=no # none"),
    ({"PubkeyAuthentication": True}, "PubkeyAuthentication no"),
    ({"PubkeyAuthentication": False}, "Match User daemon\n PubkeyAuthentication yes"),
    ({}, "Match User daemon\n PubkeyAuthentication no\nMatch User d*\n PubkeyAuthentication yes"),
    ({}, "Match User !daemon,*\n\tPubkeyAuthentication no\n"),
    ({}, "Match User !d?emon,*\n\tPubkeyAuthentication no\n"),
    ({}, "Match User *.*,r??t\n\tPubkeyAuthentication no\n"),
    ({}, "Match Group root User root\n PubkeyAuthentication no"),
    ({}, "Match Group root User daemon\n PubkeyAuthentication no"),
    ({}, "Match All\n PermitRootLogin no"),
    ({"PermitRootLogin": "no"}, "Match User=root\n PermitRootLogin=prohibit-password"),
    ({"AllowUsers": ["root"]}, ""),
    ({"AllowUsers": ["root"]}, "AllowUsers daemon"),
    ({"AllowUsers": ["root"]}, "Match User daemon\n AllowUsers daemon"),
    ({"DenyUsers": ["root", "daemon"]}, ""),
    ({"AllowGroups": ["daemon"]}, ""),
    ({"DenyGroups": ["daemon"]}, "# DenyGroups root"),
    ({}, 'AuthenticationMethods "publickey,password" "publickey"'),
    ({}, "AuthenticationMethods publickey,password"),
    ({}, "Match User daemon\n AuthenticationMethods password"),
    ({}, "Match User root\n AuthorizedKeysFile none"),
]


def ours(settings: dict[str, object], extra: str) -> dict[str, bool]:
    """Whom nix/sshd.nix says that sshd takes a key of."""
    users = "".join(f'{name} = {{ group = "{group}"; }}; ' for name, group in USERS.items())
    given = {"enable": True, "settings": settings, "extraConfig": extra}
    expression = f"""
      let
        lib = import {NIXPKGS}/lib;
        given = builtins.fromJSON {json.dumps(json.dumps(given))};
        sshd = import {ROOT}/nix/sshd.nix {{ inherit lib; config = {{
          services.openssh = given;
          users = {{ users = {{ {users} }}; groups = {{ }}; }};
        }}; }};
      in
      lib.genAttrs (lib.attrNames {{ {users} }})
        (name: sshd.refusal name == "" && sshd.readsKeys name "/keys/%u")
    """
    words = ["nix", "--extra-experimental-features", "nix-command", "eval", "--impure", "--json"]
    text = subprocess.run([*words, "--expr", expression], stdout=subprocess.PIPE, check=True).stdout
    result: dict[str, bool] = json.loads(text)
    return result


def rendered(settings: dict[str, object]) -> list[str]:
    """The lines of the settings, as NixOS writes them."""
    words = {True: "yes", False: "no"}
    return [
        f"{name} {' '.join(value) if isinstance(value, list) else words.get(value, value)}"  # type: ignore[call-overload]
        for name, value in settings.items()
    ]


def theirs(settings: dict[str, object], extra: str, folder: pathlib.Path) -> dict[str, bool]:
    """Whom sshd's own settings for each user let in with a key."""
    key, file = folder / "key", folder / "sshd_config"
    if not key.exists():
        subprocess.run(["ssh-keygen", "-q", "-N", "", "-t", "ed25519", "-f", key], check=True)
    file.write_text("\n".join([*rendered(settings), extra, ""]))
    found = {}
    for user, group in USERS.items():
        words = [shutil.which("sshd") or "", "-T", "-f", str(file), "-h", str(key), "-C"]
        words.append(f"user={user},host=h,addr=1.1.1.1")
        done = subprocess.run(words, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        values: dict[str, list[str]] = {}
        for line in done.stdout.splitlines():
            keyword, _, value = line.partition(" ")
            values.setdefault(keyword, []).append(value)

        def lets(keyword: str, name: str, values: dict[str, list[str]] = values) -> bool:
            return keyword not in values or name in values[keyword]

        methods = values.get("authenticationmethods", ["any"])[0].split()
        found[user] = (
            values["pubkeyauthentication"] == ["yes"]
            and (user != "root" or values["permitrootlogin"] != ["no"])
            and lets("allowusers", user)
            and lets("allowgroups", group)
            and user not in values.get("denyusers", [])
            and group not in values.get("denygroups", [])
            and bool({"any", "publickey"} & set(methods))
            and values["authorizedkeysfile"] != ["none"]
        )
    return found


@pytest.mark.parametrize(("settings", "extra"), CASES)
def test_sshd_agrees(settings: dict[str, object], extra: str, tmp_path: pathlib.Path) -> None:
    # As NixOS does, before what the configuration adds.
    extra = f"AuthorizedKeysFile /keys/%u\n{extra}"
    assert ours(settings, extra) == theirs(settings, extra, tmp_path)
