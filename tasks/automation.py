"""The automation of Prefect that passes notices on to people.

It fires on every notice. Where to is a notification block of Prefect's (Slack, e-mail, Teams, a webhook of another
form), which somebody makes in the UI, with its secrets; until one is named the automation does nothing but say in the
UI's event feed that it fired.
"""

from __future__ import annotations

from uuid import UUID

from prefect.client.orchestration import SyncPrefectClient
from prefect.events.actions import DoNothing, SendNotification
from prefect.events.schemas.automations import AutomationCore, EventTrigger, Posture
from prefect.exceptions import ObjectNotFound

from tasks.errors import NoticeError

NAME = "corrigenda notices"
SUBJECT = "Corrigenda: {{ event.payload.kind }}"
BODY = "{{ event.payload.text }}"


def ensure_automation(client: SyncPrefectClient, *, block: str = "") -> str:
    """Make the automation unless it is there, and let it notify through a block if one is named; returns its id.

    Args:
        client: of the server.
        block: "type/name" of a notification block, such as "slack-webhook/reviewers"; empty leaves one that is there
            as it is.

    Raises:
        NoticeError: there is no such block.
    """
    wanted = _automation(_block_id(client, block) if block else None)
    found = client.read_automations_by_name(NAME)
    if not found:
        return str(client.create_automation(wanted))
    if block:
        client.update_automation(found[0].id, wanted)
    return str(found[0].id)


def _automation(block: UUID | None) -> AutomationCore:
    return AutomationCore(
        name=NAME,
        description="Passes on what happens to candidates; 'corrigenda notices automation --block' sets where to.",
        trigger=EventTrigger(
            expect={"corrigenda.*"},
            match={"prefect.resource.id": ["corrigenda.candidate.*", "corrigenda.ledger"]},
            posture=Posture.Reactive,
            threshold=1,
        ),
        actions=[SendNotification(block_document_id=block, subject=SUBJECT, body=BODY) if block else DoNothing()],
    )


def _block_id(client: SyncPrefectClient, block: str) -> UUID:
    kind, _, name = block.partition("/")
    try:
        return client.read_block_document_by_name(name, kind).id
    except ObjectNotFound as error:
        raise NoticeError(
            f"Prefect has no block {block!r}; make one in its UI under Blocks, and name it as type/name, "
            "such as slack-webhook/reviewers"
        ) from error
