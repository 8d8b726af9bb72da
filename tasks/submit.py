"""Submit: a file of corrections enters the ledger, line by line, and nothing of it is lost.

Whoever submits signs the file with their own key: the ledger keeps who that was beside the requester whom a line names.
Every line becomes an event: `submitted` with its correction, or `refused` with its text and the reason. Submitting the
same file again changes nothing. The file and its evidence are kept by their digests; addresses are stored and never
fetched.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

from editors.digests import canonical_json, sha256_bytes
from governance.acts import Asked
from governance.changes import SUBMIT
from governance.lifecycle import Event
from tasks.acts import of_file, sign_act
from tasks.corrections import Correction, Evidence
from tasks.errors import EvidenceError
from tasks.ledger import Ledger
from tasks.parse import ParsedLine, parse_file
from tasks.people import asker
from tasks.settings import Settings
from tasks.store import Store
from tasks.tables import Standing

AGAIN = {"refused", "cancelled", "rejected"}
EVIDENCE_BYTES = 16 << 20

Fate = Literal["submitted", "queued", "unchanged", "refused"]


class Line(BaseModel):
    """What became of one line of a file."""

    model_config = ConfigDict(frozen=True)

    number: int
    key: str
    fate: Fate
    reasons: tuple[str, ...] = ()


def sign_submission(path: Path, *, by: str, settings: Settings) -> dict[str, Any]:
    """Sign a file of corrections with a person's own key; returns the envelope.

    Raises:
        CorrectionFileError: there is no such file.
        IdentityError: their key is not on this machine.
    """
    return sign_act(Asked(verb=SUBMIT, about=of_file(path)), by=by, settings=settings)


def submit(
    path: Path, *, submission: Mapping[str, Any] | None, ledger: Ledger, store: Store, settings: Settings
) -> list[Line]:
    """Enter every line of a file into the ledger; returns what became of each, in the file's order.

    Args:
        path: of the file.
        submission: its submitter's signature, by `sign_submission`.
        ledger: where it is entered.
        store: keeps the file, the signature, and evidence.
        settings: name the root under which the submitter must be enrolled.

    Raises:
        CorrectionFileError: the file as a whole can't be read; nothing is entered.
        UntrustedError: it is not signed by an enrolled requester, or was used or is too old; nothing is entered.
    """
    parsed_lines = parse_file(path)
    asked = Asked(verb=SUBMIT, about=of_file(path))
    act = asker(submission, asked, role="requester", ledger=ledger, settings=settings)
    kept = {"submission": store.put(canonical_json(submission)).sha256, "sha256": store.put_file(path).sha256}
    known = {s.key: s for s in ledger.standings("correction")}
    lines: list[Line] = []
    events: list[Event] = []
    seen: set[str] = set()
    for parsed in parsed_lines:
        line, event = _enter(parsed, path, submitter=act.by, known=known, seen=seen, store=store)
        lines.append(line)
        seen.add(line.key)
        if event:
            events.append(replace(event, data={**event.data, **kept}))
    ledger.append([act.used(), *events] if events else [])
    return lines


def _enter(
    parsed: ParsedLine, path: Path, *, submitter: str, known: Mapping[str, Standing], seen: set[str], store: Store
) -> tuple[Line, Event | None]:
    if parsed.correction is None:
        return _refuse(parsed, parsed.problems, path, submitter=submitter, known=known, seen=seen)
    try:
        correction = _with_evidence(parsed.correction, path.parent, store)
    except EvidenceError as error:
        return _refuse(parsed, [str(error)], path, submitter=submitter, known=known, seen=seen)
    problems = _id_problems(correction, known, seen)
    if problems:
        return _refuse(parsed, problems, path, submitter=submitter, known=known, seen=seen)
    earlier = known.get(correction.id)
    signed_again = earlier is not None and "submission" not in earlier.content and earlier.state in AGAIN
    if earlier and earlier.content and _same(earlier, correction) and earlier.state != "refused" and not signed_again:
        fate: Fate = "submitted" if earlier.state == "submitted" else "unchanged"  # an intake may have died
        return Line(number=parsed.number, key=correction.id, fate=fate, reasons=(earlier.state,)), None
    data = {"correction": correction.model_dump(mode="json"), "file": path.name, "line": parsed.number}
    event = Event(entity="correction", key=correction.id, kind="submitted", actor=submitter, data=data)
    return Line(number=parsed.number, key=correction.id, fate="submitted"), event


def _id_problems(correction: Correction, known: Mapping[str, Standing], seen: set[str]) -> tuple[str, ...]:
    """An id means one correction: why this one can't have the id it names."""
    if correction.id in seen:
        return (f"the id {correction.id!r} stands twice in this file; give each correction its own, or leave ids out",)
    earlier = known.get(correction.id)
    if earlier and earlier.content and not _same(earlier, correction) and earlier.state not in AGAIN:
        return (
            f"the id {correction.id!r} belongs to another correction, which is {earlier.state}; choose another id, "
            "or leave it out, and name that one in 'supersedes' if this one replaces it",
        )
    return ()


def _same(earlier: Standing, correction: Correction) -> bool:
    return Correction.model_validate(earlier.content["correction"]).content_digest() == correction.content_digest()


def _refuse(
    parsed: ParsedLine,
    reasons: Sequence[str],
    path: Path,
    *,
    submitter: str,
    known: Mapping[str, Standing],
    seen: set[str],
) -> tuple[Line, Event | None]:
    """Keep a refused line under a key of its own, made of its text, so that the same line is kept once."""
    text = parsed.text.encode(errors="backslashreplace").decode().replace("\x00", "\\x00")
    key = f"refused-{sha256_bytes(text.encode())[:12]}"
    line = Line(number=parsed.number, key=key, fate="refused", reasons=tuple(reasons))
    if key in seen or (key in known and known[key].reason == "; ".join(reasons)):
        return line, None
    data = {"text": text, "file": path.name, "line": parsed.number}
    event = Event(entity="correction", key=key, kind="refused", actor=submitter, reason="; ".join(reasons), data=data)
    return line, event


def _with_evidence(correction: Correction, folder: Path, store: Store) -> Correction:
    """Keep the evidence files that a correction names, and name them by digest."""
    kept = tuple(_keep(item, folder, correction.id, store) for item in correction.evidence)
    return correction.model_copy(update={"evidence": kept}) if kept != correction.evidence else correction


def _keep(item: Evidence, folder: Path, key: str, store: Store) -> Evidence:
    if item.kind != "file":
        return item
    file = folder / item.value
    if not file.is_file():
        raise EvidenceError(f"evidence {item.value!r} is no file beside the corrections ({file})")
    if file.stat().st_size > EVIDENCE_BYTES:
        raise EvidenceError(f"evidence {item.value!r} of {key} is over {EVIDENCE_BYTES >> 20} MiB; link to it instead")
    return item.model_copy(update={"sha256": store.put_file(file).sha256})
