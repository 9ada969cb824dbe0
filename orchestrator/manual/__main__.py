"""Writes the generated files: completion scripts, the man page, the site's page of commands.

`python3 -m orchestrator.manual`
"""

from orchestrator.manual import commands, page, shells
from orchestrator.shared.paths import ROOT


def files() -> dict[str, str]:
    """Return the content of all files by path in the checkout."""
    return {
        "docs/completion/run.sh.bash": shells.bash(),
        "docs/completion/run.sh.zsh": shells.zsh(),
        "docs/completion/run.sh.fish": shells.fish(),
        "docs/man/nixos-image-appliance.1": page.page(),
        "docs/commands.md": commands.page(),
    }


if __name__ == "__main__":
    for path, text in files().items():
        (ROOT / path).parent.mkdir(exist_ok=True)
        (ROOT / path).write_text(text)
