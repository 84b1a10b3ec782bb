"""Time the page of resnet152 and resnet50: `python -m tests.benchmarks.page`."""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from shutil import which

from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service

from tests.benchmarks.commands import seconds
from tests.benchmarks.rendering import _SAVE as SAVE

_ROUNDS = 7
_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run")
# From a click to the frame in which what it did is drawn.
_CLICK = """
const [selector, place, done] = arguments;
const start = performance.now();
document.querySelectorAll(selector)[place].click();
requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
"""
_CLICKS = {
    "open a row of 35 blocks": (".cell.teacher .toggle", 10),
    "open a block": (".cell.teacher .block .toggle", 3),
    "pick a Value": (".cell.student .main", 5),
    "choose a pair": (".pill", 2),
    "hide a kind": (".toggles button", 1),
    "fold all": ("#fold", 0),
}
_LOAD = "const [timing] = performance.getEntriesByType('navigation'); return timing.loadEventEnd"


def main() -> None:
    """Print the time of the command, the size of the page, and how long it takes to react."""
    with tempfile.TemporaryDirectory() as folder:
        page = Path(folder) / "page.html"
        _print_command(folder, page)
        _print_clicks(folder, page)


def _print_command(folder: str, page: Path) -> None:
    python = sys.executable
    subprocess.run([python, "-c", SAVE, folder], check=True, capture_output=True)
    files = [str(Path(folder) / f"{name}.json") for name in ("resnet152", "resnet50")]
    commands = {
        "import paddle": [python, "-c", "import paddle"],
        "to .html": [python, "-m", "graphtool", "render", *files, "-o", str(page)],
    }
    times: dict[str, list[float]] = {name: [] for name in commands}
    for _ in range(_ROUNDS):
        for name, command in commands.items():
            times[name].append(seconds(command))
    medians = {name: statistics.median(measured) for name, measured in times.items()}
    for name, median in medians.items():
        ratio = median / medians["import paddle"]
        print(f"{name:30} {median:6.3f} s  {ratio:5.2f} × import paddle")
    print(f"{'size':30} {page.stat().st_size / 1e6:6.3f} MB")


def _print_clicks(folder: str, page: Path) -> None:
    browser = _chromium(folder)
    opened: list[float] = []
    times: dict[str, list[float]] = {name: [] for name in _CLICKS}
    for _ in range(_ROUNDS):
        browser.get(page.as_uri())
        opened.append(browser.execute_script(_LOAD))
        for name, click in _CLICKS.items():
            times[name].append(browser.execute_async_script(_CLICK, *click))
    browser.quit()
    for name, measured in {"open the page": opened, **times}.items():
        print(f"{name:30} {statistics.median(measured):6.0f} ms")
    everything = [time for measured in times.values() for time in measured]
    print(f"{'any click':30} {statistics.median(everything):6.0f} ms")


def _chromium(folder: str) -> webdriver.Chrome:
    options = Options()
    options.binary_location = which("chromium") or "chromium"
    for option in (*_OPTIONS, f"--user-data-dir={folder}/profile", "--window-size=1440,1000"):
        options.add_argument(option)
    return webdriver.Chrome(options=options, service=Service(which("chromedriver")))


if __name__ == "__main__":
    main()
