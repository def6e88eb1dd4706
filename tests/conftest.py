# Copyright (c) MONAI MGCA contributors
# Licensed under the Apache License, Version 2.0 (the "License");
# you may not use this file except in compliance with the License.
# You may obtain a copy of the License at
#     http://www.apache.org/licenses/LICENSE-2.0
# Unless required by applicable law or agreed to in writing, software
# distributed under the License is distributed on an "AS IS" BASIS,
# WITHOUT WARRANTIES OR CONDITIONS OF ANY KIND, either express or implied.
# See the License for the specific language governing permissions and
# limitations under the License.

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder with the goldens and the real data; tests that need it skip where it is absent."""
    folder = ROOT.parent / "shared"
    if not folder.is_dir():
        pytest.skip("the goldens and real data of ../shared are not here")
    return folder


CHROMIUM = ("chromium", "chromium-browser", "google-chrome")
# nothing that would reach for the network by itself
QUIET = ("--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-sync")


@pytest.fixture
def open_page() -> Callable[..., dict[str, Any]]:
    """A function that opens an HTML file from disk in headless Chromium and tells what went on.

    It gives "errors" of the console and the page, the "requests" made, the "widths" of all pictures as they were
    decoded (0: broken), and the "text" one sees; with ``screenshot`` it takes a picture too.
    """
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    chromium = next(filter(None, map(shutil.which, CHROMIUM)), None)
    if chromium is None:
        pytest.skip("no Chromium is installed: apt-get install chromium")

    def opened(path: Path, screenshot: Path | None = None, width: int = 1280, height: int = 900) -> dict[str, Any]:
        errors: list[str] = []
        requests: list[str] = []
        with playwright.sync_playwright() as running:
            browser = running.chromium.launch(executable_path=chromium, args=[*QUIET, "--disable-component-update"])
            page = browser.new_page(viewport={"width": width, "height": height})
            page.on("console", lambda message: errors.append(message.text) if message.type == "error" else None)
            page.on("pageerror", lambda error: errors.append(str(error)))
            page.on("request", lambda request: requests.append(request.url))
            page.goto(path.resolve().as_uri())
            widths = page.evaluate("Array.from(document.images, picture => picture.naturalWidth)")
            text = page.inner_text("body")
            if screenshot is not None:
                page.screenshot(path=str(screenshot))
            browser.close()
        return {"errors": errors, "requests": requests, "widths": widths, "text": text}

    return opened
