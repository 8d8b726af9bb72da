"""The rules of intake as one suite of Great Expectations, and their check.

A rule carries its reason in plain words, in which the columns of a failing row may be named in braces. A rule of
severity "critical" refuses; one of severity "warning" only tells. The fields' own rules, which `Correction` checks at
the boundary, are stated again as the table's contract: a row from the ledger may be older than today's boundary.

Importing this module imports Great Expectations, which takes seconds and reads GX_ANALYTICS_ENABLED: `validate` does.
"""

# pyright: reportPrivateImportUsage=false
# Great Expectations offers its classes from its packages without saying so in __all__.
from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, cast

import pandas as pd
from great_expectations import ExpectationSuite, ValidationDefinition, get_context
from great_expectations.data_context import EphemeralDataContext
from great_expectations.data_context.store.store import DataDocsSiteConfigTypedDict
from great_expectations.data_context.types.base import ProgressBarsConfig
from great_expectations.expectations.core import (
    ExpectColumnPairValuesAToBeGreaterThanB,
    ExpectColumnValueLengthsToBeBetween,
    ExpectColumnValuesToBeBetween,
    ExpectColumnValuesToBeNull,
    ExpectColumnValuesToBeUnique,
    ExpectColumnValuesToMatchRegex,
    ExpectColumnValuesToNotBeNull,
)
from great_expectations.expectations.expectation import Expectation

from tasks.texts import MAX_PROMPT, MAX_SUBJECT, MAX_TARGET

LIMITS = {"subject": MAX_SUBJECT, "prompt": MAX_PROMPT, "target": MAX_TARGET}

# A column of findings must be empty; where it is not, its reason applies.
FINDINGS = {
    "hidden_character": "holds the control or invisible character {hidden_character}; remove it",
    "control_token": "spells out {control_token!r}, a control token of the model; write it otherwise",
    "subject_trap": "subject has no tokens of its own in its prompt: {subject_trap}",
    "companion_trap": "{companion_trap}",
    "repeats_prior": "target says the same as prior, {repeats_prior!r}; there is nothing to correct",
    "duplicate_of": "says the same as {duplicate_of} in this batch",
    "contradicts": (
        "contradicts {contradicts} in this batch: same subject and relation, another target; "
        "keep one of them, or set multi_valued on all if all are right"
    ),
    "disagrees": (
        "answers a question otherwise than another in this batch, {disagrees}; keep one of them, word one prompt "
        "otherwise, or leave that paraphrase, inverse or consequence out"
    ),
    "repeats_active": "says the same as {repeats_active}, which is active; to renew it, set supersedes to its id",
    "contradicts_protected": (
        "contradicts {contradicts_protected}, which is protected: same subject and relation, another target; "
        "'corrigenda lift' ends the protection"
    ),
    "disagrees_protected": (
        "answers a question otherwise than what is protected, {disagrees_protected}; leave that out, or 'corrigenda "
        "lift' ends the protection"
    ),
    "contradicts_active": (
        "contradicts {contradicts_active}, which is active: same subject and relation, another target; "
        "to replace it, set supersedes to its id"
    ),
    "disagrees_active": (
        "answers a question otherwise than what is active, {disagrees_active}; to replace that, set supersedes to its "
        "id, or leave that paraphrase, inverse or consequence out"
    ),
    "wrong_supersedes": "supersedes {wrong_supersedes}",
}
# These are worth telling, and refuse nothing: a count that is zero, a finding that is harmless.
MISSING = {
    "evidence": "gives no evidence; a reviewer has nothing to check it against",
    "paraphrases": "gives no paraphrases; whether it also holds when asked differently is measured by made ones",
}
HARMLESS = {
    "subject_shares": (
        "subject shares a token with the {subject_shares!r} beside it in the prompt: the edit may not be found where "
        "another mark follows; put a word between them if you can"
    ),
    "probably_same": (
        "says something else than {probably_same}: if both are one subject, list that name under aliases, so that "
        "the two are compared"
    ),
    "claimed_twice": (
        "says of its subject what {claimed_twice} says of another, and an inverse allows for one of them only: if "
        "both are right, leave the inverse out"
    ),
}


def check(table: pd.DataFrame, *, docs: Path | None) -> dict[str, Any]:
    """Check a table of corrections against every rule; returns Great Expectations' own result.

    Args:
        table: one row a correction, with the columns that `validate` makes.
        docs: a folder to build Data Docs in; None builds none.
    """
    context = get_context(mode="ephemeral")
    context.variables.progress_bars = ProgressBarsConfig(globally=False)
    asset = context.data_sources.add_pandas("requests").add_dataframe_asset("corrections")
    suite = context.suites.add(ExpectationSuite(name="corrections", expectations=list(_rules())))
    batch = asset.add_batch_definition_whole_dataframe("batch")
    definition = context.validation_definitions.add(ValidationDefinition(name="intake", data=batch, suite=suite))
    result = definition.run(
        batch_parameters={"dataframe": table},
        result_format={"result_format": "COMPLETE", "unexpected_index_column_names": ["id"]},
    )
    if docs:
        _build_docs(context, docs)
    return cast(dict[str, Any], result.to_json_dict())


def _rules() -> Iterator[Expectation]:
    yield from _contract()
    yield from _dates()
    for column, reason in FINDINGS.items():
        yield ExpectColumnValuesToBeNull(column=column, **_critical(reason))
    for column, reason in HARMLESS.items():
        yield ExpectColumnValuesToBeNull(column=column, **_warning(reason))
    for column, reason in MISSING.items():
        yield ExpectColumnValuesToBeBetween(column=column, min_value=1, **_warning(reason))


def _contract() -> Iterator[Expectation]:
    for column in ("id", *LIMITS):
        yield ExpectColumnValuesToNotBeNull(column=column, **_critical(f"{column} is missing"))
    yield ExpectColumnValuesToBeUnique(
        column="id", **_critical("id {id!r} is given to several corrections of this batch; choose another")
    )
    yield ExpectColumnValuesToMatchRegex(
        column="prompt", regex=r"^[^{}]*\{\}[^{}]*$", **_critical("prompt {prompt!r} needs exactly one {{}}")
    )
    for column, limit in LIMITS.items():
        yield ExpectColumnValueLengthsToBeBetween(
            column=column, min_value=1, max_value=limit, **_critical(f"{column} must have 1 to {limit} characters")
        )


def _dates() -> Iterator[Expectation]:
    yield ExpectColumnPairValuesAToBeGreaterThanB(
        column_A="expires",
        column_B="effective",
        ignore_row_if="either_value_is_missing",
        **_critical("expires on {expires}, not after it takes effect on {effective}; correct one of the dates"),
    )
    yield ExpectColumnValuesToBeBetween(
        column="expires", min_value=datetime.now(UTC), **_critical("expired on {expires}; give a later date, or none")
    )


def _critical(reason: str) -> dict[str, Any]:
    return {"severity": "critical", "meta": {"reason": reason}, "notes": reason}


def _warning(reason: str) -> dict[str, Any]:
    return {"severity": "warning", "meta": {"reason": reason}, "notes": reason}


def _build_docs(context: EphemeralDataContext, folder: Path) -> None:
    store = {"class_name": "TupleFilesystemStoreBackend", "base_directory": str(folder.resolve())}
    index = {"class_name": "DefaultSiteIndexBuilder"}
    site = DataDocsSiteConfigTypedDict(class_name="SiteBuilder", store_backend=store, site_index_builder=index)
    context.add_data_docs_site("corrections", site)
    context.build_data_docs(["corrections"])
