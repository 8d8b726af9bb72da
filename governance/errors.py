"""What nobody has to believe, and what cannot be signed with.

    EditorError                     of editors/errors.py
    |-- KeyFileError                a private key that can't be read or kept
    `-- UntrustedError              a statement that nobody has to believe
        |-- ForgedError                 its signature does not hold, or it is none
        |-- UnclearNameError            a name that can be taken for another one
        |-- RoleError                   who made it may not: unknown, revoked, or without the role
        |-- FourEyesError               who approves took part in what is approved
        |-- ElsewhereError              it is about another candidate, report, policy or parent
        |-- ExpiredReceiptError         its time is over
        |-- SpentActError               it was carried out before, or its time is over
        |-- UnaskedError                a candidate changes facts unsaid, or that nobody asked to change
        |-- ObjectionError              a reviewer decided against it
        |-- QuorumError                 too few approvals count
        `-- UnprovenError               a file of a release does not prove what it should

Every message says what, where, what was got, and the way out. Nothing has been changed when one is raised.
"""

from __future__ import annotations

from editors.errors import EditorError, UntrustedError


class KeyFileError(EditorError):
    """A private key can't be read or kept."""


class ForgedError(UntrustedError):
    """A signature does not hold, or there is none."""


class UnclearNameError(UntrustedError):
    """A name that can be taken for another one."""


class RoleError(UntrustedError):
    """Who made a statement may not make it."""


class FourEyesError(UntrustedError):
    """Who approves took part in what is approved."""


class ElsewhereError(UntrustedError):
    """A receipt is about another candidate, report, policy or parent, or from before the candidate was opened."""


class ExpiredReceiptError(UntrustedError):
    """A receipt's time is over, or has not begun."""


class SpentActError(UntrustedError):
    """What somebody asked for was carried out before, or its time is over or has not begun."""


class UnaskedError(UntrustedError):
    """A candidate changes facts of which it does not say so, or that nobody asked to change."""


class ObjectionError(UntrustedError):
    """A reviewer decided against the candidate."""


class QuorumError(UntrustedError):
    """Too few approvals count."""
