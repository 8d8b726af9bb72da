"""Commands for the consumer of a release: list them, pull one in a form, verify it, ask it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer
from rich.markup import escape
from rich.table import Table

from flows.commands.terminal import console, open_ledger, read_settings, say

if TYPE_CHECKING:
    from tasks.differences import Difference
    from tasks.report import Metric

app = typer.Typer()

NAME_HELP = "model@alias, model/number, or a candidate's digest"


@app.command()
def releases() -> None:
    """List the releases: when each was approved, by whom, and what it changed."""
    table = Table("release", "candidate", "approved", "by", "facts", "comment")
    ledger = open_ledger()
    for each in ledger.releases():
        opened = ledger.standing("candidate", each.candidate).content
        when, who = f"{each.at:%Y-%m-%d %H:%M}", escape(each.reviewer)
        table.add_row(str(each.position), each.candidate[:12], when, who, _changed(opened), escape(each.comment))
    console.print(table)


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help=NAME_HELP)],
    folder: Annotated[Path, typer.Argument(help="a new folder, or an earlier pull, which is replaced")],
    as_: Annotated[
        Literal["model", "adapter", "checkpoint", "patch"],
        typer.Option("--as", help="a folder for transformers, a LoRA adapter, a model in a precision, a patch"),
    ] = "model",
    dtype: Annotated[
        Literal["float32", "bfloat16"] | None, typer.Option(help="of an adapter or a checkpoint; float32 by default")
    ] = None,
    candidate: Annotated[bool, typer.Option("--candidate", help="also take a version that nobody approved")] = False,
) -> None:
    """Write a verified release into a folder, and say what it lost on the way; what the lock file pins comes first."""
    import corrigenda

    with console.status("pulling"):
        corrigenda.pull(name, folder, form=as_, dtype=dtype, candidate=candidate, report=say)
    console.print(f"[green]verified[/] {folder}")


@app.command()
def verify(
    target: Annotated[
        str, typer.Argument(help=f"a folder that was pulled, or an audit export; or {NAME_HELP}, to pull it first")
    ],
    root: Annotated[str, typer.Option(help="the root's fingerprint; by default that of the settings")] = "",
    base: Annotated[Path | None, typer.Option(help="folder of the base; by default the one in the cache")] = None,
    without_base: Annotated[bool, typer.Option("--without-base", help="not the weights, if it is not here")] = False,
    lock: Annotated[Path | None, typer.Option(help="refuse a release that this lock file does not pin")] = None,
) -> None:
    """Verify a release with no service asked: files, signatures, receipts, the chain to the base, and the weights."""
    import corrigenda
    from consuming.pulling import cached

    folder = Path(target) if Path(target).is_dir() else cached(target, report=say)
    corrigenda.verify(folder, root=root, base=base, without_base=without_base, lock=lock, report=say)
    console.print(f"[green]verified[/] {folder}")


@app.command()
def ask(
    prompts: Annotated[list[str], typer.Argument(help="what to complete, or to ask with --chat")],
    version: Annotated[str, typer.Option(help="a version's number; by default the champion")] = "",
    base: Annotated[bool, typer.Option("--base", help="ask the base model instead")] = False,
    chat: Annotated[bool, typer.Option("--chat", help="through the chat template")] = False,
    candidate: Annotated[bool, typer.Option("--candidate", help="also ask a version that nobody approved")] = False,
) -> None:
    """Ask a released version: greedy, to the answer's natural end."""
    import corrigenda
    from editors.models import load_model
    from editors.scoring import generate

    settings = corrigenda.ConsumerSettings()
    if base:
        from tasks.base import find_base

        model, tokenizer = load_model(find_base(read_settings(), report=say).folder, device=settings.device)
    else:
        name = f"{settings.registered_model}/{version}" if version else f"{settings.registered_model}@champion"
        model, tokenizer = corrigenda.load(name, candidate=candidate, report=say)
    for answer in generate(model, tokenizer, prompts, chat=chat):
        console.print(escape(answer), highlight=False)


@app.command()
def diff(
    one: Annotated[
        str, typer.Argument(metavar="ONE", help="a release's number, model@alias, model/number or a digest")
    ],
    other: Annotated[str, typer.Argument(metavar="OTHER", help="the same, of what is compared with it")],
    answers: Annotated[int, typer.Option(min=0, help="show so many of the answers that differ")] = 20,
) -> None:
    """Show what is different between two releases: facts, metrics and answers."""
    from tasks.differences import content_of, difference

    settings = read_settings()
    first, second = (content_of(name, settings=settings) for name in (one, other))
    found = difference(first, second)
    console.print(
        f"{escape(one)} ({first.candidate[:12]}) → {escape(other)} ({second.candidate[:12]})", highlight=False
    )
    for sign, facts in (("[green]+[/]", found.added), ("[red]-[/]", found.removed)):
        for fact in facts:
            said = escape(f"{fact.filled_prompt} → {fact.target}")
            console.print(f"{sign} {escape(fact.id)}: {said}", highlight=False)
    if not found.added and not found.removed:
        console.print("the same facts")
    console.print(_metrics(found, one, other))
    if found.answers:
        console.print(_answers(found, one, other, limit=answers))


def _metrics(found: Difference, one: str, other: str) -> Table:
    table = Table("metric", escape(one), escape(other))
    for name, (first, second) in found.metrics.items():
        table.add_row(name, *(_measured(metric) for metric in (first, second)))
    return table


def _measured(metric: Metric | None) -> str:
    return "–" if metric is None or metric.after is None else f"{metric.after:.4g} of {metric.count}"


def _answers(found: Difference, one: str, other: str, *, limit: int) -> Table:
    shown, total = found.answers[:limit], len(found.answers)
    title = f"{len(shown)} of {total} answers that differ; --answers {total} shows all" if len(shown) < total else None
    table = Table("asked for", "prompt", escape(one), escape(other), title=title)
    for answer in shown:
        table.add_row(answer.kind, *(escape(text) for text in (answer.prompt, answer.one, answer.other)))
    return table


def _changed(opened: Mapping[str, Any]) -> str:
    """How many facts a candidate added and left out."""
    counts = (("+", len(opened["new"]) + len(opened["returning"])), ("-", len(opened["leaving"])))
    return " ".join(f"{sign}{count}" for sign, count in counts if count)
