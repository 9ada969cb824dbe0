"""Moves the keys that run.sh has sent, of --push, of builders and --nix-conf, to private places."""

import os
import pathlib
import shutil
import urllib.parse

from orchestrator.ask.request import Build, Caller, Demo
from orchestrator.ask.uploads import received, received_file
from orchestrator.docker.workspace import Workspace
from orchestrator.shared import command
from orchestrator.shared.builders import Keyed, write_keyed
from orchestrator.shared.errors import UsageError
from orchestrator.shared.push import (
    CA_BUNDLE,
    CREDENTIALS,
    KINDS,
    SIGN_KEY,
    Push,
    aws_keys,
    public_key,
)


def take_keys(request: Demo | Build, who: Caller, place: pathlib.Path) -> None:
    """Copy the keys of --push to the folder `place`; raises `UsageError` for a wrong one."""
    push = request.push
    if not push or not push.files:
        return
    place.mkdir()
    for name, path in ((SIGN_KEY, push.sign_key), (CREDENTIALS, push.credentials)):
        if path:
            (place / name).touch(mode=0o600)
            shutil.copyfile(received_file(who, pathlib.PurePosixPath(path)), place / name)
    try:
        public_key((place / SIGN_KEY).read_bytes())
    except ValueError:
        raise UsageError(
            f"--sign-key {push.sign_key}: not a secret key of Nix",
            hint="nix key generate-secret --key-name NAME makes one",
        ) from None
    if push.credentials:
        check_credentials(push, place / CREDENTIALS)
    if who.ca_bundle:
        bundle = received(who, pathlib.PurePosixPath(who.ca_bundle))
        (place / CA_BUNDLE).write_bytes(bundle.read_bytes())


def check_credentials(push: Push, file: pathlib.Path) -> None:
    """Raise `UsageError` unless `file` has what the target of --push asks for."""
    scheme = urllib.parse.urlsplit(push.url).scheme
    wrong = ""
    if scheme == "s3":
        try:
            aws_keys(file.read_text(errors="replace"), push.url)
        except ValueError as error:
            wrong = str(error)
    elif scheme == "ssh-ng":
        file.chmod(0o600)  # ssh-keygen takes no key that others may read
        done = command.run(["ssh-keygen", "-y", "-P", "", "-f", file], check=False)
        wrong = "" if done.code == 0 else "it is no private key, or has a passphrase"
    if wrong:
        raise UsageError(
            f"--push-credentials {push.credentials}: {wrong}",
            hint=f"{scheme}: takes {KINDS[scheme].credentials}",
        )


def keep_builders(request: Demo | Build, who: Caller, workspace: Workspace) -> None:
    """Copy the builders' SSH keys, which run.sh has sent, to the private folder of `workspace`."""
    if request.dry_run or not request.builders:
        return
    secrets: dict[str, str] = {}
    for key in dict.fromkeys(one.key for one in request.builders):
        source = received_file(who, pathlib.PurePosixPath(key))
        secrets[key] = source.read_text(errors="replace")
    keyed = tuple(Keyed(one, secrets[one.key]) for one in request.builders)
    workspace.builders.touch(mode=0o600)
    workspace.builders.write_text(write_keyed(keyed))


def key_paths(request: Demo | Build) -> set[str]:
    """Return the paths of the keys of --push and of builders that this run uses, and --nix-conf."""
    pushed = request.push.files.values() if request.push else ()
    builders = () if request.dry_run else (one.key for one in request.builders)
    conf = request.nix_options.nix_conf if isinstance(request, Build) else ""
    return {*pushed, *builders, *([conf] if conf else [])}


def forget_keys(request: Demo | Build, who: Caller) -> None:
    """Remove the keys and --nix-conf, which `make_task` has copied.

    They must be in no folder that an evaluation may read. One file may be several keys, and a late
    value, which is moved away.
    """
    for path in key_paths(request):
        sent = os.path.realpath(received(who, pathlib.PurePosixPath(path)))
        pathlib.Path(sent).unlink(missing_ok=True)
