"""Tests that Compose, Dockerfiles, locks, run.sh and Python code agree."""

import ast
import json
import pathlib
import re
import tomllib
import typing

import pytest
import yaml

from orchestrator.agents.boot import qemu
from orchestrator.agents.emulation import lease
from orchestrator.decide.plan import SAME_IMAGE
from orchestrator.decide.plan import SERVICES as PLANNED
from orchestrator.docker.compose import IDS
from orchestrator.docker.images import IMAGES, inputs
from orchestrator.docker.labels import (
    LABEL,
    MAKER,
    PROJECT,
    RUN_LABEL,
    SOURCE_LABEL,
    STORE_VOLUME,
    work_volume,
)
from orchestrator.shared.architectures import DEBIAN_ARCHITECTURES
from orchestrator.shared.constants import BUILDER
from orchestrator.shared.filesystems import FILESYSTEMS
from orchestrator.shared.run import TOKEN_FILE, WORK
from orchestrator.shared.spec import SCHEMA

ROOT = pathlib.Path(__file__).parents[2]
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
CALLER = [ROOT / "run.sh", *sorted((ROOT / "caller").glob("*.sh"))]
RUN_SH = "".join(path.read_text() for path in CALLER)
DOCKERFILES = sorted(ROOT.glob("Dockerfile*"))


SERVICES: dict[str, dict[str, typing.Any]] = COMPOSE["services"]
EVERY_SERVICE = pytest.mark.parametrize("name", SERVICES)


def value(name: str, key: str) -> typing.Any:  # noqa: ANN401  # whatever YAML holds there
    """Return `key` of the service `name`, or of the service that it extends, or None."""
    service = SERVICES[name]
    if key not in service and "extends" in service:
        return value(service["extends"]["service"], key)
    return service.get(key)


def test_the_services_are_known() -> None:
    planned = {name for services in PLANNED.values() for name in services}
    assert SERVICES.keys() == planned | {
        "boot",
        "boot-kvm",
        "debug",
        "look",
        "pins",
        "probe",
        "push",
        "restock",
        "stock",
        "survey",
        "sweep",
        "test",
        "unpack",
        "worker",
    }


#: Services that may mount binfmt_misc.
TABLE = {"cleanup", "look", "registrar"}

#: Services that may create user namespaces (orchestrator/docker/seccomp.json), without other
#: privileges.
UNPRIVILEGED = {"builder", "debug", "probe", "restock", "worker"}


# --- privileges -------------------------------------------------------------------------------


@EVERY_SERVICE
def test_every_capability_is_dropped(name: str) -> None:
    # The test suite has the Docker socket: dropped capabilities would not restrict it.
    assert value(name, "cap_drop") == ([] if name == "test" else ["ALL"])


@EVERY_SERVICE
def test_a_capability_is_added_only_where_the_table_is_written(name: str) -> None:
    expected = ["SYS_ADMIN"] if name in TABLE else None
    assert value(name, "cap_add") == expected


@EVERY_SERVICE
def test_nothing_is_privileged_and_nothing_is_published(name: str) -> None:
    for key in ("privileged", "pid", "ipc", "userns_mode", "cgroup", "uts"):
        assert value(name, key) is None
    # The worker is there for other machines, and yet listens on this machine alone unless told.
    port = "${NIXOS_IMAGE_WORKER_LISTEN:-127.0.0.1}:${NIXOS_IMAGE_WORKER_PORT:-2222}:2222"
    assert value(name, "ports") == ([port] if name == "worker" else None)
    assert value(name, "network_mode") != "host"
    assert not {"seccomp=unconfined", "seccomp:unconfined"}.intersection(
        value(name, "security_opt") or []
    )


@EVERY_SERVICE
def test_no_program_gains_privileges(name: str) -> None:
    options = value(name, "security_opt") or []
    assert ("systempaths=unconfined" in options) == (name in UNPRIVILEGED)
    assert ("no-new-privileges:true" in options) == (name != "test")
    assert ("apparmor=unconfined" in options) == (name in TABLE | UNPRIVILEGED)


@pytest.mark.parametrize("name", sorted(UNPRIVILEGED))
def test_who_may_make_user_namespaces_has_no_right_but_that(name: str) -> None:
    assert value(name, "security_opt") == [
        "no-new-privileges:true",
        "${NIXOS_IMAGE_SECCOMP:-seccomp:./orchestrator/docker/seccomp.json}",
        "apparmor=unconfined",
        "systempaths=unconfined",
    ]
    assert value(name, "cap_add") is None
    assert value(name, "user") == "builder"


@EVERY_SERVICE
def test_root_file_systems_are_read_only(name: str) -> None:
    assert value(name, "read_only") is (name != "test")


@pytest.mark.parametrize(
    ("name", "networks", "mode"),
    [
        ("cleanup", ["lease"], None),
        ("registrar", None, "none"),
        ("builder", ["default", "lease"], None),
        ("emulators", None, "none"),
        ("probe", None, "none"),
        ("debug", ["default"], None),
        ("survey", None, "bridge"),
        ("look", None, "none"),
        ("stock", None, "none"),
        ("restock", None, "bridge"),
        ("push", None, "bridge"),
        ("unpack", None, "none"),
        ("sweep", None, "none"),
        ("boot", None, "none"),
        ("boot-kvm", None, "none"),
        ("pins", None, "bridge"),
        ("test", None, "bridge"),
        ("worker", None, "bridge"),
    ],
)
def test_networks(name: str, networks: list[str] | None, mode: str | None) -> None:
    assert (value(name, "networks"), value(name, "network_mode")) == (networks, mode)


@pytest.mark.parametrize(
    ("name", "user", "volumes"),
    [
        ("cleanup", None, {"lease"}),
        ("registrar", None, {"lease"}),
        ("builder", "builder", {"store", "work", "lease", "emulators"}),
        ("emulators", None, {"emulators"}),
        ("probe", "builder", set()),
        ("debug", "builder", {"store", "work", "emulators"}),
        ("survey", "builder", set()),
        ("look", None, set()),
        ("stock", "builder", {"store"}),
        ("restock", "builder", {"store"}),
        ("push", "builder", {"store", "work"}),
        ("unpack", "builder", {"store", "work"}),
        ("sweep", "builder", {"store"}),
        ("boot", "builder", {"work"}),
        ("boot-kvm", "0", {"work"}),
        ("pins", "builder", set()),
        ("worker", "builder", {"worker"}),
    ],
)
def test_users_and_volumes(name: str, user: str | None, volumes: set[str]) -> None:
    """Images set no user: a service without one runs as root."""
    mounts: list[str] = value(name, "volumes") or []
    assert value(name, "user") == user
    assert {mount.split(":")[0] for mount in mounts} == volumes


def test_what_the_debug_shell_says_is_for_a_person() -> None:
    """The orchestrator reads the other services' events, as JSON."""
    assert value("debug", "environment")["NIXOS_IMAGE_LOG"] == "plain"
    assert value("builder", "environment")["NIXOS_IMAGE_LOG"] == "${NIXOS_IMAGE_LOG:-plain}"


def test_the_lease_network_leads_nowhere() -> None:
    assert COMPOSE["networks"]["lease"]["internal"] is True
    assert "internal" not in COMPOSE["networks"]["default"]


@EVERY_SERVICE
def test_only_the_tests_have_dockers_socket(name: str) -> None:
    assert ("docker.sock" in str(SERVICES[name])) == (name == "test")


@EVERY_SERVICE
def test_no_folder_of_the_host_is_mounted(name: str) -> None:
    mounts: list[str] = value(name, "volumes") or []
    sources = {mount.split(":/")[0] for mount in mounts if "docker.sock" not in mount}
    assert sources <= COMPOSE["volumes"].keys()


@pytest.mark.parametrize("name", ["registrar", "builder"])
def test_the_token_is_written_by_cleanup_alone(name: str) -> None:
    assert f"lease:{TOKEN_FILE.parent}:ro" in value(name, "volumes")
    assert f"lease:{TOKEN_FILE.parent}" in value("cleanup", "volumes")


def test_only_the_kvm_service_has_a_device() -> None:
    assert {name for name in SERVICES if value(name, "devices")} == {"boot-kvm"}


# --- names ------------------------------------------------------------------------------------


def test_the_images_are_those_of_the_code() -> None:
    found = {name: value(name, "image") for name in IMAGES}
    names = {
        name: image.name.format(
            guest="${NIXOS_IMAGE_GUEST:-aarch64}", qemu="${NIXOS_IMAGE_QEMU:-latest}"
        )
        for name, image in IMAGES.items()
    }
    by_id = {name: f"${{{IDS[name]}:-{one}}}" for name, one in names.items()}
    assert found == by_id, "started by its id, whatever has its name"
    built = {name: one["build"]["dockerfile"] for name, one in SERVICES.items() if "build" in one}
    assert built == {name: image.dockerfile for name, image in IMAGES.items()}
    for name, other in SAME_IMAGE.items():
        assert value(name, "image") == value(other, "image")


def test_every_service_has_an_image_of_ours() -> None:
    """compose.yaml names a service's image by a variable for its id, whose default is its name."""
    for name in SERVICES:
        variable, _, default = value(name, "image").removeprefix("${").partition(":-")
        assert variable in IDS.values()
        assert default.startswith("nixos-image-")


def test_every_dockerfile_is_used() -> None:
    assert {path.name for path in DOCKERFILES} == {
        "Dockerfile.runtime",
        *(image.dockerfile for image in IMAGES.values()),
    }


def test_project_labels_and_volumes_are_those_of_the_code() -> None:
    assert COMPOSE["name"] == PROJECT
    for label in (LABEL, RUN_LABEL, SOURCE_LABEL):
        assert f"{label}: " in (ROOT / "compose.yaml").read_text()
        assert label in RUN_SH
    named = {
        name: volume["name"] for name, volume in COMPOSE["volumes"].items() if "name" in volume
    }
    assert named == {
        "store": STORE_VOLUME,
        "worker": f"{PROJECT}-worker-store",
        "work": work_volume("${NIXOS_IMAGE_RUN:-compose}"),
    }
    assert f"source={work_volume('$run')},target={WORK}," in RUN_SH
    assert f"work:{WORK}" in value("builder", "volumes")


def test_the_container_that_becomes_an_image_is_known_by_its_name() -> None:
    assert f"maker={MAKER}" in RUN_SH


def test_the_engines_digits_are_the_stores() -> None:
    """The store's volume has the digits that identify this engine's runs."""
    assert f'"{{{{index .Labels \\"$engine_label\\"}}}}" {STORE_VOLUME}' in RUN_SH


@EVERY_SERVICE
def test_everything_is_labelled_so_that_it_can_be_removed(name: str) -> None:
    assert value(name, "labels")[LABEL] == "true"


@pytest.mark.parametrize("section", ["networks", "volumes"])
def test_networks_and_volumes_are_labelled(section: str) -> None:
    assert COMPOSE[section]
    assert all(one["labels"][LABEL] == "true" for one in COMPOSE[section].values())


def test_all_images_have_the_packages_of_the_tables() -> None:
    """Debian packages of file systems, and of Compose's default guest, are installed."""
    text = (ROOT / "orchestrator/shared/packages").read_text()
    listed = [line for line in text.splitlines() if line and not line.startswith("#")]
    assert len(listed) == len(set(listed))
    assert all(re.fullmatch(r"[a-z0-9][a-z0-9+.-]+", line) for line in listed)
    needed = {package for row in FILESYSTEMS.values() for package in row.packages}
    assert needed | {*qemu.GUESTS["aarch64-linux"].packages} <= set(listed)
    assert all(guest.packages for guest in qemu.GUESTS.values())


def test_what_an_image_is_made_of_is_what_its_dockerfile_names() -> None:
    agents = {"orchestrator/__init__.py", "orchestrator/agents", "orchestrator/shared"}
    assert {image.dockerfile: top(image.dockerfile) for image in IMAGES.values()} == {
        "Dockerfile.qemu-setup": agents | {"Dockerfile.qemu-setup", "locks/debian.json"},
        "Dockerfile.builder": agents
        | {"Dockerfile.builder", "orchestrator/image", "nix", "flake.lock"}
        | {"locks/clover.json", "locks/debian.json"},
        "Dockerfile.boot": agents | {"Dockerfile.boot", "orchestrator/image"},
        "Dockerfile.test": {"Dockerfile.test", "locks/debian.json", "locks/test.txt"},
        "Dockerfile.worker": agents
        | {"Dockerfile.worker", "orchestrator/image", "locks/debian.json"},
    }


def top(dockerfile: str) -> set[str]:
    """Return an image's input files; for module folders, the folder."""
    found = {path.relative_to(ROOT).as_posix() for path in inputs(dockerfile)}
    folders = r"(nix|orchestrator/\w+)/.*"
    return {re.sub(folders, r"\1", name) for name in found}


def test_each_file_that_an_image_has_is_one_that_makes_it_old() -> None:
    """Inputs are the arguments of `cp --parents` and of COPY."""
    for image in IMAGES.values():
        text = re.sub(r"\\\n", " ", (ROOT / image.dockerfile).read_text())
        named = re.findall(r"cp -a --parents ([^&|;\n]*) /f", text)
        named += re.findall(r"^COPY (?!--)(.*) \S+$", text, re.MULTILINE)
        for word in " ".join(named).split():
            assert any(path.is_relative_to(ROOT / word) for path in inputs(image.dockerfile)), word


def test_the_demo_has_parts_for_every_guest() -> None:
    assert DEBIAN_ARCHITECTURES.keys() == qemu.GUESTS.keys()


def test_the_lease_is_where_the_design_says() -> None:
    assert lease.PORT == 11111


def test_nix_makes_specs_of_the_schema_that_is_read() -> None:
    text = (ROOT / "nix/demo/default.nix").read_text()
    assert re.search(rf"schema = {SCHEMA};", text)


# --- what contributors use ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", sorted((ROOT / ".github").rglob("*.yml")), ids=lambda path: path.name
)
def test_github_reads_what_is_for_it(path: pathlib.Path) -> None:
    assert yaml.safe_load(path.read_text())
    for action in re.findall(r"\buses: *(\S+)", path.read_text()):
        assert re.search(r"@[0-9a-f]{40}$", action), f"{action} may be another tomorrow"


def test_githubs_ci_calls_the_same_commands_as_everybody() -> None:
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    last = {name: job["steps"][-1]["run"].strip().splitlines() for name, job in jobs.items()}
    assert last["all"] == [".ci/run"]
    assert (ROOT / ".ci/run").exists()
    contributing = (ROOT / "CONTRIBUTING.md").read_text()
    assert "\n".join(last["unit"]).replace("--quiet ", "") in contributing


def test_each_release_is_pushed_for_both_cpus_with_a_provenance() -> None:
    text = (ROOT / ".github/workflows/images.yml").read_text()
    (job,) = yaml.safe_load(text)["jobs"].values()
    assert {one["cpu"] for one in job["strategy"]["matrix"]["include"]} == {"x86_64", "aarch64"}
    assert {"id-token", "attestations", "packages"} <= job["permissions"].keys()
    steps = {step["name"]: step for step in job["steps"]}
    assert "./run.sh images push" in steps["Push the images"]["run"]
    assert "attest-build-provenance@" in steps["Sign their provenance"]["uses"]
    # What an event says may be anybody's: it reaches a shell as a variable, never as its text.
    assert not [name for name, step in steps.items() if "${{" in step.get("run", "")]


def test_bug_reports_ask_for_doctors_words() -> None:
    form = yaml.safe_load((ROOT / ".github/ISSUE_TEMPLATE/bug.yml").read_text())
    (doctor,) = (part for part in form["body"] if part["id"] == "doctor")
    assert "./run.sh doctor" in doctor["attributes"]["label"]
    assert doctor["validations"]["required"]


def test_hooks_call_the_linters_of_the_lock() -> None:
    (local,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert local["repo"] == "local", "nothing is fetched"
    words = [hook["entry"].split()[0] for hook in local["hooks"]]
    tools = {word.removeprefix(".venv/bin/") for word in words if word.startswith(".venv/bin/")}
    locked = re.findall(r"^([\w.-]+)==", (ROOT / "locks/test.txt").read_text(), re.MULTILINE)
    assert {"ruff", "mypy", "codespell"} <= tools <= set(locked)


# --- what comes from outside ------------------------------------------------------------------


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_images_are_made_of_ours_alone(path: pathlib.Path) -> None:
    stages: set[str] = set()
    froms = re.findall(
        r"^FROM +(?:--\S+ +)?(\S+)(?: +AS +(\S+))?", path.read_text(), re.MULTILINE | re.IGNORECASE
    )
    assert froms
    names = dict(re.findall(r"^ARG (\w+)=(\S*)$", path.read_text(), re.MULTILINE))
    for image, stage in froms:
        # An image's name is anybody's: a build gets ids instead.
        assert image in stages or re.fullmatch(r"\$\{\w+\}", image), f"{image} is a name"
        name = names.get(image[2:-1], "")
        assert image in stages or name in stages | {"plain"} or name.startswith("nixos-image-"), (
            f"{image} comes from outside"
        )
        stages.add(stage)


def test_the_base_is_the_one_that_run_sh_makes() -> None:
    assert re.search(
        r"^ARG BASE=nixos-image-base$", (ROOT / "Dockerfile.runtime").read_text(), re.MULTILINE
    )
    assert re.search(r"^base=nixos-image-base$", RUN_SH, re.MULTILINE)


def test_the_base_is_what_its_lock_says() -> None:
    """The base image is pinned by digest, if a registry was reachable; otherwise by tag."""
    text = (ROOT / "locks/base").read_text()
    assert re.fullmatch(r"debian:trixie-slim(@sha256:[0-9a-f]{64})?\n", text)
    assert 'upstream=$(cat "$root/locks/base")' in RUN_SH
    assert not re.search(r"docker pull (?!--quiet \"\$upstream\")", RUN_SH)


@pytest.mark.parametrize("path", [*DOCKERFILES, *CALLER], ids=lambda path: path.name)
def test_debians_archive_is_believed_by_its_signature_alone(path: pathlib.Path) -> None:
    for word in ("allow-unauthenticated", "trusted=yes", "AllowInsecure", "allow-insecure"):
        assert word.lower() not in path.read_text().lower()


def test_debian_packages_are_taken_as_they_are_locked() -> None:
    """The demo's packages are pinned; emulators and Nix have their own sections of the lock."""
    locked = json.loads((ROOT / "locks/debian.json").read_text())["packages"]
    assert "qemu_user locks/debian.json" in (ROOT / "Dockerfile.qemu-setup").read_text()
    assert "nix_package locks/debian.json" in (ROOT / "Dockerfile.builder").read_text()
    for dockerfile in DOCKERFILES:
        assert not re.search(r"\bnix-bin\b", dockerfile.read_text()), "apt would take the base's"
    demo = (ROOT / "nix/demo/default.nix").read_text()
    named = set(re.findall(r"\bpackages\.([a-z][\w-]*)", demo))
    for group in re.findall(r"with packages; \[([^]]*)\]", demo):
        named |= set(group.split())
    named |= set(re.findall(r"inherit \(packages\) ([^;]*);", demo)[0].split())
    assert named == locked.keys(), "what is locked is used, what is used is locked"


def test_no_expression_names_a_place_outside() -> None:
    """Each fetch has a hash from a lock or from the configuration."""
    for path in (ROOT / "nix").rglob("*.nix"):
        code = "\n".join(line.partition("# ")[0] for line in path.read_text().splitlines())
        assert "://" not in code, path
        assert not re.search(r"sha256-[A-Za-z0-9+/]{43}=", code), path
        assert "fetchGit" not in code, path
        for fetch in re.findall(r"\bfetch(?:url|Tarball|zip|FromGitHub)\b[^}]*}", code):
            assert re.search(r"\b(?:outputHash|sha256|hash)\b", fetch), (path, fetch)


def test_what_expressions_download_is_locked_with_its_hash() -> None:
    lock = json.loads((ROOT / "locks/clover.json").read_text())
    assert lock.keys() == {"url", "hash"}
    assert re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", lock["hash"])
    assert "importJSON ../../locks/clover.json" in (ROOT / "nix/modules/options.nix").read_text()
    assert "locks/clover.json" in (ROOT / "Dockerfile.builder").read_text()


def test_the_flakes_inputs_are_locked() -> None:
    inputs = dict(re.findall(r'inputs\.(\w+)\.url = "([^"]+)"', (ROOT / "flake.nix").read_text()))
    lock = json.loads((ROOT / "flake.lock").read_text())
    nodes = lock["nodes"]
    assert nodes["root"]["inputs"].keys() == inputs.keys()
    assert nodes.keys() == {"root", *nodes["root"]["inputs"].values()}
    for name, reference in inputs.items():
        node = nodes[nodes["root"]["inputs"][name]]
        original, locked = node["original"], node["locked"]
        assert reference == "{type}:{owner}/{repo}/{ref}".format_map(original)
        assert {original[key] == locked[key] for key in ("type", "owner", "repo")} == {True}
        assert re.fullmatch(r"[0-9a-f]{40}", locked["rev"])
        assert re.fullmatch(r"sha256-[A-Za-z0-9+/]{43}=", locked["narHash"])


@pytest.mark.parametrize("path", sorted((ROOT / "locks").glob("*.in")), ids=lambda path: path.name)
def test_every_direct_requirement_is_locked(path: pathlib.Path) -> None:
    names = [one.partition("[")[0] for one in path.read_text().split()]
    locked = re.findall(r"^([\w.-]+)==", path.with_suffix(".txt").read_text(), re.MULTILINE)
    assert names
    assert set(names) <= set(locked)


def test_what_the_package_depends_on_is_what_is_locked() -> None:
    """pyproject.toml names packages without versions; images use the pins."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    inputs = {
        name: (ROOT / f"locks/{name}.in").read_text().split()
        for name in ("agents", "orchestrator", "test")
    }
    assert set(project["dependencies"]) == {*inputs["agents"], *inputs["orchestrator"]}
    assert project["optional-dependencies"] == {"dev": inputs["test"]}


def test_every_lock_has_its_requirements_and_is_installed() -> None:
    locks = {path.stem for path in (ROOT / "locks").glob("*.txt")}
    assert locks == {path.stem for path in (ROOT / "locks").glob("*.in")}
    text = (ROOT / "orchestrator/shared/runtime.sh").read_text()
    assert re.search(r"for lock in agents orchestrator; do", text)
    assert "--requirement test.txt" in (ROOT / "Dockerfile.test").read_text()
    assert "--requirement locks/docs.txt" in (ROOT / ".ci/site").read_text()
    installed = (ROOT / "tests/integration/test_push.py").read_text()
    assert 'ROOT / "locks/moto.txt"' in installed
    assert locks == {"agents", "docs", "moto", "orchestrator", "test"}


@pytest.mark.parametrize("path", sorted((ROOT / "locks").glob("*.txt")), ids=lambda path: path.name)
def test_every_requirement_has_a_version_and_a_hash(path: pathlib.Path) -> None:
    text = re.sub(r"^\s*#.*\n", "", path.read_text(), flags=re.MULTILINE)
    requirements = [line for line in text.replace("\\\n", " ").splitlines() if line.strip()]
    assert requirements
    for line in requirements:
        assert re.match(r"[a-z0-9][a-z0-9._-]*==\S+ ", line), line
        hashes = re.findall(r"--hash=(\S+)", line)
        assert hashes, line
        assert all(re.fullmatch(r"sha256:[0-9a-f]{64}", one) for one in hashes), line
        assert not re.search(
            r"(^|\s)(-e|-i|--index-url|--extra-index-url|--trusted-host|git\+|https?:)", line
        ), line


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_pip_installs_only_what_is_locked(path: pathlib.Path) -> None:
    commands = path.read_text().replace("\\\n", " ").splitlines()
    for command in commands:
        for install in re.findall(r"pip install[^;&]*", command):
            assert "--require-hashes" in install
            assert "--no-deps" in install


@pytest.mark.parametrize("path", DOCKERFILES, ids=lambda path: path.name)
def test_no_build_step_pipes_the_network_into_a_shell(path: pathlib.Path) -> None:
    text = path.read_text()
    assert not re.search(r"\b(curl|wget)\b", text)
    assert not re.search(r"^ADD ", text, re.MULTILINE)


def test_the_packages_are_empty_at_their_roots() -> None:
    assert [
        path for path in (ROOT / "orchestrator").rglob("__init__.py") if path.stat().st_size
    ] == []


def test_each_end_of_run_sh_tells_the_next_step() -> None:
    """`die CODE MESSAGE` without a remedy is for who has said no."""
    without = []
    for path in (ROOT / "run.sh", *sorted((ROOT / "caller").glob("*.sh"))):
        text = path.read_text().replace("\\\n", " ")
        without += [
            f"{path.name}: {match[1]}"
            for match in re.finditer(r'\bdie [0-9] ("(?:[^"\\]|\\.)*")', text)
            if not re.match(r'[^"\n;|&]*"', text[match.end() :])
        ]
    assert without == ['flash.sh: "nothing was written"']


@pytest.mark.parametrize(
    "path", sorted((ROOT / "orchestrator").rglob("*.py")), ids=lambda path: path.stem
)
def test_no_text_of_any_length_becomes_a_number(path: pathlib.Path) -> None:
    """Python reads no number of more than 4300 digits; `text.whole` returns None for one."""
    text = path.read_text()
    assert not re.search(r"\.(?:isdecimal|isdigit|isnumeric)\(", text)
    if "int(" in text:
        assert re.findall(r"(?:\\d|\[0-9\])[*+]", text) == []


def test_each_usage_error_tells_the_next_step() -> None:
    without = []
    for path in sorted((ROOT / "orchestrator").rglob("*.py")):
        text = path.read_text()
        for node in ast.walk(ast.parse(text)) if "UsageError(" in text else ():
            if not isinstance(node, ast.Call) or getattr(node.func, "id", "") != "UsageError":
                continue
            if not any(one.arg in {"hint", None} for one in node.keywords):
                without.append(f"{path.name}:{node.lineno}")
    assert not without


def test_the_builder_has_a_number_that_nobody_has() -> None:
    """Systemd's table (UIDS-GIDS.md) calls 60706 to 61183 unused; 65536 numbers are mapped."""
    assert 60706 <= BUILDER <= 61183
    text = (ROOT / "orchestrator/shared/runtime.sh").read_text()
    assert re.findall(r"^number=(.*)$", text, re.MULTILINE) == [str(BUILDER)]
    assert {value(name, "user") for name in SERVICES} <= {None, "builder", "0"}
