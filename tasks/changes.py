"""Changes: whether a candidate changes only what it says, and takes out and brings back only what it may.

What is new was signed by its submitters (submit.py). All else is held against the parent here: what stays says what it
said, what has expired is due by its own date, what is superseded has a new fact in its place, and for everything that
is revoked, held or brought back there is the act of somebody who asked for just that.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from editors.digests import digest_of
from editors.errors import UnaskedError
from editors.receipts import SKEW
from tasks.acts import Act, read_act
from tasks.asking import words_of
from tasks.collect import ACTOR
from tasks.corrections import Correction, read_corrections
from tasks.ledger import Ledger
from tasks.people import identities
from tasks.settings import Settings
from tasks.store import Store

Facts = Mapping[str, Correction]
"""The facts of a release or candidate, by their ids."""

DECIDED = ("parent", "new", "returning", "leaving")
"""What of a manifest the ledger keeps, since a decision carries it out."""
BY_THEMSELVES = ("expired", "superseded")
"""How facts leave that nobody has to ask for."""
USES = ["used", "in candidate"]
"""What happens to the act behind a candidate, once."""


def facts_in(manifest: Mapping[str, Any], store: Store) -> Facts:
    """The facts of a candidate or release."""
    return {fact.id: fact for fact in read_corrections(store.get(manifest["corrections"]))}


def facts_before(manifest: Mapping[str, Any], store: Store) -> Facts:
    """The facts of the release that a candidate was evaluated against; the base has none."""
    return {} if manifest["parent"] == manifest["base"] else facts_in(store.manifest(manifest["parent"]), store)


def check_opened(manifest: Mapping[str, Any], opened: Mapping[str, Any]) -> None:
    """Refuse a candidate for which the ledger would carry out something else than its manifest names.

    Raises:
        UnaskedError: it would.
    """
    if other := [name for name in DECIDED if opened.get(name) != manifest[name]]:
        raise UnaskedError(
            f"the candidate was opened with another {' and '.join(other)} than its manifest names; make it anew with "
            "'corrigenda refresh --replace'"
        )


def check_facts(manifest: Mapping[str, Any], *, before: Facts, after: Facts) -> None:
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
    odd |= {key for key in kept & after.keys() if after[key].content_digest() != before[key].content_digest()}
    if odd or len(listed) != len(after):
        named = ", ".join(sorted(odd)) or "one fact twice"
        raise UnaskedError(
            f"the candidate's facts are not its parent's with the changes that it names: {named}; make it anew with "
            "'corrigenda refresh --replace'"
        )


def check_withdrawal(
    manifest: Mapping[str, Any],
    *,
    before: Facts,
    after: Facts,
    ledger: Ledger,
    store: Store,
    settings: Settings,
    now: datetime,
) -> None:
    """Refuse a candidate that takes out or brings back what nobody asked for.

    Raises:
        UnaskedError: the fact is named, or the act is another candidate's.
        IdentityError, UntrustedError: the act is not signed by somebody who could ask for it then.
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
    act = _act_of(manifest, ledger, settings)
    others = [each["id"] for each in asked if each["asked_by"] != act.by]
    _refuse_if([*new, *others], f"not part of what {act.by} signed")
    if act.asked.verb == "revoke":
        _check_revoked(manifest["returning"], asked, act, before=before, after=after)
    elif act.asked.verb == "rollback":
        _check_rolled_back(asked, act, after=after, then=_target_of(act, ledger, store))
    else:
        raise UnaskedError(f"{act.by} signed a {act.asked.verb!r}, which withdraws nothing; {_ask()}")


def act_behind(manifest: Mapping[str, Any], ledger: Ledger) -> list[Mapping[str, Any]]:
    """The act by which a candidate was asked for, as it was sent; none where corrections or their dates ask."""
    uses = ledger.history("act", manifest["act"]) if manifest.get("act") else []
    return [use["data"]["envelope"] for use in uses if use["kind"] == "used"]


def _check_by_itself(leaving: Mapping[str, Any], fact: Correction, new: Facts, *, now: datetime) -> None:
    """Refuse to let a fact leave that still holds, and that nothing new takes the place of."""
    _refuse_if([] if leaving["asked_by"] == ACTOR else [fact.id], "to leave by itself, and in somebody's name")
    if leaving["becomes"] == "expired":
        due = fact.expires is not None and fact.expires <= now
        _refuse_if([] if due else [fact.id], f"to expire, and holds until {fact.expires or 'it is withdrawn'}")
    else:
        replaced = any(other.supersedes == fact.id for other in new.values())
        _refuse_if([] if replaced else [fact.id], "to be superseded, and no new fact supersedes it")


def _act_of(manifest: Mapping[str, Any], ledger: Ledger, settings: Settings) -> Act:
    """The act behind a candidate, as it was signed and used.

    Raises:
        UnaskedError: the ledger does not say that it was used for this candidate, and for nothing else.
    """
    key, candidate = manifest["act"], digest_of(manifest)
    uses = ledger.history("act", key)
    if [use["kind"] for use in uses] != USES or uses[-1]["reason"] != candidate:
        raise UnaskedError(
            f"the act {key[:12]} was not signed for candidate {candidate[:12]}, or not for it alone; {_ask()}"
        )
    then = identities(ledger, settings, as_of=uses[0]["at"])
    act = read_act(uses[0]["data"].get("envelope", {}), role="requester", identities=then)
    if act.digest != key or manifest["asked_by"] != act.by:
        raise UnaskedError(f"the act {key[:12]} is not what {manifest['asked_by']} signed; {_ask()}")
    act.check_age(uses[0]["at"], late=SKEW)
    return act


def _check_revoked(
    returning: Sequence[str], leaving: Sequence[Mapping[str, Any]], act: Act, *, before: Facts, after: Facts
) -> None:
    """Refuse what is not the revocation that was signed."""
    about, ids = act.asked.about, [each["id"] for each in leaving]
    wrong = [each["id"] for each in leaving if (each["becomes"], each["reason"]) != ("revoked", act.asked.reason)]
    other = [key for key in ids if about.get(key) != before[key].content_digest()]
    restore = act.asked.options.get("restore")
    olds = {old for key in ids if (old := before[key].supersedes)} if restore else set()
    stayed = about.keys() & after.keys()
    _refuse_if([*wrong, *other, *(olds ^ set(returning)), *stayed], f"not changed as {act.by} signed")


def _check_rolled_back(leaving: Sequence[Mapping[str, Any]], act: Act, *, after: Facts, then: Facts) -> None:
    """Refuse what does not lead back to the release that was signed."""
    kept = [each["id"] for each in leaving if each["id"] in then]
    wrong = [each["id"] for each in leaving if (each["becomes"], each["reason"]) != ("held", words_of(act.asked))]
    said = {key: fact.content_digest() for key, fact in then.items()}
    other = [key for key, fact in after.items() if said.get(key) != fact.content_digest()]
    lacking = [] if act.asked.options.get("leave_out") else then.keys() - after.keys()
    _refuse_if([*kept, *wrong, *other, *lacking], f"not changed as {act.by} signed")


def _target_of(act: Act, ledger: Ledger, store: Store) -> Facts:
    """The facts of the release that a rollback goes back to; the base has none."""
    (digest,) = act.asked.about.values()
    return facts_in(store.manifest(digest), store) if ledger.release_of(digest) else {}


def _refuse_if(keys: list[str], why: str) -> None:
    if keys:
        raise UnaskedError(f"{', '.join(sorted(set(keys)))}: {why}; {_ask()}")


def _ask() -> str:
    return "whoever wants it runs 'corrigenda revoke' or 'corrigenda rollback', which signs for it"
