"""Changes: whether a candidate changes only what it says, and brings, takes out and brings back only what it may.

All is held against the parent: what stays says what it said, what is new was submitted by whom the ledger names, in a
file that they signed, what has expired is due by its own date, what is superseded has a new fact in its place, and for
everything that is revoked, held or brought back there is the act of somebody who asked for just that.

The platform asks when it promotes, of its database; an auditor asks again, of the events alone.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from editors.digests import digest_of
from editors.errors import UntrustedError
from governance.acts import Act, Asked, check_act, read_act
from governance.errors import ForgedError, SpentActError, UnaskedError
from governance.events import Row, until
from governance.history import Past
from governance.lifecycle import ACTOR, in_utc
from governance.receipts import SKEW

Facts = Mapping[str, Mapping[str, Any]]
"""The facts of a release or candidate as they were submitted, by their ids."""

SUBMIT = "submit"
"""What somebody signs who submits a file."""
RETRY = "retry"
"""What somebody signs who queues a correction again."""
SIGNED = {"submission": str, "sha256": str, "file": str, "line": int}
"""What the ledger keeps of a line whose file was signed."""
DECIDED = ("parent", "new", "returning", "leaving")
"""What of a manifest the ledger keeps, since a decision carries it out."""
BY_THEMSELVES = ("expired", "superseded")
"""How facts leave that nobody has to ask for."""
USES = ["used", "in candidate"]
"""What happens to the act behind a candidate, once."""
NO_CONTENT = {"id", "editing"}
"""What of a fact is nothing that was asked for: its name, and how it is edited."""
ANEW = "make the candidate anew with 'corrigenda refresh --replace'"
ASK = "whoever wants it runs 'corrigenda revoke' or 'corrigenda rollback', which signs for it"


@dataclass(frozen=True, slots=True, kw_only=True)
class Submission:
    """A file that somebody signed for, and what came from it.

    Attributes:
        act: what they signed.
        file: its name.
        sha256: its digest.
        events: that submitted corrections from it, whose data names the line of each.
    """

    act: Act
    file: str
    sha256: str
    events: Sequence[Row]


def content_digest(fact: Mapping[str, Any]) -> str:
    """The digest of all that was asked for with a fact."""
    return digest_of({name: value for name, value in fact.items() if name not in NO_CONTENT})


def words_of(rollback: Asked) -> str:
    """Why a rollback lets a fact leave, as the ledger and the reviewer read it."""
    (release,) = rollback.about
    return f"rolled back to {release}: {rollback.reason}"


def check_opened(manifest: Mapping[str, Any], opened: Mapping[str, Any]) -> None:
    """Refuse a candidate for which the ledger would carry out something else than its manifest names.

    Raises:
        UnaskedError: it would.
    """
    if other := [name for name in DECIDED if opened.get(name) != manifest[name]]:
        raise UnaskedError(
            f"the candidate was opened with another {' and '.join(other)} than its manifest names; {ANEW}"
        )


def check_changes(manifest: Mapping[str, Any], *, before: Facts, after: Facts) -> None:
    """Refuse a candidate whose facts are not its parent's, without what leaves and with what is new or comes back.

    Raises:
        UnaskedError: it has others, lacks one, or lets one say something else.
    """
    brought = {*manifest["new"], *manifest["returning"]}
    gone = {each["id"] for each in manifest["leaving"]}
    kept = before.keys() - gone
    listed = [each["id"] for each in manifest["facts"]]
    odd = (after.keys() ^ (kept | brought)) | (after.keys() ^ set(listed))
    odd |= (gone - before.keys()) | (brought & before.keys())
    odd |= {key for key in kept & after.keys() if after[key] != before[key]}
    if odd or len(listed) != len(after):
        named = ", ".join(sorted(odd)) or "one fact twice"
        raise UnaskedError(f"its facts are not its parent's with the changes that it names: {named}; {ANEW}")


def told_of(key: str, *, past: Past, before: int | None = None) -> Mapping[str, Any]:
    """A correction as the ledger last told it, of all events or those before a number.

    Raises:
        ForgedError: it never did.
    """
    told: Mapping[str, Any] | None = None
    for event in until(past.of("correction", key), before):
        told = event["data"].get("correction", told)
    if told is None:
        raise ForgedError(f"nobody signed for the correction {key!r}; cancel it, and submit it again")
    return told


def submitting(key: str, *, past: Past, before: int | None = None) -> Row | None:
    """The event that last submitted a correction, of all or before a number."""
    known = [each for each in until(past.of("correction", key), before) if each["kind"] == "submitted"]
    return known[-1] if known else None


def submissions_of(
    keys: Sequence[str],
    *,
    past: Past,
    envelope_of: Callable[[str], Mapping[str, Any]],
    before: int | None = None,
) -> list[Submission]:
    """What signed for corrections when each was last submitted, if its submitter did, as the ledger names them.

    Args:
        keys: their ids.
        past: the events.
        envelope_of: the envelope of a signed submission, by its sha256.
        before: of the events, only those before this number.

    Raises:
        UntrustedError: somebody did not sign, or too long before; the first correction is named.
    """
    acts: dict[tuple[str, ...], Act] = {}
    found: dict[tuple[str, ...], list[Row]] = {}
    for key in keys:
        event = submitting(key, past=past, before=before)
        if event is None or not all(isinstance(event["data"].get(name), kind) for name, kind in SIGNED.items()):
            raise ForgedError(f"nobody signed for the correction {key!r}; cancel it, and submit it again")
        given = (*(event["data"][name] for name in ("submission", "sha256", "file")), event["actor"])
        if given not in acts:
            try:
                acts[given] = _act_of_submission(event, past, envelope_of)
            except UntrustedError as error:
                raise type(error)(f"the correction {key!r}: {error}") from error
        found.setdefault(given, []).append(event)
    return [
        Submission(act=acts[given], file=given[2], sha256=given[1], events=events) for given, events in found.items()
    ]


def check_entered_once(submission: Submission, past: Past) -> None:
    """Refuse what was entered by a signature that was used at another time, or is not the one that was used.

    Raises:
        SpentActError: it was.
        ForgedError: it isn't.
    """
    act = submission.act
    used = past.of("act", act.digest)[:1]
    if used and used[0]["data"].get("envelope") != act.envelope:
        raise ForgedError(f"{submission.file}: what is kept as its signature by {act.by} is not the one that was used")
    for event in submission.events:
        if [use["at"] for use in used] != [event["at"]]:
            raise SpentActError(
                f"what {act.by} signed at {in_utc(act.at)} was entered again at {in_utc(event['at'])}; cancel it, and "
                "submit it under another id"
            )


def check_editing(key: str, fact: Mapping[str, Any], *, past: Past, before: int | None = None) -> None:
    """Refuse a fact that is edited with other settings than somebody signed for who queued it again.

    Args:
        key: its id.
        fact: as the candidate holds it.
        past: the events.
        before: of those, only the ones before this number.

    Raises:
        UnaskedError: it is.
    """
    editing: Mapping[str, Any] = fact.get("editing") or {}
    given = {name: value for name, value in editing.items() if value is not None}
    signed: Mapping[str, Any] = {}
    for event in until(past.of("correction", key), before):
        anew: Mapping[str, Any] = {}
        settings = anew if event["kind"] == "submitted" else _settings_signed(event, content_digest(fact), past)
        signed = signed if settings is None else settings
    if given != signed:
        raise UnaskedError(
            f"{key} is edited with {given or 'the usual settings'}, signed for was {dict(signed) or 'nothing else'}; "
            f"'corrigenda cancel' takes it back, and it can be submitted under another id. {ANEW[0].upper()}{ANEW[1:]}"
        )


def check_withdrawal(
    manifest: Mapping[str, Any],
    *,
    before: Facts,
    after: Facts,
    past: Past,
    facts_of: Callable[[str], Facts | None],
    now: datetime,
) -> None:
    """Refuse a candidate that takes out or brings back what nobody asked for.

    Args:
        manifest: of the candidate.
        before: the facts of its parent.
        after: its own.
        past: the events.
        facts_of: the facts of a release, by its digest, or None where it is none.
        now: when it is to be released, or was.

    Raises:
        UnaskedError: the fact is named, or the act is another candidate's.
        UntrustedError: the act is not signed by somebody who could ask for it then.
    """
    new = {key: after[key] for key in manifest["new"]}
    asked = [each for each in manifest["leaving"] if each["becomes"] not in BY_THEMSELVES]
    for each in manifest["leaving"]:
        if each not in asked:
            _check_by_itself(each, before[each["id"]], new, now=now)
    if not manifest.get("act"):
        unasked = [*(each["id"] for each in asked), *manifest["returning"]]
        _refuse_if(unasked, "withdrawn or brought back, and nobody signed for that")
        return
    act = _act_of(manifest, past)
    others = [each["id"] for each in asked if each["asked_by"] != act.by]
    _refuse_if([*new, *others], f"not part of what {act.by} signed")
    if act.asked.verb == "revoke":
        _check_revoked(manifest["returning"], asked, act, before=before, after=after)
    elif act.asked.verb == "rollback":
        (release,) = act.asked.about.values()
        then: Facts | None = {} if release == manifest["base"] else facts_of(release)
        if then is None:
            raise UnaskedError(f"what {act.by} signed leads back to {release[:12]}, which is no release; {ASK}")
        _check_rolled_back(asked, act, before=before, after=after, then=then)
    else:
        raise UnaskedError(f"{act.by} signed a {act.asked.verb!r}, which withdraws nothing; {ASK}")


def _act_of_submission(event: Row, past: Past, envelope_of: Callable[[str], Mapping[str, Any]]) -> Act:
    """Refuse a signature that isn't the submitter's, is over another file than the one of the event, or older."""
    data = event["data"]
    asked = Asked(verb=SUBMIT, about={data["file"]: data["sha256"]})
    then = past.identities(event["seq"])
    signed = check_act(envelope_of(data["submission"]), asked, role="requester", identities=then)
    if signed.by != event["actor"]:
        raise ForgedError(f"{signed.by} signed for {event['key']!r}, which stands as submitted by {event['actor']!r}")
    signed.check_age(event["at"], late=SKEW)
    return signed


def _settings_signed(event: Row, fact: str, past: Past) -> Mapping[str, Any] | None:
    """The settings that somebody signed for who queued a fact again by an event; None where they stay as they were."""
    if event["kind"] != "queued" or "act" not in event["data"]:
        return None
    for use in past.of("act", str(event["data"]["act"])):
        try:
            act = read_act(use["data"]["envelope"], role="requester", identities=past.identities(use["seq"]))
            act.check_age(use["at"], late=SKEW)
        except (UntrustedError, KeyError, TypeError, ValueError):
            continue
        named = (act.digest, act.asked.verb, act.asked.about) == (use["key"], RETRY, {event["key"]: fact})
        if named and use["seq"] + 1 == event["seq"]:  # together, so no act of earlier is named again
            return act.asked.options.get("editing")
    return None


def _check_by_itself(leaving: Mapping[str, Any], fact: Mapping[str, Any], new: Facts, *, now: datetime) -> None:
    """Refuse to let a fact leave that still holds, and that nothing new takes the place of."""
    key, until = leaving["id"], fact["expires"]
    _refuse_if([] if leaving["asked_by"] == ACTOR else [key], "to leave by itself, and in somebody's name")
    if leaving["becomes"] == "expired":
        due = until is not None and datetime.fromisoformat(until) <= now
        _refuse_if([] if due else [key], f"to expire, and holds until {until or 'it is withdrawn'}")
    else:
        replaced = any(other["supersedes"] == key for other in new.values())
        _refuse_if([] if replaced else [key], "to be superseded, and no new fact supersedes it")


def _act_of(manifest: Mapping[str, Any], past: Past) -> Act:
    """The act behind a candidate, as it was signed and used.

    Raises:
        UnaskedError: the ledger does not say that it was used for this candidate, and for nothing else.
    """
    key, candidate = manifest["act"], digest_of(manifest)
    uses = past.of("act", key)
    if [use["kind"] for use in uses] != USES or uses[-1]["reason"] != candidate:
        raise UnaskedError(
            f"the act {key[:12]} was not signed for candidate {candidate[:12]}, or not for it alone; {ASK}"
        )
    then = past.identities(uses[0]["seq"])
    act = read_act(uses[0]["data"].get("envelope", {}), role="requester", identities=then)
    if act.digest != key or manifest["asked_by"] != act.by:
        raise UnaskedError(f"the act {key[:12]} is not what {manifest['asked_by']} signed; {ASK}")
    act.check_age(uses[0]["at"], late=SKEW)
    return act


def _check_revoked(
    returning: Sequence[str], leaving: Sequence[Mapping[str, Any]], act: Act, *, before: Facts, after: Facts
) -> None:
    """Refuse what is not the revocation that was signed."""
    about, ids = act.asked.about, [each["id"] for each in leaving]
    wrong = [each["id"] for each in leaving if (each["becomes"], each["reason"]) != ("revoked", act.asked.reason)]
    other = [key for key in ids if about.get(key) != content_digest(before[key])]
    restore = act.asked.options.get("restore")
    olds = {old for key in ids if (old := before[key]["supersedes"])} if restore else set[str]()
    stayed = about.keys() & after.keys()
    _refuse_if([*wrong, *other, *(olds ^ set(returning)), *stayed], f"not changed as {act.by} signed")


def _check_rolled_back(
    leaving: Sequence[Mapping[str, Any]], act: Act, *, before: Facts, after: Facts, then: Facts
) -> None:
    """Refuse what does not lead back to the release that was signed."""
    said = {key: content_digest(fact) for key, fact in then.items()}
    kept = [each["id"] for each in leaving if said.get(each["id"]) == content_digest(before[each["id"]])]
    wrong = [each["id"] for each in leaving if (each["becomes"], each["reason"]) != ("held", words_of(act.asked))]
    other = [key for key, fact in after.items() if said.get(key) != content_digest(fact)]
    lacking = set[str]() if act.asked.options.get("leave_out") else then.keys() - after.keys()
    _refuse_if([*kept, *wrong, *other, *lacking], f"not changed as {act.by} signed")


def _refuse_if(keys: Sequence[str], why: str) -> None:
    if keys:
        raise UnaskedError(f"{', '.join(sorted(set(keys)))}: {why}; {ASK}")
