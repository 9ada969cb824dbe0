"""Runs `./run.sh doctor` on computers without a usable Docker; looks for secrets in its archive."""

import dataclasses
import json
import pathlib
import subprocess
import tarfile

import pytest

from orchestrator.shared.rules import RULES, Finding, State, sorted_findings, summary

ROOT = pathlib.Path(__file__).parents[2]

pytestmark = pytest.mark.needs("dash", "bash", "busybox", "tar", "gzip")

EVERY_SHELL = pytest.mark.parametrize("shell", ["dash", "bash --posix", "busybox sh"])

#: Secrets that a computer may have where the archive looks; each is planted in some place below.
SECRETS = {
    "token": "ghp_0123456789abcdefABCDEF",
    "variable": "swordfish",
    "proxy": "Pr0xyPass",
    "wifi": "correct horse battery",
    "inline": "hunter2hunter2",
    "hash": "$6$saltsalt$abcdefghijk./0123456789",
    "key": "b3BlbnNzaC1rZXktdjEAAAAABG5vbmUAAAAEbm9uZQ",
    "keyed": "AKIAIOSFODNN7EXAMPLE",
    "netrc": "n3trcword",
    "nix": "n1xAccess",
    "docker": "ZG9ja2VyOnBhc3M=",
    "jwt": "eyJhbGciOi.eyJzdWIi.SflKxwRJ",
    "bearer": "mF_9.B5f-4.1JqM",
    "home": "grace-hopper",
    "mail": "grace@navy.example",
    "ssid": "Amazing Grace",
    "json": 'quo\\"ted-secret',
    "flag": "argument-of-a-flag",
    "public": "AAAAC3NzaC1lZDI1NTE5AAAAIGrace",
    "mac": "52:54:00:ab:cd:ef",
    "address": "onlyInAnAddress",
    "bare key": "b3BlbnNzaC1rZXktdjEAAAAABare",
    "bare bearer": "bareBearer7",
    "bare hash": "$y$j9T$bareHash7",
    "bare mail": "bare@mail.example",
    "another": "lovelace",
    "@ in an address": "word-behind-an-at",
    "signed address": "sig9Signature",
    "bucket": "bucketSignature9",
    "webhook": "webhookPath9",
    "bot": "123456789:AAbotToken9",
    "netrc line": "netrcLine9",
    "login": "loginWord9",
    "header": "apiHeader9",
    "account": "accountKey9",
    "lines of TOML": "toml-lines-9",
    "lines of Nix": "nix-lines-9",
    "lines of YAML": "yaml-lines-9",
    "a list": "list-lines-9",
    "Nix": "nix-quoted-9",
    "shell": "shell-goes-on-9",
    "WireGuard": "wireguard-9",
    "short name": "short-name-9",
    "option": "option-word-9",
    "curl": "curl-login-9",
}


@dataclasses.dataclass
class Computer:
    """A computer with the programs of this one, but with the test's docker, or none."""

    folder: pathlib.Path
    shell: str = "dash"

    def __post_init__(self) -> None:
        (self.folder / "bin").mkdir()
        (self.home).mkdir(parents=True)
        (self.folder / "work").mkdir()
        for place in ("/usr/local/bin", "/usr/bin", "/bin"):
            for program in pathlib.Path(place).iterdir():
                link = self.folder / "bin" / program.name
                if not program.name.startswith("docker") and not link.is_symlink():
                    link.symlink_to(program)

    @property
    def home(self) -> pathlib.Path:
        return self.folder / "home" / SECRETS["home"]

    @property
    def work(self) -> pathlib.Path:
        return self.folder / "work"

    def docker(self, script: str) -> None:
        """Install a program docker."""
        path = self.folder / "bin/docker"
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)

    def doctor(self, *words: str, **variables: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self.shell.split(), ROOT / "run.sh", "doctor", *words],
            cwd=self.work,
            env={"PATH": f"{self.folder}/bin", "HOME": str(self.home), **variables},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )

    def findings(self, *words: str, **variables: str) -> dict[str, dict[str, str]]:
        """Return the findings of `doctor --json` by rule."""
        document = json.loads(self.doctor("--json", *words, **variables).stdout)
        return {one["rule"]: one for one in document["findings"]}


@pytest.fixture
def computer(tmp_path: pathlib.Path) -> Computer:
    return Computer(tmp_path)


@pytest.mark.parametrize(
    ("script", "rule", "found"),
    [
        ("", "docker-client", "docker is not installed"),
        ("echo permission denied >&2; exit 1", "docker-permission", "no permission to use Docker"),
        (
            "echo Cannot connect >&2; exit 1",
            "docker-engine",
            "Docker is installed, but not running",
        ),
        ("echo windows", "docker-linux", "Docker runs Windows containers"),
        ("echo what >&2; exit 1", "docker-engine", "docker version failed: what"),
        (
            "case $1 in version) echo linux ;; image) ;; *) exit 1 ;; esac",
            "start",
            "Docker does not print the id of nixos-image-base",
        ),
    ],
)
@EVERY_SHELL
def test_without_docker_it_says_what_it_can(
    computer: Computer, shell: str, script: str, rule: str, found: str
) -> None:
    computer.shell = shell
    if script:
        computer.docker(script)
    outcome = computer.doctor("--json")
    document = json.loads(outcome.stdout)
    findings = {one["rule"]: one for one in document["findings"]}
    assert outcome.returncode == 3, outcome.stderr
    assert document["state"] == findings[rule]["state"] == "fails"
    assert findings[rule]["found"].startswith(found)
    assert findings[rule]["needed"] == RULES[rule].needed
    assert f"error: {found}" in outcome.stderr
    assert rule == "start" or f"try: {findings[rule]['remedy']}" in outcome.stderr
    assert {"system", "kernel", "memory", "kvm", "output-folder"} <= findings.keys()


@EVERY_SHELL
def test_its_report_is_the_orchestrators_to_the_letter(computer: Computer, shell: str) -> None:
    computer.shell = shell
    words = {"https_proxy": "http://me:word@127.0.0.1:3128", "HTTPS_PROXY": "http://other:1"}
    document = json.loads(computer.doctor("--json", **words).stdout)
    states: dict[str, State] = {"ok": "ok", "warns": "warns", "fails": "fails"}
    found = [
        Finding(RULES[one["rule"]], states[one["state"]], one["found"])
        for one in document["findings"]
    ]
    assert {"ok", "warns", "fails"} == {one.state for one in found}
    assert found == sorted_findings(found)
    assert document["findings"] == [one.document() for one in found]
    text = "".join(f"{line}\n" for line in [*(one.describe() for one in found), summary(found)])
    outcome = computer.doctor(**words).stdout

    def steady(text: str) -> list[str]:  # free space changes meanwhile
        return [line for line in text.splitlines() if "MiB free" not in line]

    assert steady(outcome) == steady(text)
    assert "word" not in outcome


def test_what_is_wrong_with_this_computer_is_found(
    computer: Computer, tmp_path: pathlib.Path
) -> None:
    def state(rule: str, **variables: str) -> str:
        return computer.findings(**variables)[rule]["state"]

    assert state("proxy-loopback", http_proxy="http://localhost:8080") == "fails"
    assert state("proxy-loopback", http_proxy="http://[::1]:8080") == "fails"
    assert state("proxy-loopback", HTTP_PROXY="http://localhost.corp:8080") == "ok"
    assert state("proxy-case", http_proxy="http://a:1", HTTP_PROXY="http://b:1") == "warns"
    assert state("ca-bundle", SSL_CERT_FILE="/nowhere") == "fails"
    bundle = tmp_path / "bundle"
    bundle.write_text("nonsense\n")
    assert state("ca-bundle", SSL_CERT_FILE=str(bundle)) == "fails"
    bundle.write_text("-----BEGIN CERTIFICATE-----\n")
    assert state("ca-bundle", NIX_SSL_CERT_FILE=str(bundle)) == "ok"
    (computer.home / ".docker").mkdir()
    (computer.home / ".docker/config.json").write_text('{"credsStore": "desktop"}')
    assert state("docker-login") == "warns"
    (computer.work / "out").write_text("a file\n")
    assert state("output-folder") == "fails"
    df = computer.folder / "bin/df"
    df.unlink()
    df.write_text("#!/bin/sh\necho 'F 1 2 A U M'; echo '/dev/x y 9999999 1 10240 99% /'\n")
    df.chmod(0o755)
    assert state("disk-output") == state("disk-temporary") == "fails"


@pytest.mark.parametrize(
    ("release", "state"), [("4.4.0-19041-Microsoft", "fails"), ("5.15.1-microsoft-WSL2", "ok")]
)
def test_windows_is_told_apart(computer: Computer, release: str, state: str) -> None:
    uname = computer.folder / "bin/uname"
    uname.unlink()
    uname.write_text(
        f"#!/bin/sh\ncase $1 in -r) echo {release} ;; *) exec /usr/bin/uname $1 ;; esac\n"
    )
    uname.chmod(0o755)
    findings = computer.findings()
    assert findings["system"]["state"] == state
    assert findings["kernel"]["state"] == ("warns" if state == "ok" else "fails")


def plant(computer: Computer) -> dict[str, str]:
    """Put the secrets where the archive looks; return the environment."""
    work, home = computer.work, computer.home
    (work / "wifi.txt").write_text(f"{SECRETS['wifi']}\n")
    (work / "appliance.toml").write_text(
        f"""[wifi]
ssid = "{SECRETS["ssid"]}"
password-file = "wifi.txt"
[[users]]
name = "ada"
hashed-password = "{SECRETS["hash"]}"
keys = ["ssh-ed25519 {SECRETS["public"]} {SECRETS["mail"]}"]
"""
    )
    (home / ".netrc").write_text(f"machine x login me password {SECRETS['netrc']}\n")
    (home / ".config/nix").mkdir(parents=True)
    (home / ".config/nix/nix.conf").write_text(f"access-tokens = github.com={SECRETS['nix']}\n")
    (home / ".docker").mkdir()
    (home / ".docker/config.json").write_text(
        f'{{"auths":{{"x":{{"auth": "{SECRETS["docker"]}"}}}}}}'
    )
    (work / "out").mkdir()
    leaked = "\n".join(SECRETS[name] for name in ("wifi", "netrc", "nix", "docker", "variable"))
    (work / "out/build.log").write_text(
        f"""first line stays
{leaked}
cloning https://me:{SECRETS["proxy"]}@example.org/x
token {SECRETS["token"]} and {SECRETS["jwt"]} and {SECRETS["keyed"]} and mac {SECRETS["mac"]}
Authorization: Bearer {SECRETS["bearer"]}
building in {home}/src for {SECRETS["home"]}@host
-----BEGIN OPENSSH PRIVATE KEY-----
{SECRETS["key"]}
-----END OPENSSH PRIVATE KEY-----
psk={SECRETS["inline"]}
{{"a": 1, "password": "{SECRETS["inline"]}", "b": "stays, too"}}
{{"password": "{SECRETS["json"]}", "c": 2}}
--secret={SECRETS["flag"]}
password = \"\"\"
{SECRETS["lines of TOML"]}
\"\"\"
stays after TOML
  token = \'\'
    {SECRETS["lines of Nix"]}
  \'\';
stays after Nix
  secret: |
    {SECRETS["lines of YAML"]}
  stays: after YAML
tokens = [
  "{SECRETS["a list"]}",
]
psk = \'\'{SECRETS["Nix"]}\'\'; stays = 1;
password=\'a\'"{SECRETS["shell"]}"
PresharedKey = {SECRETS["WireGuard"]}
pass: {SECRETS["short name"]}
--wifi-password-file stays.txt --password {SECRETS["option"]} --stays
curl -u me:{SECRETS["curl"]} stays
from https://me:{SECRETS["address"]}@intranet/ with {SECRETS["bare key"]}
sent Bearer {SECRETS["bare bearer"]}
by http://me:p@{SECRETS["@ in an address"]}@proxy:3128 to
https://a.blob.example/x?sv=1&sig={SECRETS["signed address"]}
https://s3.example/k?X-Amz-Signature={SECRETS["bucket"]}
posting to https://hooks.slack.com/services/T0/B0/{SECRETS["webhook"]} and
https://api.telegram.org/bot{SECRETS["bot"]}/getMe
machine y login you password {SECRETS["netrc line"]}
docker login registry.example -u me -p {SECRETS["login"]}
x-api-key: {SECRETS["header"]}
AccountKey={SECRETS["account"]};EndpointSuffix=x
found {SECRETS["bare hash"]} of {SECRETS["bare mail"]} in /home/{SECRETS["another"]}/x
"""
    )
    return {
        "MY_TOKEN": SECRETS["variable"],
        "https_proxy": f"http://me:{SECRETS['proxy']}@proxy:3128",
        "PIP_INDEX_URL": "https://index.example/simple",
    }


@EVERY_SHELL
def test_the_archive_has_no_secret(computer: Computer, shell: str, tmp_path: pathlib.Path) -> None:
    computer.shell = shell
    computer.docker(f"echo Cannot connect, {SECRETS['variable']} >&2; exit 1")
    outcome = computer.doctor("--bundle", "b.tgz", **plant(computer))
    assert outcome.returncode == 3, outcome.stderr
    assert "b.tgz: read its files before you send it" in outcome.stderr
    with tarfile.open(computer.work / "b.tgz") as archive:
        archive.extractall(tmp_path / "there", filter="data")
    files = {one.name: one for one in (tmp_path / "there/nixos-image-doctor").iterdir()}
    expected = {"README.txt", "doctor.txt", "doctor.json", "version.txt", "environment.txt"}
    assert files.keys() >= expected | {"appliance.toml", "log-build.log", "docker-version.txt"}
    whole = "".join(path.read_text() for path in files.values())
    for name, secret in SECRETS.items():
        assert secret not in whole, name
    assert "hopper" not in whole
    assert "ted-secret" not in whole
    log = files["log-build.log"].read_text()
    assert log.startswith("first line stays\n")
    assert '"b": "stays, too"' in log
    assert '"c": 2' in log
    assert "building in ~/src" in log
    for word in (" after TOML", " after Nix", ": after YAML", " = 1;", ".txt --password", "\n"):
        assert f"stays{word}" in log
    assert 'name = "ada"' in files["appliance.toml"].read_text()
    assert json.loads(files["doctor.json"].read_text())["state"] == "fails"
    assert "Docker is installed, but not running" in files["doctor.txt"].read_text()
    assert oct((computer.work / "b.tgz").stat().st_mode)[-2:] in {"00", "44", "64"}


def test_no_link_is_followed(computer: Computer, tmp_path: pathlib.Path) -> None:
    """The checkout in the working directory may be another's: its links lead anywhere."""
    (computer.home / "notes").write_text("only-at-home")
    (computer.work / "out").mkdir()
    for name in ("appliance.toml", "out/build.log", "out/result.json"):
        (computer.work / name).symlink_to(computer.home / "notes")
    computer.doctor("--bundle", "b.tgz")
    with tarfile.open(computer.work / "b.tgz") as archive:
        archive.extractall(tmp_path / "there", filter="data")
    files = list((tmp_path / "there/nixos-image-doctor").iterdir())
    assert files
    assert not [path.name for path in files if "only-at-home" in path.read_text()]


def test_logs_and_lines_of_any_size_are_not_read_whole(
    computer: Computer, tmp_path: pathlib.Path
) -> None:
    """Of a log the last 1 MB is read; of a long line the archive tells the length alone."""
    (computer.work / "out").mkdir()
    with (computer.work / "out/huge.log").open("wb") as file:
        file.truncate(1 << 40)
    (computer.work / "out/long.log").write_text("first\n" + 'pw="" ' * 100_000 + "\nlast\n")
    rest = "x" * 99 + "\n"
    (computer.work / "out/cut.log").write_text(
        "api_key = hunter2hunter2\n" + rest * 9_999 + "y" * 86
    )
    computer.doctor("--bundle", "b.tgz")
    with tarfile.open(computer.work / "b.tgz") as archive:
        archive.extractall(tmp_path / "there", filter="data")
    there = tmp_path / "there/nixos-image-doctor"
    assert (there / "log-long.log").read_text() == "first\n[a line of 600000 letters]\nlast\n"
    assert (there / "log-huge.log").stat().st_size < 100
    assert "hunter2" not in (there / "log-cut.log").read_text()


def test_a_secret_that_would_stay_is_not_written(computer: Computer) -> None:
    """The archive is looked through once more: here, with a redaction that skips known secrets."""
    broken = computer.folder / "run"
    broken.mkdir()
    for name in (
        "run.sh",
        "caller",
        "orchestrator",
        "locks",
        "docs",
        "pyproject.toml",
        "flake.lock",
    ):
        (broken / name).symlink_to(ROOT / name)
    (broken / "caller").unlink()
    (broken / "caller").mkdir()
    for path in (ROOT / "caller").iterdir():
        text = path.read_text().replace("line = replaced(line, secrets[i], blank)", "line = line")
        (broken / "caller" / path.name).write_text(text)
    (broken / "run.sh").unlink()
    (broken / "run.sh").write_bytes((ROOT / "run.sh").read_bytes())
    outcome = subprocess.run(
        ["sh", broken / "run.sh", "doctor", "--bundle", "b.tgz"],
        cwd=computer.work,
        env={"PATH": f"{computer.folder}/bin", "HOME": str(computer.home), **plant(computer)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert outcome.returncode == 70, outcome.stderr
    assert "the archive would have a secret" in outcome.stderr
    assert not (computer.work / "b.tgz").exists()


@pytest.mark.parametrize(
    ("words", "name"),
    [
        (["--bundle"], "nixos-image-doctor-*.tar.gz"),
        (["--bundle", "--json"], "nixos-image-doctor-*.tar.gz"),
        (["--bundle=a b.tgz"], "a b.tgz"),
        (["--json", "--bundle", "c.tgz"], "c.tgz"),
    ],
)
def test_the_archive_has_its_name(computer: Computer, words: list[str], name: str) -> None:
    outcome = computer.doctor(*words)
    assert [path.name for path in computer.work.glob("*gz")] == [
        path.name for path in computer.work.glob(name)
    ]
    assert len(list(computer.work.iterdir())) == 1
    assert ("--json" in words) == outcome.stdout.startswith("{")


def test_no_file_is_replaced(computer: Computer) -> None:
    (computer.work / "b.tgz").write_text("mine")
    outcome = computer.doctor("--bundle", "b.tgz")
    assert outcome.returncode == 2
    assert "b.tgz exists: it is not replaced" in outcome.stderr
    assert (computer.work / "b.tgz").read_text() == "mine"
    assert computer.doctor("--bundle", "no/b.tgz").returncode == 2
    assert [path.name for path in computer.work.iterdir()] == ["b.tgz"]
