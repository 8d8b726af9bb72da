"""A person in the Prefect UI, for the tests that need one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import UUID

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

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

PATIENCE_MS = 120_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What the form of a paused run shows: its text, where its links lead, and what is bold by HTML."""

    text: str
    links: list[str]
    bold: list[str]


def _seen(form: Locator) -> Seen:
    return Seen(
        text=form.inner_text(),
        links=[link.get_attribute("href") or "" for link in form.locator("a").all()],
        bold=form.locator("b").all_inner_texts(),
    )


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

    def reads(self, run: UUID) -> Seen:
        """Open a paused run, press Resume, and read what stands above the form."""
        with self._form(run) as form:
            return _seen(form)

    def answers(
        self,
        run: UUID,
        *,
        decision: str,
        reviewer: str,
        code: Callable[[], str],
        strike: str = "",
        comment: str = "",
        picture: str = "",
    ) -> Seen:
        """Open a paused run, press Resume, read, fill the form and submit it; returns what was read.

        Args:
            run: that waits.
            decision: to choose.
            reviewer, strike, comment: to type.
            code: to type; made when it is typed, since it is right for about a minute.
            picture: what to call a picture of the form, kept where CORRIGENDA_PICTURES says so.
        """
        with self._form(run) as form:
            seen = _seen(form)
            form.locator(".p-select-button__control").press("ArrowDown")
            form.page.locator(".p-select-option", has_text=decision).click()
            for place, text in enumerate((reviewer, code(), strike, comment)):
                form.locator("textarea").nth(place).fill(text)
            if picture and (folder := os.environ.get("CORRIGENDA_PICTURES")):
                form.screenshot(path=Path(folder) / f"{picture}.png")
            form.get_by_role("button", name="Submit").click()
            form.wait_for(state="hidden")
            return seen

    @contextmanager
    def _form(self, run: UUID) -> Iterator[Locator]:
        with self._page(f"/runs/flow-run/{run}") as page:
            page.get_by_role("button", name="Resume").first.click()
            form = page.locator(".p-modal__card")
            form.get_by_role("heading", name="Links").wait_for()
            yield form

    @contextmanager
    def _page(self, path: str) -> Iterator[Page]:
        from playwright.sync_api import sync_playwright

        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=self._chromium, args=FLAGS)
            page = browser.new_page(viewport={"width": 1400, "height": 1400})
            page.set_default_timeout(PATIENCE_MS)
            page.goto(self._address + path)
            yield page
            browser.close()


@pytest.fixture(scope="session")
def person(stack) -> Person | None:
    """Somebody at a browser; nobody where there is none."""
    chromium = shutil.which("chromium")
    return Person(chromium, stack.prefect_ui_url) if chromium else None
