"""Each role may do what its work needs in the ledger's database, and nothing else."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import psycopg2
import pytest
import sqlalchemy as sa

import tasks.ledger
from governance.events import EMPTY, Head
from governance.lifecycle import TRANSITIONS, Event
from infra.layout import DATABASE_ROLES, read_layout
from tasks import tables
from tasks.chain import links
from tasks.collect import events_for
from tasks.errors import BrokenChainError, IllegalTransitionError, LedgerError, RightsError, UnreachableError
from tasks.ledger import NO_LINK, Ledger
from tasks.settings import Settings
from tasks.tables import end_of

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
    "drop the trigger": "DROP TRIGGER one_chain ON events",
    "replace the chain's trigger": "CREATE OR REPLACE FUNCTION check_link() RETURNS trigger AS 'BEGIN RETURN NEW; END'"
    " LANGUAGE plpgsql",
    "replace the rule": "CREATE OR REPLACE FUNCTION correction_state(wanted text) RETURNS text AS $$ SELECT 'held' $$"
    " LANGUAGE sql",
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
    acting(role).append([Event(entity="correction", key="c-1", kind="cancelled", actor="ada")])
    ledger.append([submission("c-2")])
    acting(role).append([Event(entity="correction", key="c-2", kind="cancelled", actor="ada")])
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
    | {("act", "in candidate")}
    | {(entity, kind) for entity in ("candidate", "refresh", "answer", "code") for kind in TRANSITIONS[entity]},
    "promoter": set(),
}


@pytest.mark.parametrize("role", REFUSED)
def test_a_role_appends_the_kinds_that_its_work_needs_and_no_others(acting, ledger, role, monkeypatch):
    """Of all kinds that there are, each on its own; in which order they may follow is another question."""
    monkeypatch.setattr(tasks.ledger, "flaw_of_transition", lambda *args, **kwargs: "")
    ledger.append(
        [
            Event(entity="correction", key=f"a {kind} one", kind="quarantined", actor="corrigenda")
            for kind in TRANSITIONS["correction"]
        ]
    )
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
    as_owner(ledger_url, "ALTER TABLE events DISABLE ROW LEVEL SECURITY")
    acting(role).append(by_hand)
    assert ledger.standing("correction", "evil").state == "released"


STATES = sorted(TRANSITIONS["correction"])
QUEUED = Event(entity="correction", key="c-1", kind="queued", actor="ada")
CANCELLED = Event(entity="correction", key="c-1", kind="cancelled", actor="ada")


@pytest.mark.parametrize(
    ("event", "states"),
    [(QUEUED, {"quarantined", "held", "superseded"}), (CANCELLED, {"submitted", "queued", "quarantined"})],
)
def test_a_requester_queues_what_was_set_aside_and_cancels_what_waits_and_nothing_else(
    acting, ledger, stack, ledger_url, event, states, monkeypatch
):
    """By raw SQL, which asks no ledger; what was only submitted goes through an intake, which the editor appends."""
    monkeypatch.setattr(tasks.ledger, "flaw_of_transition", lambda *args, **kwargs: "")
    requester = address(stack, ledger_url, "requester")
    let = set()
    for state in STATES:
        ledger.append([replace(event, kind=state)])
        try:
            raw(requester, [event])
            let.add(state)
        except sa.exc.ProgrammingError as error:
            assert "row-level security" in str(error)
    assert let == states
    ledger.append([replace(event, kind="submitted")])
    raw(address(stack, ledger_url, "editor"), [event])


def test_a_requester_skips_no_intake_and_does_without_the_check(acting, ledger, stack, ledger_url):
    ledger.append([submission("c-1")])
    with pytest.raises(RightsError, match="row-level security"):
        acting("requester").append([QUEUED])
    requester = address(stack, ledger_url, "requester")
    own = "CREATE TEMPORARY TABLE events (seq bigint, entity text, key text, kind text)"
    fake = "INSERT INTO pg_temp.events VALUES (9, 'correction', 'c-1', 'held')"
    with pytest.raises(sa.exc.ProgrammingError, match="row-level security"):
        raw(requester, [QUEUED], before=[own, fake])
    as_owner(ledger_url, "ALTER TABLE events DISABLE ROW LEVEL SECURITY")
    raw(requester, [QUEUED])
    assert ledger.standing("correction", "c-1").state == "queued"


def no_links(head: Head) -> dict[str, dict]:
    """Rows that are no next link, and what is said of each."""
    return {
        "behind event": {"seq": head.sequence + 2},
        "is no link behind": {"previous": "e" * 64},
        "no link": {"seq": 1, "previous": "0" * 64},
        "before event": {"at": head.at - timedelta(microseconds=1)},
        "and it is": {"at": head.at + timedelta(minutes=6)},
    }


@pytest.mark.parametrize("role", ["editor", "requester", "promoter"])
def test_a_row_that_is_no_next_link_is_refused_and_breaks_the_chain_without_the_trigger(
    acting, ledger, stack, ledger_url, role
):
    """By raw SQL with a role's own credentials."""
    ledger.append([submission("c-1")])
    user = address(stack, ledger_url, role)
    notice = Event(entity="notice", key="n", kind="due", actor="ada")
    head = ledger.verify()
    for named, changes in no_links(head).items():
        with pytest.raises(sa.exc.DBAPIError, match=named) as refused:
            raw(user, [notice], **changes)
        assert getattr(refused.value.orig, "pgcode", "") in (NO_LINK, "23505"), refused.value
    assert ledger.verify() == head
    as_owner(ledger_url, "ALTER TABLE events DISABLE TRIGGER one_chain")
    raw(user, [notice], previous="e" * 64)
    with pytest.raises(BrokenChainError, match="is no link behind event 2"):
        ledger.verify()


def test_an_event_is_of_the_time_at_which_it_is_written(ledger, ledger_url):
    """So nobody dates the use of an old act back, where nothing has happened since."""
    then = datetime.now(UTC) - timedelta(minutes=16)
    with pytest.raises(sa.exc.IntegrityError, match="and it is"):
        raw(ledger_url, [submission("c-1")], at=then)
    raw(ledger_url, [submission("c-1")])
    assert ledger.verify().sequence == 1


@pytest.mark.parametrize("data", [[], None, "revoked"])
def test_an_event_whose_data_has_no_fields_is_refused_so_that_nobody_trips_over_it(ledger, stack, ledger_url, data):
    revoked = Event(entity="identity", key="grace", kind="revoked", actor="ada")
    head = ledger.verify()
    with pytest.raises(sa.exc.IntegrityError, match=r"data_is_an_object|null value"):
        raw(address(stack, ledger_url, "requester"), [revoked], data=data)
    assert ledger.verify() == head


def test_several_rows_of_one_statement_are_links_of_each_other(acting, ledger, stack, ledger_url):
    editor = address(stack, ledger_url, "editor")
    raw(editor, [submission("c-1"), submission("c-2"), QUEUED])
    with pytest.raises(sa.exc.IntegrityError, match="is no link"):
        raw(editor, [submission("c-3"), submission("c-4")], previous=ledger.verify().digest)
    assert ledger.verify().sequence == 4


def test_what_the_database_refuses_is_told_with_the_way_out(acting, ledger, monkeypatch):
    """Somebody who takes no lock came between."""
    monkeypatch.setattr(tasks.ledger, "end_of", lambda connection: EMPTY)
    with pytest.raises(LedgerError, match=r"takes no such event: event 1 is no link.*Run the command again"):
        acting("editor").append([submission("c-1")])


def raw(url: str, new: list[Event], *, before: Sequence[str] = (), **changes) -> None:
    """Insert events by SQL of one's own, as a role, perhaps with something else in each row."""
    engine = sa.create_engine(url)
    try:
        with engine.begin() as connection:
            connection.execution_options(schema_translate_map={None: "public"})
            for statement in before:
                connection.execute(sa.text(statement))
            clock, head = connection.execute(sa.select(sa.func.clock_timestamp())).scalar_one(), end_of(connection)
            rows = [row | changes for row in links(new, head=head, at=max(clock, head.at))]
            connection.execute(tables.events.insert().values(rows))
    finally:
        engine.dispose()


def as_owner(url: str, statement: str) -> None:
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.execute(sa.text(statement))
    engine.dispose()


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
    as_owner(ledger_url, "GRANT INSERT ON releases TO corrigenda_editor")
    as_owner(ledger_url, "ALTER TABLE events DISABLE ROW LEVEL SECURITY")
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
