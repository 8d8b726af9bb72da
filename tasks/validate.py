"""Validates a batch of corrections with Great Expectations: what shows only beside others, a tokenizer or a clock.

The batch becomes a table, one row a correction. Columns beside the correction's own say what was found (`contradicts`
names the others), so that each rule in `tasks/expectations.py` is one expectation over one table.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from dataclasses import fields as fields_of
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from tasks.conflicts import Conflicts, find_conflicts
from tasks.corrections import Correction
from tasks.resemblance import Resemblance, find_resemblances
from tasks.subjects import control_tokens, read_subjects, texts_of
from tasks.texts import FORBIDDEN, normalised

Row = Mapping[str, Any]
Reasons = dict[str, tuple[str, ...]]

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True, slots=True, kw_only=True)
class Validation:
    """What became of a batch.

    Attributes:
        accepted: ids that may be queued, in the batch's order.
        refusals: the other ids, each with every reason.
        warnings: what a reviewer should know of an id, accepted or not.
        result: Great Expectations' own result, as JSON.
        docs_index: the first page of the Data Docs, if they were asked for.
    """

    accepted: tuple[str, ...] = ()
    refusals: Reasons = field(default_factory=dict)
    warnings: Reasons = field(default_factory=dict)
    result: dict[str, Any] = field(default_factory=dict)
    docs_index: Path | None = None


def validate(
    new: Sequence[Correction],
    *,
    active: Sequence[Correction],
    protected: Sequence[Correction] = (),
    tokenizer: PreTrainedTokenizerFast,
    docs: Path | None = None,
) -> Validation:
    """Check a batch against itself, the active corrections, the model's tokenizer and today's date.

    Args:
        new: the batch; an id may occur once.
        active: the corrections that hold, or wait to.
        protected: facts that nothing may contradict.
        tokenizer: the model's, a fast one: subjects are found by its offsets.
        docs: a folder to build Data Docs in; None builds none.
    """
    if not new:
        return Validation()
    result = _run(_table(new, active=active, protected=protected, tokenizer=tokenizer), docs)
    refusals, warnings = _reasons(result, "critical"), _reasons(result, "warning")
    return Validation(
        accepted=tuple(correction.id for correction in new if correction.id not in refusals),
        refusals=refusals,
        warnings=warnings,
        result=result,
        docs_index=docs / "index.html" if docs else None,
    )


def _table(
    batch: Sequence[Correction],
    *,
    active: Sequence[Correction],
    protected: Sequence[Correction],
    tokenizer: PreTrainedTokenizerFast,
) -> pd.DataFrame:
    fields = ("id", "subject", "prompt", "target", "prior", "relation", "supersedes", "effective", "expires")
    columns: dict[str, list[Any]] = {name: [getattr(correction, name) for correction in batch] for name in fields}
    for name in ("evidence", "paraphrases"):
        columns[name] = [len(getattr(correction, name)) for correction in batch]
    columns["hidden_character"] = [_hidden_character(correction) for correction in batch]
    columns["control_token"] = control_tokens(batch, tokenizer)
    readings = read_subjects(batch, tokenizer)
    columns["subject_trap"] = [reading.trap for reading in readings]
    columns["subject_shares"] = [reading.shared for reading in readings]
    columns["companion_trap"] = _companion_traps(batch, tokenizer)
    columns["repeats_prior"] = [_repeated_prior(correction) for correction in batch]
    conflicts = find_conflicts(batch, active, protected)
    resemblances = find_resemblances(batch, [*active, *protected])
    for kind, found in ((Conflicts, conflicts), (Resemblance, resemblances)):
        for each in fields_of(kind):
            columns[each.name] = [getattr(of_one, each.name) for of_one in found]
    return pd.DataFrame({name: pd.Series(values, dtype=object) for name, values in columns.items()})


def _hidden_character(correction: Correction) -> str | None:
    found = FORBIDDEN.search("".join(texts_of(correction)))
    return f"U+{ord(found[0]):04X}" if found else None


def _companion_traps(batch: Sequence[Correction], tokenizer: PreTrainedTokenizerFast) -> list[str | None]:
    """What the tokenizer makes impossible of each correction's companions."""
    owned = [(place, companion) for place, correction in enumerate(batch) for companion in correction.companions()]
    traps: list[str | None] = [None] * len(batch)
    for (place, companion), reading in zip(owned, read_subjects([c for _, c in owned], tokenizer), strict=True):
        if reading.trap:
            traps[place] = (
                f"{companion.what}: {companion.subject!r} has no tokens of its own in {companion.prompt!r}: "
                f"{reading.trap}"
            )
    return traps


def _repeated_prior(correction: Correction) -> str | None:
    same = correction.prior and normalised(correction.prior) == normalised(correction.target)
    return correction.prior if same else None


def _run(table: pd.DataFrame, docs: Path | None) -> dict[str, Any]:
    os.environ["GX_ANALYTICS_ENABLED"] = "false"  # read when Great Expectations is imported, which takes seconds
    from tasks.expectations import check

    return check(table, docs=docs)


def _reasons(result: Row, severity: str) -> Reasons:
    """Return by id the reasons of all expectations of one severity that it does not meet.

    Raises:
        RuntimeError: an expectation could not be evaluated; nothing may pass unchecked.
    """
    reasons: dict[str, list[str]] = defaultdict(list)
    for outcome in result["results"]:
        config = outcome["expectation_config"]
        if outcome["exception_info"].get("raised_exception"):
            raise RuntimeError(f"{config['type']} failed: {outcome['exception_info']['exception_message']}")
        if config["severity"] == severity and not outcome["success"]:
            for row in outcome["result"]["unexpected_index_list"]:
                reasons[row["id"]].append(config["meta"]["reason"].format(**row))
    return {key: tuple(dict.fromkeys(texts)) for key, texts in reasons.items()}
