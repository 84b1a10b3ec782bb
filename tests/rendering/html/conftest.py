"""A real browser, and pages in it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import which
from time import monotonic, sleep
from typing import Any

import pytest
from selenium import webdriver
from selenium.webdriver.chrome.options import Options
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.action_chains import ActionChains
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webelement import WebElement

_OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1440,1000",
)


class Browser:
    """Chromium with one page; downloads lie in `folder`."""

    def __init__(self, driver: Any, folder: Path) -> None:
        self.driver, self.folder = driver, folder

    def open(self, page: Path) -> None:
        self.driver.get_log("browser")
        self.driver.get_log("performance")
        self.driver.get(page.as_uri())

    def all(self, selector: str) -> list[WebElement]:
        return self.driver.find_elements(By.CSS_SELECTOR, selector)

    def one(self, selector: str) -> WebElement:
        return self.driver.find_element(By.CSS_SELECTOR, selector)

    def seen(self, selector: str) -> list[str]:
        return [found.text for found in self.all(selector) if found.is_displayed()]

    def row(self, side: str, *parts: str) -> WebElement:
        """Return the first row of a network in the picture whose text has all parts."""
        rows = self.all(f"#view a.row.{side}")
        return next(row for row in rows if all(part in row.text for part in parts))

    def drawn(self) -> list[list[str]]:
        """Return kind and name of each operator in the open block, in program order."""
        boxes = self.all("#block .box")
        return [box.get_attribute("aria-label").split() for box in boxes]

    def click(self, selector: str) -> None:
        self.one(selector).click()

    def hover(self, element: WebElement) -> None:
        ActionChains(self.driver).move_to_element(element).perform()

    def press(self, *keys: str) -> None:
        ActionChains(self.driver).send_keys(*keys).perform()

    def run(self, script: str) -> Any:
        return self.driver.execute_script(script)

    def focused(self) -> str:
        return self.driver.switch_to.active_element.text

    def label(self) -> str | None:
        """Return the label of what has the focus."""
        return self.driver.switch_to.active_element.get_attribute("aria-label")

    def downloaded(self) -> Path:
        """Wait for `pairs.toml`, then take it away for the next one."""
        path, until = self.folder / "pairs.toml", monotonic() + 10
        while not path.exists() and monotonic() < until:
            sleep(0.02)
        return path.rename(self.folder / f"taken-{len(list(self.folder.iterdir()))}.toml")

    def complaints(self) -> list[str]:
        """Return what stands in the console: errors, and what the page's policy refused."""
        return [entry["message"] for entry in self.driver.get_log("browser")]

    def requests(self) -> list[str]:
        """Return every address that was asked for since the page was opened."""
        events = (json.loads(entry["message"]) for entry in self.driver.get_log("performance"))
        messages = (event["message"] for event in events)
        return [
            message["params"]["request"]["url"]
            for message in messages
            if message["method"] == "Network.requestWillBeSent"
        ]


@pytest.fixture(scope="session")
def _chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    binary, driver = which("chromium"), which("chromedriver")
    if binary is None or driver is None:
        pytest.skip("chromium and chromedriver are not installed")
    downloads = tmp_path_factory.mktemp("downloads")
    options = Options()
    options.binary_location = binary
    for option in (*_OPTIONS, f"--user-data-dir={tmp_path_factory.mktemp('profile')}"):
        options.add_argument(option)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    chromium = webdriver.Chrome(options=options, service=Service(driver))
    behaviour = {"behavior": "allow", "downloadPath": str(downloads)}
    chromium.execute_cdp_cmd("Browser.setDownloadBehavior", behaviour)
    yield Browser(chromium, downloads)
    chromium.quit()


@pytest.fixture
def browse(_chromium: Browser) -> Iterator[Callable[[Path], Browser]]:
    """Open a page, and find afterwards that it neither complained nor asked for anything."""
    pages: list[Path] = []

    def browse(page: Path) -> Browser:
        _chromium.open(page)
        pages.append(page)
        return _chromium

    yield browse
    if pages:
        assert _chromium.complaints() == []
        asked = [url for url in _chromium.requests() if not url.startswith(("blob:", "data:"))]
        assert asked == [pages[-1].as_uri()]
