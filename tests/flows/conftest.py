"""A person in the Prefect UI, for the tests that need one."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Page

# They keep a browser without a desktop quiet: no updates, no first run, nothing that calls home.
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


class Person:
    """Somebody at a browser, with the Prefect UI at an address."""

    def __init__(self, chromium: str, address: str) -> None:
        self._chromium = chromium
        self._address = address

    def runs(self, deployment: UUID) -> None:
        """Press a deployment's Run button, and Quick run."""
        with self._page(f"/deployments/deployment/{deployment}") as page:
            page.get_by_role("button", name="Run", exact=True).first.click()
            page.get_by_text("Quick run").click()
            page.get_by_text("scheduled", exact=False).first.wait_for()

    def approves(self, run: UUID, *, reviewer: str, comment: str) -> None:
        """Open a paused run, press Resume, fill the form and submit it."""
        with self._page(f"/runs/flow-run/{run}") as page:
            page.get_by_role("button", name="Resume").first.click()
            form = page.locator(".p-modal__card")
            form.locator(".p-select-button__control").press("ArrowDown")
            page.locator(".p-select-option", has_text="approve").click()
            for place, text in enumerate((reviewer, comment)):
                form.locator("textarea").nth(place).fill(text)
            form.get_by_role("button", name="Submit").click()
            form.wait_for(state="hidden")

    @contextmanager
    def _page(self, path: str) -> Iterator[Page]:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=self._chromium, args=FLAGS)
            page = browser.new_page(viewport={"width": 1400, "height": 1400})
            page.goto(self._address + path)
            yield page
            browser.close()


@pytest.fixture(scope="session")
def person(stack) -> Person | None:
    """Somebody at a browser; nobody where there is none."""
    chromium = shutil.which("chromium")
    return Person(chromium, stack.prefect_ui_url) if chromium else None
