"""One browser for all tests of pages."""

from __future__ import annotations

import importlib.util
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

import pytest

from edgekit.report.page import page
from edgekit.results.saved import SavedDocument

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page


def module_at(path: Path) -> ModuleType:
    """pytest imports test files one by one: they cannot import each other."""
    spec = importlib.util.spec_from_file_location(f"edgekit_tests_{path.stem}", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def pages() -> ModuleType:
    """The module ``documents.py``."""
    return module_at(Path(__file__).with_name("documents.py"))


@pytest.fixture
def widths() -> ModuleType:
    """The module ``test_widths.py``, which makes results of every kind."""
    return module_at(Path(__file__).parents[1] / "test_widths.py")


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Debian's Chromium, once for all pages of a process."""
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("needs chromium: run scripts/test-system-packages")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=program, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def opened(browser: Browser, tmp_path: Path) -> Iterator[Callable[..., Page]]:
    """Opens the page of some documents, as ``context`` says, and waits until all is drawn. Ends with an error where the
    page wrote anything to the console."""
    said: list[str] = []
    contexts = []

    def open_page(*documents: SavedDocument, **context: Any) -> Page:
        file = tmp_path / "page.html"
        file.write_text(page(documents), encoding="utf-8")
        contexts.append(browser.new_context(offline=True, **context))
        shown = contexts[-1].new_page()
        shown.on("console", lambda message: said.append(message.text))
        shown.on("pageerror", lambda error: said.append(str(error)))
        shown.goto(file.as_uri())
        shown.wait_for_selector("html[data-drawn]", timeout=30_000)
        return shown

    yield open_page
    for one in contexts:
        one.close()
    assert said == []
