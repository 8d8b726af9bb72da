"""Acts as the platform makes and takes them: signed with the key that is on this machine, and used once."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from editors.digests import sha256_file
from governance.acts import ACT, Act, Asked
from governance.envelopes import sign, statement
from governance.errors import SpentActError
from governance.lifecycle import in_utc
from tasks.ledger import Ledger
from tasks.own_keys import sign_as
from tasks.parse import CorrectionFileError
from tasks.settings import Settings


def sign_act(asked: Asked, *, by: str, settings: Settings) -> dict[str, Any]:
    """Sign an act with a person's own key; returns its envelope.

    Args:
        asked: what is asked for.
        by: who asks.
        settings: say where the key is.

    Raises:
        IdentityError: their key is not on this machine.
    """
    predicate = {
        "act": asked.verb,
        "by": by,
        "at": datetime.now(UTC).isoformat(),
        "reason": asked.reason,
        "options": dict(asked.options),
    }
    return sign(statement(ACT, subject=asked.about, predicate=predicate), sign_as(by, settings))


def check_unused(act: Act, ledger: Ledger) -> None:
    """Refuse an act that was used before; the ledger itself refuses whatever comes between this and its use.

    Raises:
        SpentActError: it was.
    """
    if uses := ledger.history("act", act.digest):
        raise SpentActError(
            f"this {act.asked.verb} by {act.by} was used already, at {in_utc(uses[0]['at'])}; run the command again, "
            "which signs it anew"
        )


def of_file(path: Path) -> dict[str, str]:
    """What an act about a file is about.

    Raises:
        CorrectionFileError: it can't be read.
    """
    try:
        return {path.name: sha256_file(path)}
    except OSError as error:
        raise CorrectionFileError(path, f"cannot be read: {error.strerror}; check the path") from error
