"""Commands for whoever studies editing: where facts are, and what an editor does to published records."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from flows.commands.terminal import console, read_settings, say

app = typer.Typer()


@app.command()
def locate(
    prompt: Annotated[str, typer.Argument(help="a text that stops where the answer begins")] = "",
    subject: Annotated[str, typer.Option(help="what the prompt is about, as it is written there")] = "",
    answer: Annotated[str, typer.Option(help="the answer to look for; by default what the base itself says")] = "",
    data: Annotated[
        Path | None, typer.Option(help="average over facts of this .jsonl file that the base knows")
    ] = None,
    suggest: Annotated[
        bool, typer.Option("--suggest", help="instead rank layers: edit CounterFact records of --data at each alone")
    ] = False,
    traces: Annotated[
        Path | None, typer.Option(help="a kept average trace.json to hold the ranking against", dir_okay=False)
    ] = None,
    limit: Annotated[int | None, typer.Option(min=1, help="facts of the file; by default 50, or 30 to suggest")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="draws of noise a prompt; by default 10")] = None,
    every: Annotated[int, typer.Option(min=1, help="only every so many layers")] = 1,
    seed: Annotated[int, typer.Option(help="of all draws")] = 0,
    out: Annotated[Path | None, typer.Option(help="a folder for data and picture")] = None,
) -> None:
    """Show where in the base a fact is: which hidden states carry it to the answer, or which layer to write it at."""
    if (data is None) == (not prompt) or bool(prompt) != bool(subject) or (data and answer):
        raise typer.BadParameter("give a prompt with --subject, or --data FILE")
    if (suggest and not data) or (traces and not suggest):
        raise typer.BadParameter("--suggest needs --data FILE, and --traces needs --suggest")
    if suggest and samples:
        raise typer.BadParameter("--suggest edits and draws no noise: leave --samples out")
    from editors.tracing import Question, Tracing
    from flows.locate import locate_facts, locate_prompt, suggest_layers

    settings = Tracing(samples=samples or 10, every=every, seed=seed)
    if data and suggest:
        suggest_layers(console, data, limit=limit or 30, every=every, seed=seed, traces=traces, out=out)
    elif data:
        locate_facts(console, data, limit=limit or 50, settings=settings, out=out)
    else:
        question = Question(prompt=prompt, subject=subject, answer=answer or None)
        locate_prompt(console, question, settings=settings, out=out)


@app.command()
def benchmark(
    data: Annotated[
        Path,
        typer.Option(help="CounterFact, zsRE, KnowEdit, MQuAKE or HalluEditBench records", exists=True, dir_okay=False),
    ],
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
    settings = read_settings()
    if model:
        settings = settings.model_copy(update={"model": str(model.absolute())})
    request = Request(data=data, method=method, limit=limit, rounds=rounds, sequential=sequential, asked=asked)
    with bars(console) as progress:
        found = measure(request, settings=settings, progress=progress, report=say)
    show(found, console)
    for path in write(found, out) if out else ():
        console.print(f"wrote {path}", highlight=False)
