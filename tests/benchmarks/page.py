"""The page of two networks in Chromium: how long it takes to open, and to react to a click."""

from __future__ import annotations

import atexit
import statistics
import tempfile
from functools import cache
from pathlib import Path
from shutil import which
from typing import Any, TypeAlias

from tests.benchmarks.programs import saved
from tests.benchmarks.sampling import Case, Row, Sample, Target, Work

# Selenium is imported where it is used, for not all that list rows have it.
_Browser: TypeAlias = Any

_PAGE = "clicked.html"
_OPTIONS = ("--headless=new", "--no-sandbox", "--disable-gpu", "--no-first-run")
# From a click to the frame in which what it did is drawn.
_CLICK = """
const [selector, place, done] = arguments;
const start = performance.now();
document.querySelectorAll(selector)[place].dispatchEvent(
  new MouseEvent("click", { bubbles: true, cancelable: true }));
requestAnimationFrame(() => setTimeout(() => done(performance.now() - start)));
"""
_LOAD = "const [timing] = performance.getEntriesByType('navigation'); return timing.loadEventEnd"
# A row of 35 blocks, the block before, a Value, a pair, a kind of pairs, and the stages.
_CLICKS = (
    ("a.row.teacher", 6),
    ("#before", 0),
    ("#block .box", 5),
    (".pill", 2),
    (".toggles button", 1),
    ("#fold", 0),
)


def page(measure: str) -> Work:
    """Open the page of resnet152 and resnet50, or click where it reacts; milliseconds are its own.

    One sample of clicking is the median of six different clicks.
    """
    browser = _chromium()

    def run() -> Sample:
        browser.get(Path(_PAGE).resolve().as_uri())
        opened = browser.execute_script(_LOAD)
        assert opened > 0, "the page was not loaded"
        if measure == "open":
            return Sample(opened / 1000)
        times = [browser.execute_async_script(_CLICK, *click) for click in _CLICKS]
        return Sample(statistics.median(times) / 1000)

    yield run


@cache
def _chromium() -> _Browser:
    from selenium import webdriver
    from selenium.webdriver.chrome.options import Options
    from selenium.webdriver.chrome.service import Service

    import graphtool as gt

    browser, driver = which("chromium"), which("chromedriver")
    assert browser, "no Chromium: `chromium` is not on the path"
    assert driver, "no Chromium: `chromedriver` is not on the path"
    gt.render(gt.suggest_pairs(saved("resnet152.json"), saved("resnet50.json")), _PAGE)
    options = Options()
    options.binary_location = browser
    profile = tempfile.TemporaryDirectory()
    for option in (*_OPTIONS, f"--user-data-dir={profile.name}", "--window-size=1440,1000"):
        options.add_argument(option)
    opened = webdriver.Chrome(options=options, service=Service(driver))
    # The last that is registered is the first that is done.
    atexit.register(profile.cleanup)
    atexit.register(opened.quit)
    return opened


ROWS = tuple(
    Row(f"page-{measure}", about, Case(page, (measure,)), (Target(0.1, "absolute"),))
    for measure, about in {
        "open": "open the page of resnet152 and resnet50 in Chromium",
        "click": "click on that page, until what it did is drawn",
    }.items()
)
