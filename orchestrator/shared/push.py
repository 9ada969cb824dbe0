"""What is copied to a binary cache, for the agent `push` (`agents/builder/push.py`)."""

import base64
import configparser
import dataclasses
import pathlib
import re
import typing
import urllib.parse

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
CA_BUNDLE = "ca-bundle.crt"

#: Setting of an ssh-ng: URL with the machine's host key, in Base64 (nix help-stores).
HOST_KEY = "base64-ssh-public-host-key"


@dataclasses.dataclass(frozen=True)
class Kind:
    """A kind of store that `nix copy` writes to: what `--push-credentials` names, and settings.

    `settings` are those of its URL that may be given; None allows all but `FORBIDDEN`.
    """

    credentials: str
    needed: bool
    settings: frozenset[str] | None = None


#: Kinds of targets by the URL's scheme.
KINDS = {
    "http": Kind("a netrc(5) file", False),
    "https": Kind("a netrc(5) file", False),
    "s3": Kind(
        "an AWS credentials file (aws_access_key_id, aws_secret_access_key)",
        True,
        frozenset({"region", "endpoint", "scheme", "profile", "compression"}),
    ),
    "ssh-ng": Kind("a private SSH key", True, frozenset({HOST_KEY})),
}

#: Settings of Nix' store URLs that are secrets or name files, which the builder does not have.
FORBIDDEN = frozenset({"secret-key", "secret-keys", "local-nar-cache"})

#: Names of S3's buckets.
BUCKET = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")

#: Section of an AWS credentials file where a bucket's URL names none: AWS' own default.
PROFILE = "default"

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

    @property
    def stranger(self) -> str:
        """The address of a machine whose host key the URL does not have; "" for another target."""
        machine = urllib.parse.urlsplit(self.url).scheme == "ssh-ng"
        known = settings(self.url).get(HOST_KEY)
        return self.url.partition("?")[0] if machine and not known else ""


@dataclasses.dataclass(frozen=True)
class Order:
    """One call of the agent: copy the closures of store `paths` to `url`.

    Without paths, all recent results are copied.
    """

    action: Action
    url: str = ""
    paths: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class AwsKeys:
    """Credentials of S3, as a section of an AWS credentials file has them."""

    key_id: str
    secret: str
    token: str


def aws_keys(text: str, url: str) -> AwsKeys:
    """Read the section of an AWS credentials file that the bucket's URL names, or `PROFILE`.

    Raises `ValueError`.
    """
    profile = settings(url).get("profile", PROFILE)
    parser = configparser.RawConfigParser()
    try:
        parser.read_string(text)
        section = parser[profile]
    except configparser.Error:
        raise ValueError("it is no AWS credentials file") from None
    except KeyError as error:
        raise ValueError(f"it has no {error.args[0]}") from None
    for name in ("aws_access_key_id", "aws_secret_access_key"):
        if not section.get(name):  # an empty one signs nothing
            raise ValueError(f"it has no {name}")
    return AwsKeys(
        section["aws_access_key_id"],
        section["aws_secret_access_key"],
        section.get("aws_session_token", ""),
    )


def settings(url: str) -> dict[str, str]:
    """Return the settings in the URL of a store."""
    return dict(urllib.parse.parse_qsl(urllib.parse.urlsplit(url).query, keep_blank_values=True))


def public_key(secret: bytes) -> str:
    """Return the public key, NAME:BASE64, of a secret one; raises `ValueError`.

    A secret key has the public one as its second half (Ed25519: 32 bytes each).
    """
    name, _, text = secret.decode("ascii").strip().partition(":")
    both = base64.b64decode(text, validate=True)
    if not re.fullmatch(r"[\w.+-]+", name) or len(both) != 64:
        raise ValueError("not a secret key of Nix")
    return f"{name}:{base64.b64encode(both[32:]).decode()}"
