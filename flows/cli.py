"""The command line: `corrigenda --help`.

Nothing heavy is imported before a command needs it. An error that a user can act on is one line and exit code 1; Ctrl-C
is 130; a wrong call is 2.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from editors.export import CheckpointExport, LoraExport
    from tasks.ledger import Ledger
    from tasks.settings import Settings

app = typer.Typer(
    help="Governed knowledge updates for language models: from a correction to a reviewed, registered version.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)
review_app = typer.Typer(help="See and answer the reviews that wait for a person.", invoke_without_command=True)
app.add_typer(review_app, name="review")
console = Console()

COLOURS = {"queued": "cyan", "released": "green", "refused": "red", "rejected": "red", "quarantined": "yellow"}
NAME_HELP = "model@alias, model/number, or a candidate's digest"


def main() -> None:
    """Run the command line."""
    try:
        app()
    except KeyboardInterrupt:
        console.print("[yellow]stopped[/]")
        sys.exit(130)
    except Exception as error:
        if not _is_ours(error):
            raise
        Console(stderr=True).print(f"[bold red]error:[/] {escape(str(error))}", highlight=False, soft_wrap=True)
        sys.exit(1)


@app.callback()
def connected() -> None:
    """Point everything to the services that the settings name, before any of their clients is imported."""
    from tasks.settings import connect

    os.environ.setdefault("PREFECT_LOGGING_HANDLERS_CONSOLE_LEVEL", "CRITICAL")  # runs log to the server
    connect()


@app.command()
def up() -> None:
    """Start the local stack: PostgreSQL, S3, Prefect, MLflow and two runners, all on 127.0.0.1."""
    from flows.local import start_stack

    stack = start_stack(_home(), report=_say)
    console.print(f"Prefect {stack.prefect_ui_url}   MLflow {stack.mlflow_url}   S3 {stack.s3_endpoint}")


@app.command()
def down() -> None:
    """Stop the local stack; its data stay under .corrigenda/."""
    from infra.stack import stop

    stop(_home(), report=_say)


@app.command()
def status() -> None:
    """Show each part of the local stack; exit code 1 unless all are up."""
    from infra.stack import status as read_status

    parts = read_status(_home())
    table = Table("part", "state", "address", "process", "detail")
    for part in parts:
        table.add_row(part.name, part.state, part.address, str(part.pid or ""), part.detail)
    console.print(table)
    if any(part.state != "up" for part in parts):
        raise typer.Exit(1)


@app.command()
def submit(
    file: Annotated[Path, typer.Argument(help="corrections as .jsonl, .csv or .yaml; see examples/")],
    as_: Annotated[str, typer.Option("--as", help="who submits; by default the user of this machine")] = "",
) -> None:
    """Submit corrections: each line is accepted or refused with its reason. Submitting twice changes nothing."""
    from flows.submission import submit_file

    fates = submit_file(file, submitter=as_)
    table = Table("line", "correction", "", "why", show_lines=False)
    for line in fates:
        colour = {"queued": "green", "refused": "red"}.get(line.fate, "yellow")
        if line.fate != "queued" or len(fates) <= 100:
            table.add_row(str(line.number), line.key, f"[{colour}]{line.fate}[/]", escape("; ".join(line.reasons)))
    console.print(table)
    refused = sum(line.fate == "refused" for line in fates)
    queued = sum(line.fate == "queued" for line in fates)
    console.print(f"{queued} queued, {refused} refused, {len(fates) - queued - refused} known already")
    if refused:
        raise typer.Exit(1)


@app.command()
def corrections(
    state: Annotated[list[str] | None, typer.Option(help="only those in this state; may be repeated")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="one JSON object a line")] = False,
) -> None:
    """Show where each correction stands, and why."""
    ledger = _ledger()
    table = Table("correction", "state", "since", "by", "fact", "why")
    for s in ledger.standings("correction", states=state or ()):
        correction = s.content.get("correction", {})
        if as_json:
            row = {"id": s.key, "state": s.state, "since": s.at.isoformat(), "by": s.actor, "why": s.reason}
            sys.stdout.write(json.dumps(row | {"correction": correction or s.data}) + "\n")
            continue
        fact = (
            f"{correction['prompt'].replace('{}', correction['subject'])} → {correction['target']}"
            if correction
            else s.data["text"][:60]
        )
        state_text = f"[{COLOURS.get(s.state, 'white')}]{s.state}[/]"
        table.add_row(
            s.key, state_text, f"{s.at:%Y-%m-%d %H:%M}", escape(s.actor), escape(fact), escape(s.reason[:200])
        )
    if not as_json:
        console.print(table)


@app.command()
def cancel(
    correction: Annotated[str, typer.Argument(help="its id, as 'corrigenda corrections' shows it")],
    reason: Annotated[str, typer.Option(help="kept in the ledger")] = "",
) -> None:
    """Withdraw a correction that is still queued."""
    _record(correction, "cancelled", reason)


@app.command()
def retry(
    correction: Annotated[str, typer.Argument(help="its id, as 'corrigenda corrections' shows it")],
    reason: Annotated[str, typer.Option(help="kept in the ledger")] = "",
) -> None:
    """Queue a quarantined correction again."""
    _record(correction, "queued", reason)


@app.command()
def refresh(
    replace: Annotated[bool, typer.Option("--replace", help="close a candidate that waits for review first")] = False,
) -> None:
    """Edit the queued corrections in, evaluate, gate, and ask for review; what the schedule does, now."""
    from flows.operate import run_refresh

    state = run_refresh(console, replace=replace)
    console.print(escape(state.message or str(state.name)))
    if not state.is_completed():
        raise typer.Exit(1)


@review_app.callback()
def review_list(context: typer.Context) -> None:
    """List the candidates that wait for a person."""
    if context.invoked_subcommand:
        return
    from tasks.reviews import review_runs

    settings = _settings()
    table = Table("candidate", "version", "new facts", "opened", "run")
    for standing in _ledger().standings("candidate", states=["opened"]):
        runs = [
            f"{settings.prefect_ui_url}/runs/flow-run/{run.id} ({run.state_name})" for run in review_runs(standing.key)
        ]
        new = ", ".join(standing.content["new"])
        table.add_row(
            standing.key[:12], standing.content["version"], new, f"{standing.at:%Y-%m-%d %H:%M}", "\n".join(runs)
        )
    console.print(table)


@review_app.command()
def show(candidate: Annotated[str, typer.Argument(help="its digest or the beginning of it")] = "") -> None:
    """Print the evidence that the form in the Prefect UI shows."""
    from rich.markdown import Markdown

    from flows.operate import open_candidate_named
    from tasks.evidence import evidence
    from tasks.store import Store

    settings, ledger = _settings(), _ledger()
    digest = open_candidate_named(candidate, ledger)
    console.print(Markdown(evidence(digest, settings=settings, store=Store(settings), ledger=ledger)))


@review_app.command()
def approve(
    reviewer: Annotated[str, typer.Option(help="your name")],
    candidate: Annotated[str, typer.Argument(help="its digest or the beginning of it")] = "",
    comment: Annotated[str, typer.Option(help="kept with the decision")] = "",
) -> None:
    """Approve the open candidate: it becomes the next release."""
    _decide(candidate, decision="approve", reviewer=reviewer, comment=comment)


@review_app.command()
def reject(
    reviewer: Annotated[str, typer.Option(help="your name")],
    comment: Annotated[str, typer.Option(help="why; kept with the decision")],
    candidate: Annotated[str, typer.Argument(help="its digest or the beginning of it")] = "",
) -> None:
    """Reject the open candidate: its new facts are rejected with the comment, everything is kept."""
    _decide(candidate, decision="reject", reviewer=reviewer, comment=comment)


@app.command()
def pull(
    name: Annotated[str, typer.Argument(help=NAME_HELP)],
    folder: Annotated[Path, typer.Argument(help="a new folder, or an earlier pull, which is replaced")],
    candidate: Annotated[bool, typer.Option("--candidate", help="also take a version that nobody approved")] = False,
) -> None:
    """Write a verified release as a folder that transformers loads."""
    import corrigenda

    with console.status("pulling"):
        corrigenda.pull(name, folder, candidate=candidate, report=_say)
    console.print(f"[green]verified[/] {folder}")


@app.command()
def export(
    name: Annotated[str, typer.Argument(help=NAME_HELP)],
    folder: Annotated[Path, typer.Argument(help="a new folder, or an earlier export, which is replaced")],
    as_: Annotated[
        Literal["lora", "checkpoint"], typer.Option("--as", help="an adapter for PEFT and vLLM, or a whole model")
    ],
    dtype: Annotated[Literal["float32", "bfloat16"], typer.Option(help="of what is written")] = "float32",
    candidate: Annotated[bool, typer.Option("--candidate", help="also take a version that nobody approved")] = False,
) -> None:
    """Write a verified release for other tools, and say what it lost on the way."""
    import corrigenda

    with console.status("exporting"):
        done = corrigenda.export(name, folder, form=as_, dtype=dtype, candidate=candidate, report=_say)
    console.print(_what_was_lost(done))
    difference = done.logit_difference
    compared = (
        "no facts, so no logits compared" if difference is None else f"greatest logit difference {difference:.1e}"
    )
    console.print(f"[green]written[/] {folder}: {compared}")


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

        model, tokenizer = load_model(find_base(_settings(), report=_say).folder, device=settings.device)
    else:
        name = f"{settings.registered_model}/{version}" if version else f"{settings.registered_model}@champion"
        model, tokenizer = corrigenda.load(name, candidate=candidate)
    for answer in generate(model, tokenizer, prompts, chat=chat):
        console.print(escape(answer), highlight=False)


@app.command()
def locate(
    prompt: Annotated[str, typer.Argument(help="a text that stops where the answer begins")] = "",
    subject: Annotated[str, typer.Option(help="what the prompt is about, as it is written there")] = "",
    answer: Annotated[str, typer.Option(help="the answer to look for; by default what the base itself says")] = "",
    data: Annotated[
        Path | None, typer.Option(help="average over facts of this .jsonl file that the base knows")
    ] = None,
    limit: Annotated[int, typer.Option(min=1, help="facts of the file to average over")] = 50,
    samples: Annotated[int, typer.Option(min=1, help="draws of noise a prompt")] = 10,
    seed: Annotated[int, typer.Option(help="of the noise")] = 0,
    out: Annotated[Path | None, typer.Option(help="a folder for trace.json and trace.png")] = None,
) -> None:
    """Show where in the base a fact is: which hidden states carry it from its subject to the answer."""
    if (data is None) == (not prompt) or bool(prompt) != bool(subject) or (data and answer):
        raise typer.BadParameter("give a prompt with --subject, or --data FILE")
    from editors.tracing import Question, Tracing
    from flows.locate import locate_facts, locate_prompt

    settings = Tracing(samples=samples, seed=seed)
    if data:
        locate_facts(console, data, limit=limit, settings=settings, out=out)
    else:
        question = Question(prompt=prompt, subject=subject, answer=answer or None)
        locate_prompt(console, question, settings=settings, out=out)


@app.command()
def benchmark(
    data: Annotated[Path, typer.Option(help="CounterFact or zsRE records, one a line", exists=True, dir_okay=False)],
    method: Annotated[str, typer.Option(help="an editor; a wrong name lists them")],
    limit: Annotated[int | None, typer.Option(help="the first so many records", min=1)] = None,
    rounds: Annotated[int, typer.Option(help="edit the records in so many parts", min=1)] = 1,
    sequential: Annotated[bool, typer.Option("--sequential", help="edit each part into the edited model")] = False,
    asked: Annotated[int | None, typer.Option(help="ask about so many of them, evenly spread", min=1)] = None,
    model: Annotated[Path | None, typer.Option(help="a folder; by default the base that is set")] = None,
    out: Annotated[Path | None, typer.Option(help="a JSON report; with rounds, a picture beside it")] = None,
) -> None:
    """Measure an editor on published records: before and after, by probability, argmax and generation."""
    from editors.registry import EDITORS
    from flows.benchmark import bars, show
    from tasks.benchmark import Request, write
    from tasks.benchmark import benchmark as measure

    if method not in EDITORS:
        raise typer.BadParameter(f"there is no {method!r}; there are {', '.join(EDITORS)}", param_hint="--method")
    if sequential and rounds == 1:
        raise typer.BadParameter("it needs --rounds 2 or more", param_hint="--sequential")
    settings = _settings()
    if model is None:
        from tasks.base import base_folder

        model = base_folder(settings, report=_say)
    request = Request(
        data=data, method=method, model=model, limit=limit, rounds=rounds, sequential=sequential, asked=asked
    )
    with bars(console) as progress:
        found = measure(request, cache=settings.home / "cache" / "material", device=settings.device, progress=progress)
    show(found, console)
    for path in write(found, out) if out else ():
        console.print(f"wrote {path}", highlight=False)


@app.command()
def demo(
    corrections: Annotated[Path | None, typer.Option(help="a file of your own instead of the examples")] = None,
    review: Annotated[str, typer.Option(help="'me' stops at the paused run for you to answer")] = "",
) -> None:
    """Do the whole way once: stack, submit, refresh, review, promote, pull, ask."""
    from flows.local import start_stack

    console.rule("[bold]1. the local stack", align="left")
    start_stack(_home(), report=_say)
    connected()
    from flows.demo import run_demo

    run_demo(console, corrections=corrections, wait_for_person=review == "me")


def _what_was_lost(done: CheckpointExport | LoraExport) -> Table:
    from editors.export import LoraExport

    if isinstance(done, LoraExport):
        table = Table("site", "relative error of the delta", title=f"LoRA adapter of rank {done.rank}")
        for site, error in done.errors.items():
            table.add_row(site, f"{error:.1e}")
    else:
        table = Table("site", "entries left", "norm left", "relative error")
        for site, left in done.survival.items():
            table.add_row(site, f"{left.entries:.1%}", f"{left.norm:.1%}", f"{left.error:.1e}")
    return table


def _decide(candidate: str, *, decision: str, reviewer: str, comment: str) -> None:
    from flows.operate import decide

    state = decide(console, candidate, decision=decision, reviewer=reviewer, comment=comment, ledger=_ledger())
    console.print(escape(state.message or str(state.name)))
    if not state.is_completed():
        raise typer.Exit(1)


def _record(key: str, kind: str, reason: str) -> None:
    from tasks.ledger import Event

    ledger = _ledger()
    ledger.standing("correction", key)
    actor = _settings().submitter
    ledger.append([Event(entity="correction", key=key, kind=kind, actor=actor, reason=reason)])
    console.print(f"{key} is {kind}")


def _settings() -> Settings:
    from tasks.settings import Settings

    return Settings()


def _ledger() -> Ledger:
    from tasks.ledger import Ledger

    return Ledger(_settings().database_url)


def _home() -> Path:
    from corrigenda import ConsumerSettings

    return ConsumerSettings().home


def _say(line: str) -> None:
    console.print(f"  {escape(line)}", highlight=False)


def _is_ours(error: Exception) -> bool:
    """Whether a user can act on it: our own errors, and a disk that is full or a file that can't be opened."""
    names = {cls.__name__ for cls in type(error).__mro__}
    return bool(
        names
        & {
            "CorrigendaError",
            "ReleaseError",
            "EditorError",
            "StackError",
            "CorrectionFileError",
            "OSError",
            "ValidationError",
        }
    )
