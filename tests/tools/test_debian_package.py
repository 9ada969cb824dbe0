"""Versions of Debian packages, compared as dpkg compares them."""

import subprocess

import pytest

from orchestrator.shared.debian_package import version_key

pytestmark = pytest.mark.needs("dpkg")

VERSIONS = (
    "1.0 1.0-1 1.0~rc1 1.0~rc1-1 1.0+b1 1.0-1+b1 1:0.1 1.0a 1.0. 1.0-00 1 1~ 1~~ 1a 1+ 1-1-1 10 9 0"
    " 1.01 1.1 8.14.1-2+deb13u7 8.14.1-2+deb13u10 8.21.0-2~bpo13+1 8.21.0-2 2.0-~1"
).split()


@pytest.mark.parametrize("first", VERSIONS)
def test_versions_are_in_dpkgs_order(first: str) -> None:
    for second in VERSIONS:
        one, other = version_key(first), version_key(second)
        relation = "lt" if one < other else "gt" if one > other else "eq"
        done = subprocess.run(["dpkg", "--compare-versions", first, relation, second])
        assert done.returncode == 0, (first, relation, second)
