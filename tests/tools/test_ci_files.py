"""Tests the action for GitHub and the component for GitLab: their shell steps are executed."""

import json
import os
import pathlib
import re
import subprocess
import typing

import pytest
import yaml

ROOT = pathlib.Path(__file__).parents[2]

pytestmark = pytest.mark.needs("awk", "sed")

type Document = dict[str, typing.Any]

#: A run.sh that notes its words, and delivers two images for three devices' rows.
RUN = """\
#!/bin/sh
printf '%s\\n' "$*" >> "$NOTES"
case $1 in
  kit) [ "$2" != export ] || echo kit > "$3"; exit "${KIT:-0}" ;;
esac
[ "${CODE:-0}" = 0 ] || exit "$CODE"
while [ "$1" != -o ]; do shift; done
mkdir -p "$2"
for name in a.img "b c.img"; do
  echo x > "$2/$name"
  printf '%064d  %s\\n' 1 "$name" > "$2/$name.sha256"
  echo "$2/$name"
done
cp "$RESULT" "$2/result.json"
"""


def entry(name: str, host: str, **more: str) -> Document:
    return {"name": name, **more, "host": host}


@pytest.fixture
def checkout(tmp_path: pathlib.Path) -> pathlib.Path:
    """Make a checkout with the real script of the jobs, and a run.sh that does nothing."""
    place = tmp_path / "checkout"
    (place / ".ci").mkdir(parents=True)
    (place / ".ci/image").write_bytes((ROOT / ".ci/image").read_bytes())
    (place / "run.sh").write_text(RUN)
    for program in (place / ".ci/image", place / "run.sh"):
        program.chmod(0o755)
    images = [entry("pi-sd-26.05-s-1", "s-1"), entry("pi-sd-26.05-s-2", "s-2"), entry("nas", "")]
    # As `Result.write` does.
    (tmp_path / "result.json").write_text(json.dumps({"name": "x", "images": images}, indent=2))
    (tmp_path / "work").mkdir()
    return place


def run(
    checkout: pathlib.Path, script: str, variables: dict[str, str]
) -> subprocess.CompletedProcess[str]:
    above = checkout.parent
    known = {"CI": "true", "NOTES": str(above / "notes"), "RESULT": str(above / "result.json")}
    return subprocess.run(
        ["sh", "-e", "-c", script],
        cwd=above / "work",
        env={"PATH": os.environ["PATH"], **known, **variables},
        capture_output=True,
        text=True,
        check=False,
    )


def notes(checkout: pathlib.Path) -> list[str]:
    return (checkout.parent / "notes").read_text().splitlines()


# --- GitHub -------------------------------------------------------------------------------------

ACTION: Document = yaml.safe_load((ROOT / "action.yml").read_text())


def value(text: str, inputs: dict[str, str]) -> str:
    """Evaluate the expressions of the action's `env`."""
    cache = "/runner/nixos-image.kit" if inputs["cache"] == "true" else ""

    def one(match: re.Match[str]) -> str:
        if match[1].startswith("inputs.cache =="):
            return cache
        assert match[1].startswith("inputs."), match[1]
        return inputs[match[1].removeprefix("inputs.")]

    return re.sub(r"\$\{\{ (.*?) \}\}", one, text)


def github(checkout: pathlib.Path, **given: str) -> subprocess.CompletedProcess[str]:
    inputs = {name: one["default"] for name, one in ACTION["inputs"].items()} | given
    (step,) = [one for one in ACTION["runs"]["steps"] if "run" in one]
    variables = {name: value(text, inputs) for name, text in step["env"].items()}
    above = checkout.parent
    if variables["CACHE"]:
        variables["CACHE"] = str(above / "kit")
    files = {name: str(above / name) for name in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")}
    own = {"GITHUB_ACTIONS": "true", "GITHUB_ACTION_PATH": str(checkout), **files}
    return run(checkout, step["run"], variables | own)


def test_no_input_is_written_into_a_script() -> None:
    """It could be any text, also of a pull request."""
    for step in ACTION["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
    assert {one["value"] for one in ACTION["outputs"].values()} == {
        f"${{{{ steps.build.outputs.{name} }}}}" for name in ("image", "images", "result")
    }


def test_the_action_builds_boots_and_tells(checkout: pathlib.Path) -> None:
    done = github(checkout, arguments="-c\nmy configuration.nix\n")
    assert (done.returncode, done.stderr) == (0, "")
    assert notes(checkout) == [
        "-c my configuration.nix --boot -o out",
        f"kit export {checkout.parent}/kit --force --quiet --with pi-sd-26.05 --with nas",
    ]
    told = (checkout.parent / "GITHUB_OUTPUT").read_text()
    assert told == (
        "image=out/a.img\nresult=out/result.json\n"
        "images<<END-OF-IMAGES\nout/a.img\nout/b c.img\nEND-OF-IMAGES\n"
    )
    summary = (checkout.parent / "GITHUB_STEP_SUMMARY").read_text()
    assert f"| `b c.img` | 0 | `{1:064d}` |" in summary


def test_the_first_image_is_not_the_one_that_was_finished_first(checkout: pathlib.Path) -> None:
    images = [entry("b", "", path="/w/ö/b c.img"), entry("a", "", path="/w/ö/a.img")]
    (checkout.parent / "result.json").write_text(json.dumps({"images": images}, indent=2))
    assert github(checkout).stdout == "out/a.img\nout/b c.img\n"
    told = (checkout.parent / "GITHUB_OUTPUT").read_text()
    assert told.startswith("image=out/b c.img\n")
    assert told.endswith("\nout/b c.img\nout/a.img\nEND-OF-IMAGES\n")


def test_the_next_job_has_what_this_one_has_built(checkout: pathlib.Path) -> None:
    (checkout.parent / "kit").write_text("kit")
    assert github(checkout, boot="false").returncode == 0
    assert notes(checkout)[:2] == [f"kit import {checkout.parent}/kit --quiet", "-o out"]


def test_without_a_cache_none_is_made(checkout: pathlib.Path) -> None:
    assert github(checkout, cache="false", boot="false").returncode == 0
    assert notes(checkout) == ["-o out"]


def test_the_demo_boots_anyway_and_has_its_own_kit(checkout: pathlib.Path) -> None:
    assert github(checkout, arguments="demo\n--no-boot").returncode == 0
    assert notes(checkout)[0] == "demo --no-boot -o out"
    assert notes(checkout)[1] == f"kit export {checkout.parent}/kit --force --quiet"


@pytest.mark.parametrize("code", ["6", "9", "11"])
def test_the_exit_code_is_run_shs(code: str, checkout: pathlib.Path) -> None:
    (checkout.parent / "work/env").write_text("")
    step = next(one for one in ACTION["runs"]["steps"] if "run" in one)
    own = {"GITHUB_ACTION_PATH": str(checkout), "CODE": code, "CACHE": str(checkout.parent / "kit")}
    assert run(checkout, step["run"], own).returncode == int(code)
    assert not (checkout.parent / "kit").exists()


def test_a_cache_that_does_not_fit_costs_nothing(checkout: pathlib.Path) -> None:
    (checkout.parent / "kit").write_text("of another version")
    step = next(one for one in ACTION["runs"]["steps"] if "run" in one)
    own = {"GITHUB_ACTION_PATH": str(checkout), "KIT": "14", "CACHE": str(checkout.parent / "kit")}
    done = run(checkout, step["run"], own)
    assert done.returncode == 0
    assert done.stderr.splitlines() == [
        "the cache is not used",
        "no cache was made for the next job",
    ]


# --- GitLab -------------------------------------------------------------------------------------

SPEC, JOBS = (ROOT / "templates/image.yml").read_text().split("\n---\n")


def gitlab(**given: str) -> Document:
    """Return the component's job with these inputs; GitLab puts them into the parsed values."""
    inputs = {
        name: str(one.get("default")).lower() if one.get("type") else one.get("default")
        for name, one in yaml.safe_load(SPEC)["spec"]["inputs"].items()
    } | given

    def filled(part: typing.Any) -> typing.Any:  # noqa: ANN401 - YAML
        if isinstance(part, dict):
            return {filled(name): filled(one) for name, one in part.items()}
        if isinstance(part, list):
            return [filled(one) for one in part]
        if not isinstance(part, str):
            return part
        return re.sub(r"\$\[\[ inputs\.(\w+) \]\]", lambda one: inputs[one[1]], part)

    (job,) = filled(yaml.safe_load(JOBS)).values()
    return typing.cast("Document", job)


def test_the_component_builds_boots_and_tells(checkout: pathlib.Path) -> None:
    job = gitlab(appliance="https://example.org/nixos-image", arguments="-f\nqcow-efi")
    assert job["variables"]["APPLIANCE"] == "https://example.org/nixos-image"
    # The programs and the clone come from the network.
    *network, folder, build = job["script"]
    assert [one.split()[0] for one in network] == ["apk", "git"]
    script = f"{folder}\n{build.replace('/tmp/nixos-image', str(checkout))}"
    work = checkout.parent / "work"
    own = {"GITLAB_CI": "true", "CI_PROJECT_DIR": str(work)}
    for count in (1, 4):
        done = run(checkout, script, job["variables"] | own)
        assert (done.returncode, done.stderr) == (0, "")
        assert len(notes(checkout)) == count + 1
    assert notes(checkout)[0] == "-f qcow-efi --boot -o out"
    assert notes(checkout)[2] == f"kit import {work}/.nixos-image/kit --quiet"
    told = (work / job["artifacts"]["reports"]["dotenv"]).read_text()
    assert told == "IMAGE_PATH=out/a.img\nIMAGE_RESULT=out/result.json\n"
    assert (work / job["artifacts"]["paths"][0] / "a.img").exists()
    assert (work / job["cache"]["paths"][0] / "kit").exists()


@pytest.mark.parametrize("text", [JOBS, SPEC])
def test_all_inputs_are_declared_and_used(text: str) -> None:
    declared = set(yaml.safe_load(SPEC)["spec"]["inputs"])
    used = set(re.findall(r"inputs\.(\w+)", JOBS))
    assert declared == used
    assert yaml.safe_load(text)
