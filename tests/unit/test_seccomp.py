"""Tests the builder's seccomp profile: Docker's default plus the documented calls."""

import json
import pathlib

from orchestrator.docker import seccomp

PRIVILEGES = pathlib.Path(__file__).parents[2] / "docs/privileges.md"


def test_the_profile_is_dockers_with_exactly_what_is_told() -> None:
    profile = json.loads(seccomp.PROFILE.read_text())
    default = {**profile, "syscalls": profile["syscalls"][:-1]}
    assert seccomp.digest(default) == seccomp.DEFAULT_DIGEST
    assert seccomp.extended(default) == profile


def test_what_is_added_is_documented() -> None:
    assert seccomp.table() in PRIVILEGES.read_text()


def test_nothing_is_added_that_does_harm_without_a_namespace() -> None:
    """Calls that need no capability or reach beyond a user namespace stay forbidden."""
    assert not seccomp.ADDED.keys() & {
        *("bpf", "keyctl", "add_key", "userfaultfd", "perf_event_open", "open_by_handle_at"),
        *("init_module", "finit_module", "kexec_load", "io_uring_setup", "setns"),
    }
