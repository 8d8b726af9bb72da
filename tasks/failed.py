"""What is kept of a candidate that failed its gate: the page with every bound and answer, so that a person sees why.

Nothing is registered of such a candidate, so its page is not in MLflow: it is a blob of the object store, which the
run's artifact, its error and the facts that were set aside for it name by its sha256.
"""

from __future__ import annotations

from prefect import task

from consuming.objects import Objects
from editors.digests import DIGEST
from tasks.errors import UnknownKeyError
from tasks.gate import Verdict
from tasks.ledger import Ledger
from tasks.report import Report
from tasks.retries import WHILE_AWAY
from tasks.settings import Settings
from tasks.store import Store


def keep_page(report: Report, verdict: Verdict, *, title: str, store: Store) -> str:
    """Keep the page of a failed candidate; returns its sha256."""
    from tasks.page import page  # matplotlib takes a second to import, and is needed only here

    return store.put(page(report, verdict, title=title).encode()).sha256


def where_to_look(page: str) -> str:
    """Say where a kept page is, and how to read it."""
    return f"every bound and answer is in s3://{Settings().s3_bucket}/blobs/{page}: 'corrigenda page {page} FILE'"


def read_page(name: str, *, ledger: Ledger, store: Objects) -> bytes:
    """The page with this sha256, or the one for which a correction was set aside.

    Raises:
        UnknownKeyError: the correction was not set aside, or nothing of it was kept.
        AlteredError: the page is missing, or hashes to something else.
    """
    if DIGEST.fullmatch(name):
        return store.get(name)
    standing = ledger.standing("correction", name)
    if "page" not in standing.data:
        raise UnknownKeyError(
            f"correction {name!r} is {standing.state}, and no page of a failed candidate goes with that; "
            "see 'corrigenda corrections --state quarantined'"
        )
    return store.get(standing.data["page"])


@task(name="keep page", **WHILE_AWAY)
def keep_page_task(report: Report, verdict: Verdict, title: str) -> str:
    """Keep the page of a failed candidate."""
    return keep_page(report, verdict, title=title, store=Store(Settings()))
