"""What is copied to a binary cache, for the agent `push` (`agents/builder/push.py`)."""

import base64
import dataclasses
import pathlib
import re
import typing

#: `copy`: copy store paths to a cache; `key`: make a key for this engine's own cache; `info`: tell
#: what that has.
Action = typing.Literal["copy", "key", "info"]

#: Address of this engine's own cache, which `./run.sh cache serve` serves, and its folder. It is on
#: the store's volume: who may write to the one may write to the other, and signatures protect both.
OWN = "file:"
OWN_FOLDER = pathlib.Path("/nix/var/nixos-image/cache")

#: Folder in a run's folder: root's, until the agent `push` may read the keys in it. Their names.
KEYS = "push"
SIGN_KEY = "sign-key"
CREDENTIALS = "credentials"

#: Name of the key of this engine's own cache.
KEY_NAME = "nixos-image"


@dataclasses.dataclass(frozen=True)
class Push:
    """Where to copy a run's results: `url` of a binary cache, or `OWN`.

    `sign_key` and `credentials` are paths on the caller's host, or empty.
    """

    url: str
    sign_key: str = ""
    credentials: str = ""

    @property
    def files(self) -> dict[str, str]:
        """Paths of the given files, by command line option."""
        named = {"--sign-key": self.sign_key, "--push-credentials": self.credentials}
        return {option: path for option, path in named.items() if path}


@dataclasses.dataclass(frozen=True)
class Order:
    """One call of the agent: copy the closures of store `paths` to `url`.

    Without paths, all recent results are copied.
    """

    action: Action
    url: str = ""
    paths: tuple[str, ...] = ()


def public_key(secret: bytes) -> str:
    """Return the public key, NAME:BASE64, of a secret one; raises `ValueError`.

    A secret key has the public one as its second half (Ed25519: 32 bytes each).
    """
    name, _, text = secret.decode("ascii").strip().partition(":")
    both = base64.b64decode(text, validate=True)
    if not re.fullmatch(r"[\w.+-]+", name) or len(both) != 64:
        raise ValueError("not a secret key of Nix")
    return f"{name}:{base64.b64encode(both[32:]).decode()}"
