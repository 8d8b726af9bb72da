"""The demo: the whole way once, on real parts, for somebody who has never seen it.

The first run edits the twelve example corrections in, the second one a thirteenth, which comes out as the next version.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from rich.markup import escape
from rich.table import Table

import corrigenda
from editors.answers import starts_with
from editors.models import load_model
from editors.scoring import generate
from flows.operate import decide, run_refresh
from flows.submission import submit_file
from governance.identities import normalised
from tasks.base import find_base
from tasks.candidate import the_open_candidate
from tasks.collect import corrections_in
from tasks.corrections import Correction
from tasks.errors import CorrigendaError
from tasks.evidence import links
from tasks.ledger import Ledger
from tasks.people import enrol, identities, revoke_identity
from tasks.reviews import paused_run, review_runs
from tasks.roots import root_key
from tasks.settings import Settings

if TYPE_CHECKING:
    from rich.console import Console

EXAMPLES = Path("examples")
FIRST = EXAMPLES / "corrections.jsonl"
SECOND = EXAMPLES / "thirteenth.jsonl"
REVIEWER = "Demo Reviewer"


def run_demo(console: Console, *, corrections: Path | None, wait_for_person: bool) -> None:
    """Go the whole way, and end with the answers of the version that a consumer pulled.

    Raises:
        CorrigendaError: a stage did not do its part; what was done stays, and running it again goes on from there.
    """
    settings = Settings()
    ledger = Ledger(settings.database_url)
    if the_open_candidate(ledger) is not None:
        console.print("A candidate waits for review already, and the demo doesn't decide for a person.")
        _hand_over(console, settings, ledger)
        return
    _submit(console, corrections or _next_file(ledger))
    if not _edit(console, ledger):
        if ledger.head() is None:
            raise CorrigendaError(
                "no correction is queued, so there is nothing to show; see why each was refused above"
            )
        console.print("  nothing is queued: the version in production holds every correction already")
        _answers(console, settings, ledger)
        return
    if wait_for_person:
        _hand_over(console, settings, ledger)
        return
    _stage(console, 4, "review")
    _enrol_reviewer(console, settings, ledger)
    state = decide(console, "", decision="approve", reviewer=REVIEWER, comment="make demo", ledger=ledger)
    if not state.is_completed():
        raise CorrigendaError(f"the review ended as {state.name}: {state.message}")
    console.print(f"  approved by {REVIEWER}")
    _dismiss_reviewer(console, settings, ledger)
    _answers(console, settings, ledger)


def _next_file(ledger: Ledger) -> Path:
    """The twelve, or the thirteenth once they are released."""
    return SECOND if corrections_in(ledger, "released") else FIRST


def _submit(console: Console, file: Path) -> None:
    _stage(console, 2, f"submit {file} and take it in")
    with console.status("validating"):
        lines = submit_file(file)
    for line in lines:
        if line.fate != "queued":
            console.print(f"  line {line.number}: {line.fate}: {escape('; '.join(line.reasons))}", highlight=False)
    console.print(f"  {sum(line.fate == 'queued' for line in lines)} of {len(lines)} corrections queued")


def _edit(console: Console, ledger: Ledger) -> bool:
    """Refresh; whether a candidate waits for review now."""
    _stage(console, 3, "refresh: edit, evaluate, gate, register")
    state = run_refresh(console)
    if not state.is_completed():
        raise CorrigendaError(f"the refresh ended as {state.name}: {state.message}")
    return the_open_candidate(ledger) is not None


def _enrol_reviewer(console: Console, settings: Settings, ledger: Ledger) -> None:
    """Give the demo a reviewer of its own: whoever submitted can't approve."""
    if normalised(REVIEWER) in identities(ledger, settings):
        return
    root = root_key(settings.trust_folder)
    enrol(REVIEWER, roles=["reviewer"], by=settings.submitter, root=root, ledger=ledger, settings=settings)
    console.print(f"  {REVIEWER} is enrolled as reviewer by {escape(settings.submitter)}")


def _dismiss_reviewer(console: Console, settings: Settings, ledger: Ledger) -> None:
    """Leave no second pair of eyes behind whose key lies beside the submitter's."""
    revoke_identity(REVIEWER, by=settings.submitter, reason="the demo is over", ledger=ledger, settings=settings)
    console.print(f"  {REVIEWER} is no reviewer any more")


def _hand_over(console: Console, settings: Settings, ledger: Ledger) -> None:
    """Stop where a person decides."""
    candidate = the_open_candidate(ledger)
    assert candidate is not None, "the refresh opened one"
    run = paused_run(candidate.key, wait_seconds=60)
    console.print(
        f"\nIt is your turn: open [link]{settings.prefect_ui_url}/runs/flow-run/{run.id}[/link], press Resume,"
    )
    console.print("and decide; or 'corrigenda review approve --reviewer NAME'. Then 'corrigenda ask \"…\"' shows")
    console.print("what became of it.")
    console.print("A reviewer is enrolled by 'corrigenda people add NAME --role reviewer', which shows a code for an")
    console.print("authenticator app, and is somebody else than who submitted.")


def _answers(console: Console, settings: Settings, ledger: Ledger) -> None:
    """Pull what is in production as a consumer would, and ask it every fact, beside the base."""
    name = f"{settings.registered_model}@champion"
    _stage(console, 5, f"pull {name} and ask it")
    folder = corrigenda.pull(name, settings.home / "demo" / "assistant")
    facts = corrections_in(ledger, "released")
    after = _ask(folder, facts, device=settings.device)
    before = _ask(find_base(settings).folder, facts, device=settings.device)
    table = Table("prompt", "shall say", "before", "after", "")
    right = 0
    for fact, was, now in zip(facts, before, after, strict=True):
        good = starts_with(now, fact.target) and not starts_with(was, fact.target)
        right += good
        row = [fact.fact().filled, fact.target, was, now]
        table.add_row(*map(escape, row), "[green]right[/]" if good else "[red]wrong[/]")
    console.print(table)
    console.print(f"[bold]{right} of {len(facts)} right[/]")
    _addresses(console, settings, ledger)


def _ask(folder: Path, facts: list[Correction], *, device: str) -> list[str]:
    model, tokenizer = load_model(folder, device=device)
    return generate(model, tokenizer, [fact.fact().filled for fact in facts])


def _addresses(console: Console, settings: Settings, ledger: Ledger) -> None:
    """Where to look further."""
    head = ledger.head()
    assert head is not None, "something was pulled, so something was released"
    opened = ledger.standing("candidate", head.candidate).content
    for run in review_runs(head.candidate):
        console.print(f"Prefect run     {settings.prefect_ui_url}/runs/flow-run/{run.id}", soft_wrap=True)
    for name, url in links(opened, settings).items():
        console.print(f"{name}: {url}", soft_wrap=True)


def _stage(console: Console, number: int, what: str) -> None:
    console.rule(f"[bold]{number}. {what}", align="left")
