"""Each role may do what its work needs in the ledger's database, and nothing else."""

from __future__ import annotations

import psycopg2
import pytest
import sqlalchemy as sa

import tasks.ledger
from infra.layout import DATABASE_ROLES, read_layout
from tasks.collect import events_for
from tasks.errors import IllegalTransitionError, RightsError, UnreachableError
from tasks.ledger import Ledger
from tasks.lifecycle import TRANSITIONS, Event
from tasks.settings import Settings

pytestmark = pytest.mark.stack

REWRITES = {
    "update": "UPDATE events SET actor = 'eve'",
    "delete": "DELETE FROM events",
    "delete a release": "DELETE FROM releases",
    "truncate": "TRUNCATE events CASCADE",
    "alter": "ALTER TABLE events DISABLE TRIGGER append_only",
    "alter the rights": "ALTER TABLE events DISABLE ROW LEVEL SECURITY",
    "drop": "DROP TABLE releases",
    "join the promoter": "GRANT corrigenda_promoter TO corrigenda_editor",
    "become the owner": "SET ROLE postgres",
    "become another role": "CREATE ROLE eve SUPERUSER",
    "replace the trigger": "CREATE OR REPLACE FUNCTION refuse_rewriting() RETURNS trigger AS 'BEGIN RETURN NEW; END'"
    " LANGUAGE plpgsql",
    "create beside": "CREATE TABLE events_beside (x int)",
    "read files": "SELECT pg_read_file('pg_hba.conf')",
    "skip the trigger": "SET session_replication_role = replica",
}
PARENT = "0" * 64
WANTED = {"parent": PARENT, "new": [], "returning": [], "leaving": []}


@pytest.fixture
def acting(stack, ledger, ledger_url):
    """The test's ledger, in which a candidate is open, as a role sees it."""
    ledger.append([Event(entity="candidate", key="c", kind="opened", actor="refresh", data=WANTED)])

    def as_role(role: str) -> Ledger:
        return Ledger(address(stack, ledger_url, role))

    return as_role


def address(stack, ledger_url, role: str) -> str:
    keys = read_layout(stack.home).keys[role]
    url = sa.make_url(ledger_url).set(username=keys.database_user, password=keys.database_password)
    return url.render_as_string(hide_password=False)


def submission(key: str) -> Event:
    return Event(entity="correction", key=key, kind="submitted", actor="ada")


def decision(kind: str) -> Event:
    return Event(entity="candidate", key="c", kind=kind, actor="grace")


@pytest.mark.parametrize("role", ["editor", "promoter", "requester"])
def test_a_role_that_writes_appends_to_one_chain_with_the_others(acting, ledger, role):
    ledger.append([submission("c-1")])
    acting(role).append([Event(entity="correction", key="c-1", kind="queued", actor="ada")])
    ledger.append([submission("c-2")])
    acting(role).append([Event(entity="correction", key="c-2", kind="queued", actor="ada")])
    assert acting(role).verify().sequence == 5


PEOPLES = ("protected", "identity", "receipt", "answer", "code")
OF_CORRECTIONS = {
    "editor": {"released", "rejected", "superseded", "held"},
    "requester": set(TRANSITIONS["correction"]) - {"queued", "cancelled"},
}
REFUSED = {
    "editor": {("correction", kind) for kind in OF_CORRECTIONS["editor"]}
    | {("candidate", kind) for kind in set(TRANSITIONS["candidate"]) - {"opened", "replaced"}}
    | {
        (entity, kind)
        for entity in ("protected", "identity", "receipt", "answer", "code")
        for kind in TRANSITIONS[entity]
    },
    "requester": {("correction", kind) for kind in OF_CORRECTIONS["requester"]}
    | {(entity, kind) for entity in ("candidate", "refresh", "answer", "code") for kind in TRANSITIONS[entity]},
    "promoter": set(),
}


@pytest.mark.parametrize("role", REFUSED)
def test_a_role_appends_the_kinds_that_its_work_needs_and_no_others(acting, role, monkeypatch):
    """Of all kinds that there are, each on its own; in which order they may follow is another question."""
    monkeypatch.setattr(tasks.ledger, "check_transition", lambda *args, **kwargs: None)
    refused = set()
    for entity, kinds in TRANSITIONS.items():
        for kind in kinds:
            try:
                acting(role).append([Event(entity=entity, key=f"a {kind} one", kind=kind, actor="ada")])
            except RightsError:
                refused.add((entity, kind))
    assert refused == REFUSED[role]


@pytest.mark.parametrize("role", ["editor", "requester"])
def test_a_fact_is_not_released_by_hand_and_is_with_other_rights(acting, ledger, ledger_url, role):
    """It would be in the next candidate as an earlier one, which no reviewer is shown as new."""
    ledger.append([submission("evil"), *events_for(["evil"], "queued", actor="c")])
    by_hand = [*events_for(["evil"], "in candidate", actor="c"), *events_for(["evil"], "released", actor="c")]
    with pytest.raises(RightsError, match="row-level security"):
        acting(role).append(by_hand)
    engine = sa.create_engine(ledger_url)
    with engine.begin() as connection:
        connection.execute(sa.text("ALTER TABLE events DISABLE ROW LEVEL SECURITY"))
    engine.dispose()
    acting(role).append(by_hand)
    assert ledger.standing("correction", "evil").state == "released"


def test_a_reader_reads_and_appends_nothing(acting):
    reader = acting("reader")
    assert reader.standing("candidate", "c").state == "opened" and reader.head() is None
    with pytest.raises(RightsError, match="refuses corrigenda_reader: permission denied for table events"):
        reader.append([submission("c-1")])


def test_the_promoter_promotes(acting):
    release = acting("promoter").release("c", parent=PARENT, new=[decision("approved")])
    acting("promoter").append([decision("promoted")])
    assert release.position == 1


@pytest.mark.parametrize("role", ["editor", "requester", "reader"])
def test_no_other_role_promotes_or_approves(acting, ledger, role):
    with pytest.raises(RightsError, match=f"refuses corrigenda_{role}"):
        acting(role).release("c", parent=PARENT, new=[decision("approved")])
    with pytest.raises(RightsError):
        acting(role).append([decision("approved")])
    assert ledger.standing("candidate", "c").state == "opened" and ledger.releases() == []


def test_no_other_role_inserts_a_release_even_with_an_approval_that_is_there(acting, stack, ledger, ledger_url):
    ledger.append([decision("approved")])
    row = "INSERT INTO releases (position, candidate, parent, event) VALUES (1, 'c', 'p', 2)"
    for role in ("editor", "requester", "reader"):
        assert refuses(address(stack, ledger_url, role), row)
    assert not refuses(address(stack, ledger_url, "promoter"), row)


def test_with_the_promoters_rights_an_editor_would_promote(acting, ledger_url):
    """The attack succeeds once the check is away, so it is the check that stops it."""
    engine = sa.create_engine(ledger_url)
    with engine.begin() as connection:
        connection.execute(sa.text("GRANT INSERT ON releases TO corrigenda_editor"))
        connection.execute(sa.text("ALTER TABLE events DISABLE ROW LEVEL SECURITY"))
    engine.dispose()
    assert acting("editor").release("c", parent=PARENT, new=[decision("approved")]).candidate == "c"


def test_a_requester_opens_no_candidate(acting, ledger):
    with pytest.raises(RightsError, match="row-level security"):
        acting("requester").append([decision("replaced")])
    acting("editor").append([decision("replaced")])
    assert ledger.standing("candidate", "c").state == "replaced"


@pytest.mark.parametrize("role", DATABASE_ROLES)
def test_no_role_rewrites_history_or_the_rules(acting, stack, ledger_url, role):
    assert acting(role).standing("candidate", "c")
    done = [what for what, statement in REWRITES.items() if not refuses(address(stack, ledger_url, role), statement)]
    assert done == []


def refuses(url: str, statement: str) -> bool:
    """Whether the database says that the role may not."""
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection:
            connection.execute(sa.text(statement))
    except sa.exc.DBAPIError as error:
        assert getattr(error.orig, "pgcode", "") == "42501", error  # and not that the statement makes no sense
        return True
    finally:
        engine.dispose()
    return False


@pytest.mark.parametrize("role", DATABASE_ROLES)
@pytest.mark.parametrize("database", ["prefect", "mlflow"])
def test_no_role_of_the_ledger_enters_the_databases_of_the_servers(stack, role, database):
    layout = read_layout(stack.home)
    keys = layout.keys[role]
    with pytest.raises(psycopg2.OperationalError, match="permission denied for database"):
        psycopg2.connect(
            host=str(layout.sockets), user=keys.database_user, password=keys.database_password, dbname=database
        )


@pytest.mark.parametrize("password", ["", "the editor's", "guessed"])
@pytest.mark.parametrize("user", ["corrigenda_promoter", "postgres"])
def test_nobody_enters_as_another_role_without_its_password(stack, user, password):
    layout = read_layout(stack.home)
    tried = layout.keys["editor"].database_password if password == "the editor's" else password
    with pytest.raises(psycopg2.OperationalError, match="password"):
        psycopg2.connect(host=str(layout.sockets), user=user, password=tried, dbname="corrigenda", passfile="/dev/null")


def test_a_terminal_is_in_the_database_as_requester(stack):
    address = sa.make_url(Settings().database_url)
    assert (address.username, address.database) == ("corrigenda_requester", "corrigenda")
    assert address.query["host"] == str(read_layout(stack.home).sockets)
    terminal = Ledger(Settings().database_url)
    before = terminal.verify().sequence
    with pytest.raises(IllegalTransitionError):
        terminal.append([Event(entity="correction", key="c-9", kind="queued", actor="ada")])
    assert terminal.verify().sequence == before


def test_an_address_that_names_its_user_keeps_it(monkeypatch):
    url = "postgresql+psycopg2://somebody:else@db.example.org/ledger"
    assert Settings(database_url=url, database_user="u", database_password="p").database_url == url
    mixed = Settings(
        database_url="postgresql+psycopg2://db.example.org:6543/x", database_user="u", database_password="p@/"
    )
    assert mixed.database_url == "postgresql+psycopg2://u:p%40%2F@db.example.org:6543/x"


def test_a_wrong_password_is_told_without_showing_it(stack, ledger_url):
    url = sa.make_url(ledger_url).set(username="corrigenda_editor", password="a-wrong-one")
    with pytest.raises(UnreachableError, match="password authentication failed") as refused:
        Ledger(url.render_as_string(hide_password=False)).standings("correction")
    assert "a-wrong-one" not in str(refused.value)
