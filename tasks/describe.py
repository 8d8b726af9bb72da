"""Describe: what a reviewer reads, as Markdown.

The form in the Prefect UI is 450 pixels wide, and cells of a table don't wrap there: so answers are lists, and the one
table has its verdicts in front.

Everything that came with a request is data: it is escaped, so that a subject can't forge a heading, a link or a row.
"""

from __future__ import annotations

import html
import re
from collections.abc import Sequence

from tasks.collect import Leaving
from tasks.corrections import Correction
from tasks.gate import Outcome, Verdict
from tasks.policy import in_words
from tasks.report import Answer, Metric, Passage, Report, Said

SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-!|~:.>])")
SHOWN = 50
TAIL = 120


def escape(text: str) -> str:
    """Text that Markdown and HTML both show as it stands, on one line."""
    flat = " ".join(text.split())
    return SPECIAL.sub(r"\\\1", html.escape(flat, quote=False))


def review_text(
    *,
    candidate: str,
    version: str,
    parent: str,
    new: Sequence[Correction],
    returning: Sequence[Correction] = (),
    leaving: Sequence[Leaving] = (),
    report: Report,
    verdict: Verdict,
    links: dict[str, str],
) -> str:
    """The evidence for one candidate: verdict, facts, answers before and after, metrics beside bounds, links."""
    head = f"# Review candidate {candidate[:12]}: {in_short(new, returning, leaving)}\n\n"
    lines = [
        f"Version **{version}** of the registered model, on top of `{parent[:12]}`. "
        f"The gate *{escape(verdict.policy)}* says **{verdict.word}**"
        + (f", with {counted(len(verdict.warnings), 'warning')}." if verdict.warnings else "."),
        "",
        "Approving makes it the next release. Rejecting keeps production as it is"
        + (", and rejects the new facts below." if new else "."),
        "",
        leaving_list(leaving),
        withdrawn_list(report),
        answers_list("Facts that hold again" if returning and not new else "New facts", report.of_kind("efficacy"))
        if new or returning
        else "",
        what_follows(report),
        metrics_table(verdict),
        lost_protected(report),
        changed_neighbours(report),
        worst_of_text(report),
        evidence(new) if new else "",
        "## Links\n\n" + "\n".join(f"- [{name}]({url})" for name, url in links.items()),
    ]
    return head + "\n".join(lines) + "\n"


def counted(number: int, what: str) -> str:
    """A number of things, in the singular where it is one."""
    return f"{number} {what}" + ("" if number == 1 else "s")


def in_short(new: Sequence[Correction], returning: Sequence[Correction], leaving: Sequence[Leaving]) -> str:
    """What a candidate changes, in a few words."""
    parts = (
        counted(len(new), "new fact") if new or not (returning or leaving) else "",
        f"{counted(len(returning), 'fact')} back" if returning else "",
        f"{counted(len(leaving), 'fact')} out" if leaving else "",
    )
    return ", ".join(part for part in parts if part)


def leaving_list(leaving: Sequence[Leaving]) -> str:
    """The facts that are left out, why, and who asked; nothing where there are none."""
    if not leaving:
        return ""
    rows = [
        f"- **{escape(each.correction.filled_prompt)}** → {escape(each.correction.target)} becomes {each.becomes}: "
        f"{escape(each.reason)} (asked by {escape(each.asked_by)})"
        for each in leaving[:SHOWN]
    ]
    return _section("Facts that leave", rows, of=len(leaving))


def withdrawn_list(report: Report) -> str:
    """What is answered where a fact was withdrawn, in production and now; nothing where none was."""
    answers = report.of_kind("absence")
    if not answers:
        return ""
    rows = [
        f"- {_tick(a.after.generation)} **{escape(a.prompt)}** no longer {escape(a.target)}. "
        f"Production: *{_text(a.parent)}* Now: *{_text(a.after)}* Base: *{_text(a.before)}*"
        for a in answers[:SHOWN]
    ]
    return _section("Withdrawn facts", rows, of=len(answers))


def answers_list(title: str, answers: Sequence[Answer]) -> str:
    """Prompt, target and the two answers of each question."""
    rows = [
        f"- {_tick(a.after.generation)} **{escape(a.prompt)}** → {escape(a.target)}. {_before_and_now(a)}{_origin(a)}"
        for a in answers[:SHOWN]
    ]
    return _section(title, rows or ["None."], of=len(answers))


def what_follows(report: Report) -> str:
    """What is edited in with the new facts, and what should follow by itself; nothing where there is neither."""
    asked = {
        "Edited in with them": report.of_kind("inverse_edited", "portability_edited"),
        "Should follow by itself, and is not edited in": report.of_kind("inverse", "portability"),
    }
    return "\n".join(answers_list(title, answers) for title, answers in asked.items() if answers)


def metrics_table(verdict: Verdict) -> str:
    """Every bound beside the numbers that it was held against."""
    head = "## Metrics and bounds\n\n| | metric | base (→ production) → now | bound | asked |\n|---|---|---|---|---|\n"
    return head + "\n".join(_row(outcome) for outcome in verdict.outcomes) + "\n"


def asked(outcome: Outcome) -> str:
    """On how many prompts a bound was held, and how many of them were made."""
    made = outcome.metric.made if outcome.metric else 0
    return f"{outcome.count}" + (f", {made} made" if made else "")


def numbers(metric: Metric | None) -> str:
    """A metric's numbers of the base, of production where it differs, and of the patched model."""
    if metric is None:
        return "–"
    told = (
        [metric.before, metric.after]
        if metric.parent == metric.before
        else [metric.before, metric.parent, metric.after]
    )
    return " → ".join(map(_number, told))


def changed_neighbours(report: Report) -> str:
    """The neighbours whose answer changed: where to look first."""
    changed = [a for a in report.of_kind("specificity") if a.before.text != a.after.text]
    if not changed:
        return "## Neighbours\n\nNo neighbour's answer changed.\n"
    rows = [f"- **{escape(a.prompt)}** {_before_and_now(a)}{_origin(a)}" for a in changed[:SHOWN]]
    head = f"## Neighbours that answer differently: {len(changed)} of {len(report.of_kind('specificity'))}\n\n"
    return head + "\n".join(rows) + "\n" + _more(len(changed))


def worst_of_text(report: Report) -> str:
    """The places in ordinary text behind which most has moved; nothing where none was looked at."""
    worst = report.passages_of("blast")
    rows = [
        f"- {passage.after.kl or 0:.2g} nats behind *…{escape(passage.prompt[-TAIL:])}* {_before_and_now(passage)}"
        for passage in worst
    ]
    return "## Ordinary text that changed most\n\n" + "\n".join(rows) + "\n" if worst else ""


def lost_protected(report: Report) -> str:
    """The protected facts that production has right and the candidate has not; nothing where there are none."""
    lost = [a for a in report.of_kind("protected") if a.parent and a.parent.generation and not a.after.generation]
    return answers_list(f"Protected facts that are lost: {len(lost)}", lost) if lost else ""


def evidence(corrections: Sequence[Correction]) -> str:
    """Who asked for each fact, why, and what supports it."""
    lines = [
        f"- **{escape(c.subject)}** ({escape(c.id)}), asked for by {escape(c.requester or 'nobody named')}: "
        f"{escape(c.reason) or 'no reason given'}. Evidence: "
        + (", ".join(escape(item.value) for item in c.evidence) or "none given")
        for c in corrections[:SHOWN]
    ]
    return "## Evidence\n\n" + "\n".join(lines) + "\n" + _more(len(corrections))


def _section(title: str, rows: Sequence[str], *, of: int) -> str:
    """Some rows below a heading, and how many more there are."""
    return f"## {title}\n\n" + "\n".join(rows) + "\n" + _more(of)


def _more(total: int) -> str:
    return f"\n… and {total - SHOWN} more in the report.\n" if total > SHOWN else ""


def _row(outcome: Outcome) -> str:
    said = "pass" if outcome.passed else f"**{'fail' if outcome.word == 'block' else outcome.word}**"
    where = f" ({escape(outcome.where)})" if outcome.where else ""
    told = f"{numbers(outcome.metric)} | {in_words(outcome.bound)} | {asked(outcome)}"
    return f"| {said} | {outcome.bound.metric}{where} | {told} |"


def _before_and_now(answer: Answer | Passage) -> str:
    return f"Before: *{_text(answer.before)}* Now: *{_text(answer.after)}*"


def _text(said: Said | None) -> str:
    return escape(said.text) or "nothing" if said else "not asked"


def _origin(answer: Answer) -> str:
    return " (a made prompt)" if answer.made else ""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _tick(right: bool | None) -> str:
    return {True: "✓", False: "✗", None: "–"}[right]
