"""Opens reports in headless Chromium and measures them: `in_browser.py BROWSER FOLDER`.

Pages, screenshots and a printed page are left in FOLDER. The last line says how many checks passed.
"""

import html
import json
import pathlib
import re
import shutil
import subprocess
import sys

from tests.unit import reports

#: Chromium's setting for each colour scheme.
SCHEMES = {"light": "1", "dark": "0"}

OPTIONS = (
    *("--no-sandbox", "--hide-scrollbars", "--allow-file-access-from-files", "--disable-gpu"),
    # Whatever a page wanted from the network, it would not get.
    "--host-resolver-rules=MAP * ~NOTFOUND",
)


def pages(folder: pathlib.Path) -> list[str]:
    """Write the pages to `folder`; returns their names."""
    many = [
        reports.path(f"package-{number}-1.{number}", 10**9 // (number + 7)) for number in range(900)
    ]
    found = {
        "plain": reports.page(),
        "changed": reports.page(before=reports.contents(*reports.SYSTEM[:4])),
        "hostile": reports.page_of(reports.HOSTILE),
        "large": reports.page(present=reports.contents(*reports.SYSTEM, *many)),
    }
    for name, text in found.items():
        (folder / f"{name}.html").write_text(text)
    return list(found)


def main(browser: str, folder: pathlib.Path) -> int:
    """Measure all pages in both colour schemes; returns the exit code."""
    folder.mkdir(parents=True, exist_ok=True)
    names = pages(folder)
    shutil.copy(pathlib.Path(__file__).with_name("measure.html"), folder)
    results: list[tuple[str, bool, str]] = []

    def run(*arguments: str) -> subprocess.CompletedProcess[str]:
        command = [browser, *OPTIONS, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True, timeout=300)

    for scheme, number in SCHEMES.items():
        chosen = f"--blink-settings=preferredColorScheme={number}"
        url = f"{(folder / 'measure.html').as_uri()}#{','.join(names)}"
        said = run(chosen, "--virtual-time-budget=60000", "--dump-dom", url).stdout
        told = re.search(r'<pre id="result">(.*?)</pre>', said, re.DOTALL)
        measured = json.loads(html.unescape(told[1])) if told and told[1] else []
        results += [(f"{scheme}, {what}", good, more) for what, good, more in measured]
        results.append((f"{scheme}, every page was measured", len(measured) == 20 * len(names), ""))
        for name, size in (("narrow", "400,2600"), ("wide", "1200,2600")):
            shot = folder / f"{scheme}-{name}.png"
            page = (folder / "changed.html").as_uri()
            run(chosen, f"--window-size={size}", f"--screenshot={shot}", page)
    shots = {shot.read_bytes() for shot in folder.glob("*.png")}
    results.append(("both schemes and widths look different", len(shots) == 4, ""))
    run(f"--print-to-pdf={folder / 'printed.pdf'}", (folder / "changed.html").as_uri())
    printed = (folder / "printed.pdf").read_bytes()
    results.append(("it prints on a few pages", 1 <= printed.count(b"/Type /Page\n") <= 8, ""))
    for what, good, more in results:
        print("PASS" if good else "FAIL", what, "" if good else more)
    failed = sum(not good for _, good, _ in results)
    print(f"{len(results) - failed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], pathlib.Path(sys.argv[2])))
