"""Commands for whoever writes the policy of a gate."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer
from rich.markup import escape
from rich.table import Table

from flows.commands.terminal import console

app = typer.Typer()
policy_app = typer.Typer(help="Read, check and try the policies of the gate.", no_args_is_help=True)
app.add_typer(policy_app, name="policy")

Named = Annotated[str, typer.Argument(metavar="POLICY", help="a file that ends in .toml, or the name of a shipped one")]
COLOURS = {"pass": "green", "block": "red", "warn": "yellow", "info": "cyan"}


@policy_app.command("list")
def list_() -> None:
    """List the policies that come with the project; the setting CORRIGENDA_POLICY names the one in force."""
    from tasks.policy import read_policy, shipped_policies

    table = Table("policy", "bounds", "digest")
    for name in shipped_policies():
        policy = read_policy(name)
        table.add_row(name, str(len(policy.gate)), policy.digest[:12])
    console.print(table)


@policy_app.command()
def check(policy: Named) -> None:
    """Read a policy back in words; one that makes no sense is refused by name."""
    from tasks.policy import in_words, read_policy

    found = read_policy(policy)
    table = Table("metric", "has to be", "on prompts", "otherwise")
    for bound in found.gate:
        severity = f"[{COLOURS[bound.severity]}]{bound.severity}[/]"
        table.add_row(bound.metric, in_words(bound), f"{bound.count} or more", severity)
    console.print(table)
    reviewers = "1 reviewer has" if found.quorum == 1 else f"{found.quorum} different reviewers have"
    console.print(f"{reviewers} to approve", highlight=False)
    console.print(f"policy {escape(found.name)}, sha256 {found.digest}", highlight=False)


@policy_app.command()
def test(
    policy: Named,
    report: Annotated[Path, typer.Option(help="a candidate's report.json, as MLflow keeps it", exists=True)],
) -> None:
    """Say what a policy would have said of a kept report; exits with 1 where it fails."""
    from tasks.describe import numbers
    from tasks.gate import gate
    from tasks.policy import in_words, read_policy
    from tasks.report import read_report

    verdict = gate(read_report(report), read_policy(policy))
    table = Table("", "metric", "base (→ production) → now", "prompts", "has to be", "why not")
    for outcome in verdict.outcomes:
        where = f" ({escape(outcome.where)})" if outcome.where else ""
        table.add_row(
            f"[{COLOURS[outcome.word]}]{outcome.word}[/]",
            outcome.bound.metric + where,
            numbers(outcome.metric),
            str(outcome.count),
            in_words(outcome.bound),
            escape(outcome.why),
        )
    console.print(table)
    console.print(f"policy {escape(verdict.policy)}: {verdict.word}")
    if not verdict.passed:
        raise typer.Exit(1)


@policy_app.command()
def schema() -> None:
    """Print the JSON schema of a policy's file."""
    from tasks.policy import policy_schema

    sys.stdout.write(json.dumps(policy_schema(), indent=2) + "\n")
