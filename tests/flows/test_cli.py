"""The command line as a whole; each command is tested with what it does."""

from __future__ import annotations

import subprocess
import sys

from typer.main import get_command

from flows.cli import app

COMMANDS = {
    "the local stack": {"up", "down", "status", "demo"},
    "corrections": {"submit", "corrections", "page", "cancel", "retry"},
    "protection": {"protect", "protected", "lift"},
    "policies": {"policy"},
    "reviews": {"refresh", "review"},
    "withdrawals": {"revoke", "expire", "rollback"},
    "releases": {"releases", "pull", "verify", "ask", "diff"},
    "what a service runs": {"lock", "outdated", "serve"},
    "notices": {"notices"},
    "the ledger": {"reconcile", "ledger", "report", "audit"},
    "trust": {"trust", "people"},
    "the engine": {"locate", "benchmark"},
}


def test_all_commands_are_in_one_app_each_with_its_help():
    commands = get_command(app).commands
    assert set(commands) == set().union(*COMMANDS.values())
    assert set(commands["review"].commands) == {"list", "show", "approve", "strike", "reject"}
    assert set(commands["notices"].commands) == {"resend", "automation"}
    assert set(commands["ledger"].commands) == {"verify", "show", "as-of"}
    assert set(commands["audit"].commands) == {"export"}
    assert set(commands["policy"].commands) == {"list", "check", "test", "schema"}
    assert set(commands["trust"].commands) == {"init", "show", "signer"}
    assert set(commands["people"].commands) == {"add", "list", "revoke"}
    assert all(command.help for command in commands.values())


def test_nothing_heavy_is_imported_before_a_command_needs_it():
    heavy = {"torch", "transformers", "prefect", "mlflow", "boto3", "sqlalchemy", "matplotlib"}
    program = "import sys, flows.cli; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert heavy & set(done.stdout.split()) == set()


def test_the_promoters_runs_and_the_terminal_wait_for_no_models_libraries():
    program = "import sys, flows.operate, flows.serve; flows.serve.flows_of('promoter'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert {"torch", "transformers"} & set(done.stdout.split()) == set()
