"""Describe: what a reviewer reads, as Markdown.

The form in the Prefect UI is 450 pixels wide, and cells of a table don't wrap there: so answers are lists, and the one
table has its verdicts in front.

Everything that came with a request is data: it is escaped, so that a subject can't forge a heading, a link or a row.
"""

from __future__ import annotations

import html
import re
from collections.abc import Mapping, Sequence
from urllib.parse import quote

from tasks.collect import Leaving
from tasks.corrections import Correction, Evidence
from tasks.gate import Outcome, Verdict
from tasks.policy import in_words
from tasks.report import Answer, Metric, Passage, Report, Said

SPECIAL = re.compile(r"([\\`*_{}\[\]()#+\-!|~:.>])")
SHOWN = 50
TAIL = 120
DIGITS = 16
OF_ADDRESSES = ":/?#@!$&'+,;=%"
"""What stays as it is in an address; brackets, and whatever else Markdown could take for its own, are in per cent."""


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
    submitters: Mapping[str, str] | None = None,
    asked_by: str = "",
    report: Report,
    verdict: Verdict,
    links: Mapping[str, str],
) -> str:
    """The evidence for one candidate: verdict, facts with what supports them, answers, metrics beside bounds, links."""
    head = f"# Review candidate {candidate[:12]}: {in_short(new, returning, leaving)}\n\n"
    facts = (*new, *returning)
    lines = [
        f"Version **{version}** of the registered model, on top of `{parent[:12]}`. "
        f"The gate *{escape(verdict.policy)}* says **{verdict.word}**"
        + (f", with {counted(len(verdict.warnings), 'warning')}." if verdict.warnings else ".")
        + (f" Asked for by {escape(asked_by)}." if asked_by else ""),
        "",
        "Approving makes it the next release. Rejecting keeps production as it is"
        + (", and rejects the new facts below. " if new else ".")
        + ("Striking rejects single ones, and the rest comes back as a new candidate." if len(new) > 1 else ""),
        "",
        leaving_list(leaving),
        withdrawn_list(report),
        facts_list("Facts that hold again" if returning and not new else "New facts", facts, report, submitters or {})
        if facts
        else "",
        what_follows(report),
        changed_since(report),
        metrics_table(verdict),
        lost_protected(report),
        changed_neighbours(report),
        worst_of_text(report),
        "## Links\n\n" + "\n".join(f"- [{name}]({url})" for name, url in links.items()),
    ]
    return head + "\n".join(lines) + "\n"


def asked_again(reason: str, *, approved: Sequence[str], quorum: int) -> str:
    """What stands on top of the form: why it asks again, and who approves so far."""
    told = [f"**Asked again:** {escape(reason)}."] if reason else []
    if approved:
        names = ", ".join(map(escape, approved))
        told.append(f"**{len(approved)} of {quorum} approvals:** {names}. Another reviewer is asked.")
    return "".join(f"> {line}\n\n" for line in told)


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


def facts_list(title: str, facts: Sequence[Correction], report: Report, submitters: Mapping[str, str]) -> str:
    """Each fact with its answers, its id, who asked for it and who submitted it, why, and what supports it."""
    rows = [
        _fact(c, [a for a in report.of_kind("efficacy") if a.correction == c.id], submitters.get(c.id)) for c in facts
    ]
    return _section(title, rows[:SHOWN], of=len(facts))


def support(evidence: Sequence[Evidence]) -> str:
    """Where a reviewer can check a fact: addresses as links, files by their digest."""
    return ", ".join(map(_pointer, evidence)) or "none given"


def changed_since(report: Report) -> str:
    """The earlier facts that are answered otherwise than in production; nothing where there are none of them."""
    earlier = [a for a in report.of_kind("retention") if a.parent]
    changed = [a for a in earlier if a.parent and a.parent.text != a.after.text]
    if not earlier:
        return ""
    if not changed:
        return f"## Earlier facts\n\n{counted(len(earlier), 'answer')} about them, all as in production.\n"
    rows = [
        f"- {_tick(a.after.generation)} **{escape(a.prompt)}** → {escape(a.target)}. "
        f"Production: *{_text(a.parent)}* Now: *{_text(a.after)}*"
        for a in changed[:SHOWN]
    ]
    return _section(f"Earlier facts that answer differently: {len(changed)} of {len(earlier)}", rows, of=len(changed))


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


def _fact(correction: Correction, answers: Sequence[Answer], submitter: str | None) -> str:
    said = [
        f"- {_tick(a.after.generation)} **{escape(a.prompt)}** → {escape(a.target)}. {_in_all(a)}{_origin(a)}"
        for a in answers
    ] or [f"- **{escape(correction.filled_prompt)}** → {escape(correction.target)}. Not asked."]
    return "\n".join(
        [
            *said,
            f"  - Id {escape(correction.id)}, {_by(correction, submitter)}: {escape(correction.reason) or 'no reason'}",
            f"  - Evidence: {support(correction.evidence)}",
        ]
    )


def _by(correction: Correction, submitter: str | None) -> str:
    """Who asked for a fact, and who submitted it."""
    if not submitter:
        return f"asked for by {escape(correction.requester or 'nobody named')}"
    if correction.requester is None:
        return f"asked for and submitted by {escape(submitter)}"
    return f"asked for by {escape(correction.requester)}, submitted by {escape(submitter)}"


def _pointer(item: Evidence) -> str:
    """An address as a link whose text is the address itself, or a file with its digest."""
    if item.kind == "file":
        return f"file {escape(item.value)}" + (f" (sha256 {item.sha256[:DIGITS]}…)" if item.sha256 else "")
    address = quote(item.value, safe=OF_ADDRESSES)
    return f"[{address}](<{address}>)"  # Prefect's UI shows a link's text as it stands, backslashes and all


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


def _in_all(answer: Answer) -> str:
    """The answers of base, production and candidate; production's only where it is another than the base's."""
    other = (
        f"Production: *{_text(answer.parent)}* " if answer.parent and answer.parent.text != answer.before.text else ""
    )
    return f"Before: *{_text(answer.before)}* {other}Now: *{_text(answer.after)}*"


def _text(said: Said | None) -> str:
    return escape(said.text) or "nothing" if said else "not asked"


def _origin(answer: Answer) -> str:
    return " (a made prompt)" if answer.made else ""


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.4g}"


def _tick(right: bool | None) -> str:
    return {True: "✓", False: "✗", None: "–"}[right]
