from __future__ import annotations

from dataclasses import replace

import pytest

from governance.envelopes import fingerprint, new_key, public_key, sign, statement
from governance.errors import ForgedError, RoleError, UnclearNameError
from governance.identities import CERTIFICATE, Identity, certify, check_name, identity_of, normalised

ROOT = new_key()
PINNED = fingerprint(public_key(ROOT))
GRACE = Identity(
    name="Grace Hopper",
    kind="person",
    roles=("reviewer",),
    public_key=public_key(new_key()),
    enrolled_by="ada",
    at="2026-11-29T00:00:00+00:00",
    sealed_secret="00",
)


def test_a_certificate_tells_whom_the_root_vouches_for():
    assert identity_of(certify(GRACE, ROOT), PINNED) == GRACE


def test_a_certificate_under_another_root_is_refused():
    other = new_key()
    with pytest.raises(ForgedError, match="another root"):
        identity_of(certify(GRACE, other), PINNED)


def test_without_a_pinned_root_nobody_is_believed():
    with pytest.raises(ForgedError, match="another root than none"):
        identity_of(certify(GRACE, ROOT), "")


def test_a_certificate_that_names_the_root_and_was_signed_by_somebody_else_is_refused():
    mine = new_key()
    subject = {GRACE.name: fingerprint(GRACE.public_key)}
    forged = statement(CERTIFICATE, subject=subject, predicate={"root": public_key(ROOT)})
    with pytest.raises(ForgedError, match="does not hold"):
        identity_of(sign(forged, mine), PINNED)


def test_another_statement_of_the_root_is_no_certificate():
    predicate = {"root": public_key(ROOT), "name": "grace"}
    with pytest.raises(ForgedError, match="expected 'urn:corrigenda:certificate:v1'"):
        identity_of(sign(statement("urn:other", subject={"grace": "ab" * 32}, predicate=predicate), ROOT), PINNED)


@pytest.mark.parametrize(
    "spelling",
    [
        "grace hopper",
        "GRACE  HOPPER",
        "Grace.Hopper",
        "grace_hopper",
        "Gráce Hopper",
        "Grace Hopper",  # no-break space
        "Ｇｒａｃｅ Ｈｏｐｐｅｒ",
        "Gr\u0430ce H\u043epper",  # with two Cyrillic letters
        "Gr\u03b1ce Hopper",  # with a Greek one
        "Grace\u200b Hopper",
    ],
)
def test_another_spelling_is_the_same_name(spelling):
    assert normalised(spelling) == normalised("Grace Hopper")


def test_other_names_are_other_names():
    assert len({normalised(name) for name in ("grace", "grade", "Ada", "Eda", "田中", "Иван", "Олег")}) == 7


@pytest.mark.parametrize(
    "name",
    [
        "Grace Hopper",
        "José Ñandú",
        "O’Neill-Smith, J.",
        "Иван",
        "田中さん",
        "サトー",
        "Ada2",
        "ada@corp.example",
        "CORP\\ada",
    ],
)
def test_a_plain_name_of_one_script_is_taken(name):
    check_name(name)


@pytest.mark.parametrize(
    ("name", "named"),
    [
        ("Gr\u0430ce", "CYRILLIC and LATIN"),
        ("Grace\u200b", "U\\+200B"),
        ("Grace\u202e", "U\\+202E"),
        ("Grace\nHopper", "U\\+000A"),
        ("<b>", "U\\+003C"),
        ("", "is no name"),
        ("...", "is no name"),
        (" Grace", "is no name"),
        ("x" * 101, "is no name"),
    ],
)
def test_a_name_that_can_be_taken_for_another_is_refused(name, named):
    with pytest.raises(UnclearNameError, match=named):
        check_name(name)


def test_a_role_that_was_not_given_is_refused_with_the_way_to_it():
    GRACE.may("reviewer")
    with pytest.raises(RoleError, match="corrigenda people add NAME --role requester"):
        GRACE.may("requester")
    with pytest.raises(RoleError):
        replace(GRACE, kind="service").may("reviewer")
