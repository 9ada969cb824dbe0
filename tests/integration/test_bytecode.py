"""Tests that the images' programs start from bytecode: compiling takes longer than the rest."""

import pytest

from tests.integration.conftest import docker

pytestmark = [pytest.mark.docker, pytest.mark.timeout(120)]

#: Imports modules of the arguments, and prints the files that Python had to compile for that.
COMPILED = """
import importlib, sys
from importlib.machinery import SourceFileLoader

compiled = []
compile_source = SourceFileLoader.source_to_code
def source_to_code(self, data, path, **options):
    compiled.extend([path] if data.strip() else [])
    return compile_source(self, data, path, **options)
SourceFileLoader.source_to_code = source_to_code
for name in sys.argv[1:]:
    importlib.import_module(name)
print(*compiled, sep="\\n")
"""

PROGRAMS = {
    "orchestrator": ["__main__", "verbs.demo", "verbs.build", "run.make_images", "deliver.report"],
    "builder": ["agents.builder.__main__", "agents.builder.worker", "agents.builder.push"],
    "qemu-setup": ["agents.emulation.cleanup", "agents.emulation.registrar"],
}


def compiled(image: str, *modules: str, change: str = "") -> list[str]:
    options = ["--rm", "--network", "none", "--user", "root", "--entrypoint", "sh"]
    program = f"{change} exec python3 -c '{COMPILED}' \"$@\""
    return docker("run", *options, image, "-c", program, "sh", *modules).split()


@pytest.mark.parametrize("name", PROGRAMS)
def test_a_start_compiles_nothing(name: str) -> None:
    assert compiled(f"nixos-image-{name}", *(f"orchestrator.{one}" for one in PROGRAMS[name])) == []


def test_what_is_compiled_is_seen() -> None:
    lost = "rm /opt/agents/tenacity/__pycache__/wait.*.pyc;"
    found = compiled("nixos-image-builder", "tenacity", change=lost)
    assert found == ["/opt/agents/tenacity/wait.py"]
