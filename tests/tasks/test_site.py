"""The pages of the history, read back as text and in a real browser."""

from __future__ import annotations

import re
import shutil

import pytest
from typer.testing import CliRunner

from flows.cli import app

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def written(history, tmp_path_factory):
    """The folder that `corrigenda report` writes."""
    folder = tmp_path_factory.mktemp("report") / "pages"
    done = CliRunner().invoke(app, ["report", str(folder)])
    assert done.exit_code == 0, done.output
    return folder


def text(path) -> str:
    return " ".join(re.sub(r"<[^>]+>", " ", path.read_text()).split())


def test_the_releases_say_what_is_in_production_and_by_whose_word(written):
    shown = text(written / "index.html")
    assert re.search(
        r"Release 2 has been in production since 20\S+ \S+ UTC, by the word of grace\. It says 2 facts", shown
    )
    assert shown.index("mars") < shown.index("moon"), "the newest first"
    assert "Release 1, candidate" in text(written / "releases" / "1.html")


def test_each_fact_is_there_with_its_state_and_all_that_happened_to_it(written):
    shown = text(written / "facts.html")
    assert "1 rejected , 2 released" in shown
    moon = shown[shown.index("of moon") : shown.index("of mars")]
    assert re.search(r"submitted ada .* queued ada .* in candidate ada .* released grace release 1", moon)
    assert "rejected grace no evidence" in shown


def test_each_decision_is_there_with_how_it_was_given(written):
    shown = text(written / "decisions.html")
    assert shown.count("grace approve one-time code") == 2
    assert "release 1" in shown and "release 2" in shown


def test_what_came_with_a_request_or_a_comment_stays_text(written):
    for path in written.rglob("*.html"):
        assert "<img src=x" not in path.read_text(), path
        assert "49" not in re.findall(r"onerror=alert\(1\)&gt;(.{0,20})", path.read_text()), path
    assert "&lt;img src=x onerror=alert(1)&gt;{{ 7 * 7 }}" in (written / "facts.html").read_text()


def test_one_history_gives_the_same_bytes(history, written, tmp_path):
    again = CliRunner().invoke(app, ["report", str(tmp_path / "again")])
    assert again.exit_code == 0, again.output
    files = {path.relative_to(written): path.read_bytes() for path in written.rglob("*") if path.is_file()}
    assert len(files) == 6
    assert all((tmp_path / "again" / name).read_bytes() == content for name, content in files.items())


def test_an_earlier_report_is_replaced_and_nothing_else_is(history, written, tmp_path):
    assert CliRunner().invoke(app, ["report", str(written)]).exit_code == 0
    other = tmp_path / "site"
    other.mkdir()
    (other / "index.html").write_text("mine")
    refused = CliRunner().invoke(app, ["report", str(other)])
    assert isinstance(refused.exception, FileExistsError)
    assert (other / "index.html").read_text() == "mine"


def test_before_anything_happened_there_are_pages_too(stack, ledger, ledger_url, take_away, tmp_path, monkeypatch):
    take_away("releases/")
    monkeypatch.setenv("CORRIGENDA_DATABASE_URL", ledger_url)
    done = CliRunner().invoke(app, ["report", str(tmp_path / "pages")])
    assert done.exit_code == 0, done.output
    assert "The base is in production" in text(tmp_path / "pages" / "index.html")


@pytest.mark.browser
def test_in_a_browser_every_link_leads_on_and_nothing_is_asked_from_elsewhere(written):
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium")
    if chromium is None:
        pytest.skip("there is no chromium; 'make test' installs it for root")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page()
        asked, wrong = [], []
        page.on("request", lambda request: asked.append(request.url))
        page.on("console", lambda message: wrong.append(message.text))
        page.on("dialog", lambda dialog: wrong.append(dialog.message))
        page.goto((written / "index.html").as_uri())
        assert page.locator("img").evaluate("picture => picture.naturalWidth") > 300
        page.get_by_role("link", name="moon").click()
        fact = page.locator("details#moon")
        fact.locator("summary").click()
        assert fact.get_by_text("in candidate").is_visible()
        fact.get_by_role("link", name="release 1").click()
        assert "Release 1" in page.get_by_role("heading", level=1).inner_text()
        page.go_back()
        page.get_by_role("link", name="Decisions").click()
        assert page.get_by_role("row").count() == 3
        browser.close()
    assert wrong == []
    assert all(url.startswith(("file://", "data:")) for url in asked)
