"""Who is enrolled; every attack runs twice, with the check that holds it off and with that check taken out."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pyotp
import pytest

import governance.history
import tasks.acts
import tasks.people
from governance.envelopes import load_key, new_key, public_key
from governance.errors import RoleError, UnclearNameError
from governance.identities import Identity, certify, normalised
from governance.lifecycle import Event
from governance.signing import RELEASE_SIGNER
from tasks.errors import IdentityError
from tasks.own_keys import sign_as
from tasks.people import enrol_review_service, identities, known_as, revoke_identity, secret_of
from tasks.roots import make_root, pinned_root, root_key
from tasks.sealing import service_keys
from tasks.settings import Settings

pytestmark = pytest.mark.stack

EVERYBODY = {"promoter", normalised(RELEASE_SIGNER), "ada", "grace"}


def forged(name: str, *, by: str = "ada", roles=("reviewer",)) -> Identity:
    at = datetime.now(UTC).isoformat()
    key = public_key(new_key())
    return Identity(name=name, kind="person", roles=roles, public_key=key, enrolled_by=by, at=at)


def enter(ledger, identity: Identity, root) -> None:
    """Put a certificate into the ledger, as somebody with the database's password could."""
    data = {"certificate": certify(identity, root)}
    ledger.append([Event(entity="identity", key=identity.key, kind="enrolled", actor=identity.enrolled_by, data=data)])


def test_the_enrolled_have_a_key_of_their_own_and_reviewers_a_secret_that_the_service_alone_reads(trusted, ledger):
    grace = identities(ledger, trusted.promoter)["grace"]
    assert public_key(sign_as("Grace", trusted.promoter)) == grace.public_key
    assert pyotp.TOTP(secret_of(grace, trusted.promoter)).verify(pyotp.TOTP(trusted.secrets["grace"]).now())
    assert trusted.secrets["grace"] not in str(ledger.history("identity", "grace"))
    with pytest.raises(IdentityError, match="only the review service has"):
        secret_of(grace, Settings())
    other = trusted.promoter.model_copy(update={"sealing_key": Settings(**service_keys()).sealing_key})
    with pytest.raises(IdentityError, match="enrol them again"):
        secret_of(grace, other)
    assert identities(ledger, trusted.promoter)["ada"].sealed_secret == ""


def test_a_sealed_secret_belongs_to_one_name(trusted, ledger):
    grace = identities(ledger, trusted.promoter)["grace"]
    with pytest.raises(IdentityError, match="'eve' is not sealed"):
        secret_of(replace(grace, name="eve"), trusted.promoter)


@pytest.mark.parametrize(
    ("name", "by", "error", "named"),
    [
        ("GRACE", "ada", IdentityError, "enrolled already, as 'grace'"),
        ("Gr\u0430ce", "ada", UnclearNameError, "mixes"),
        ("promoter", "ada", IdentityError, "a part of the platform"),
        ("henry", "grace", RoleError, "grace is no administrator"),
        ("henry", "eve", IdentityError, "'eve' is not enrolled"),
        ("henry", "root key", IdentityError, "there is an administrator"),
    ],
)
def test_an_enrolment_that_may_not_be_is_refused_and_leaves_no_key(trusted, ledger, name, by, error, named):
    with pytest.raises(error, match=named):
        trusted.enrol(name, "reviewer", by=by)
    assert set(identities(ledger, trusted.promoter)) == EVERYBODY
    kept = sorted(file.name for file in (trusted.promoter.trust_folder / "people").iterdir())
    assert kept == ["ada.pem", "grace.pem"]


def test_a_key_that_lies_there_is_put_aside_and_kept(trusted):
    folder = trusted.promoter.trust_folder / "people"
    (folder / "henry.pem").write_text("kept")
    trusted.enrol("Henry", "reviewer")
    (aside,) = folder.glob("henry.until-*.pem")
    assert aside.read_text() == "kept"
    assert load_key(folder / "henry.pem")


def test_who_is_revoked_can_be_enrolled_again_and_the_last_administrator_cannot_be_revoked(trusted, ledger):
    revoke_identity("grace", by="ada", reason="lost her phone", ledger=ledger, settings=trusted.promoter)
    trusted.enrol("grace", "reviewer")
    assert "grace" in identities(ledger, trusted.promoter)
    with pytest.raises(IdentityError, match="'ada' is the last administrator"):
        revoke_identity("ada", by="ada", reason="leaves", ledger=ledger, settings=trusted.promoter)
    trusted.enrol("Barbara", "administrator")
    revoke_identity("ada", by="Barbara", reason="leaves", ledger=ledger, settings=trusted.promoter)
    assert "ada" not in identities(ledger, trusted.promoter)


def test_the_revoked_are_not_enrolled_any_more_and_were_at_the_time(trusted, ledger):
    revoke_identity("GRACE", by="ada", reason="left", ledger=ledger, settings=trusted.promoter)
    assert "grace" not in identities(ledger, trusted.promoter)
    revoked = ledger.history("identity", "grace")[-1]["seq"]
    assert "grace" in identities(ledger, trusted.promoter, before=revoked)
    assert "grace" not in identities(ledger, trusted.promoter, before=revoked + 1)
    with pytest.raises(IdentityError, match="'grace' is not enrolled"):
        known_as("grace", "reviewer", ledger=ledger, settings=trusted.promoter)


def test_a_revocation_without_an_administrators_act_is_not_seen_and_is_where_it_is_not_asked(trusted, ledger):
    """Whoever may enrol in the database may write there that somebody was revoked."""
    forged = Event(entity="identity", key="grace", kind="revoked", actor="ada", reason="left", data={"act": "a" * 64})
    ledger.append([forged])
    assert "grace" in identities(ledger, trusted.promoter)
    with pytest.MonkeyPatch.context() as unasked:
        unasked.setattr(governance.history, "is_asked_for", lambda *args, **kwargs: True)
        assert "grace" not in identities(ledger, trusted.promoter)
    revoke_identity("grace", by="ada", reason="left", ledger=ledger, settings=trusted.promoter)
    assert "grace" not in identities(ledger, trusted.promoter)
    ledger.verify()


def test_who_is_no_administrator_revokes_nobody(trusted, ledger):
    with pytest.raises(RoleError, match="grace is no administrator"):
        revoke_identity("ada", by="grace", reason="", ledger=ledger, settings=trusted.promoter)


def test_whoever_was_revoked_can_be_enrolled_again_with_another_key(trusted, ledger):
    first = identities(ledger, trusted.promoter)["grace"].public_key
    revoke_identity("grace", by="ada", reason="lost", ledger=ledger, settings=trusted.promoter)
    (trusted.promoter.trust_folder / "people" / "grace.pem").unlink()
    trusted.enrol("grace", "reviewer")
    assert identities(ledger, trusted.promoter)["grace"].public_key != first


def test_the_review_service_is_enrolled_once_and_another_key_is_refused(trusted, ledger):
    root = root_key(trusted.promoter.trust_folder)
    enrol_review_service(root, ledger=ledger, settings=trusted.promoter)
    assert len(ledger.history("identity", "promoter")) == 1
    with pytest.raises(IdentityError, match="another key"):
        enrol_review_service(root, ledger=ledger, settings=Settings(**service_keys()))


def test_a_root_is_made_once_and_its_fingerprint_outlives_its_key(tmp_path):
    first = make_root(tmp_path / "trust")
    (tmp_path / "trust" / "root.pem").rename(tmp_path / "safe.pem")
    assert make_root(tmp_path / "trust") == pinned_root(tmp_path / "trust") == first
    with pytest.raises(IdentityError, match="corrigenda trust init"):
        root_key(tmp_path / "trust")
    assert load_key(tmp_path / "safe.pem")


def test_self_enrolment_without_the_root_is_not_seen_and_is_where_nothing_is_verified(trusted, ledger, monkeypatch):
    enter(ledger, forged("eve"), new_key())
    assert "eve" not in identities(ledger, trusted.promoter)
    monkeypatch.setattr(governance.history, "identity_of", lambda certificate, root: forged("eve"))
    assert "eve" in identities(ledger, trusted.promoter)


def test_an_enrolment_that_counts_for_nothing_is_told_and_bars_nobody_from_the_name(trusted, ledger, monkeypatch):
    """Somebody squats a name in the database; then the machine with the root is a day behind."""
    ledger.append([Event(entity="identity", key="henry", kind="enrolled", actor="ada")])
    assert "henry" not in identities(ledger, trusted.promoter)
    trusted.enrol("henry", "reviewer")
    revoke_identity("henry", by="ada", reason="left", ledger=ledger, settings=trusted.promoter)
    with pytest.MonkeyPatch.context() as behind:
        behind.setattr(tasks.people, "_now", lambda: (datetime.now(UTC) - timedelta(days=1)).isoformat())
        with pytest.raises(IdentityError, match=r"certificate of henry is entered and counts for nothing.*clock"):
            trusted.enrol("henry", "reviewer")
    trusted.enrol("henry", "reviewer")
    assert "henry" in identities(ledger, trusted.promoter)


def test_whatever_an_administrators_clock_says_a_revocation_counts(trusted, ledger, monkeypatch):
    class Ahead(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime.now(tz) + timedelta(days=2)

    monkeypatch.setattr(tasks.acts, "datetime", Ahead)
    revoke_identity("grace", by="ada", reason="left", ledger=ledger, settings=trusted.promoter)
    assert "grace" not in identities(ledger, trusted.promoter)


def test_under_another_root_nobody_is_enrolled(trusted, ledger, tmp_path):
    other = trusted.promoter.model_copy(update={"root_fingerprint": make_root(tmp_path / "other")})
    assert identities(ledger, other) == {}
    assert identities(ledger, trusted.promoter.model_copy(update={"root_fingerprint": ""})) == {}


def test_a_certificate_entered_under_another_name_is_not_seen(trusted, ledger):
    grace = ledger.history("identity", "grace")[0]["data"]
    ledger.append([Event(entity="identity", key="henry", kind="enrolled", actor="ada", data=grace)])
    assert set(identities(ledger, trusted.promoter)) == EVERYBODY


def test_an_old_certificate_brings_nobody_back_and_does_where_its_age_is_not_asked(trusted, ledger, monkeypatch):
    old = ledger.history("identity", "grace")[0]["data"]
    revoke_identity("grace", by="ada", reason="left", ledger=ledger, settings=trusted.promoter)
    ledger.append([Event(entity="identity", key="grace", kind="enrolled", actor="ada", data=old)])
    assert "grace" not in identities(ledger, trusted.promoter)
    monkeypatch.setattr(governance.history, "is_spent", lambda *args, **kwargs: False)
    assert "grace" in identities(ledger, trusted.promoter)


def test_an_administrator_cannot_enrol_themselves_under_another_spelling(trusted, ledger, monkeypatch):
    trusted.enrol("henry", "administrator")
    revoke_identity("henry", by="ada", reason="", ledger=ledger, settings=trusted.promoter)
    with pytest.raises(IdentityError, match="can't enrol themselves"):
        trusted.enrol("HENRY", "reviewer", by="henry")
