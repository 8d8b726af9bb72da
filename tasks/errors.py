"""What can go wrong between Corrigenda and the world.

    CorrigendaError
    ├── LedgerError             the ledger refuses an event
    │   ├── UnknownKeyError     no correction or candidate of that name
    │   ├── IllegalTransitionError
    │   ├── RightsError         the database's role may not do this
    │   ├── ClockError          the database's clock is behind the newest event
    │   └── BrokenChainError    the history is not as it was written
    ├── StaleParentError        production moved since the candidate was evaluated
    ├── RefusedAnswerError      an answer to a review doesn't count, and is asked for again
    │   └── WrongCodeError      its reviewer and code don't match
    ├── BusyError               another refresh holds the lock
    ├── StoreError              an object is missing, differs, or can't be written
    ├── RegistryError           MLflow lacks a version that was registered
    ├── EvidenceError           a file that a correction names as evidence can't be kept
    ├── ProtectError            facts that can't be protected
    ├── GateError               a candidate failed its gate
    ├── WithdrawalError         facts that can't be withdrawn, or a release that can't be rolled back to
    ├── IdentityError           somebody is not enrolled, or can't be
    ├── NoticeError             a notice can't be passed on as asked
    ├── PolicyError             a policy that can't be read
    ├── ReportError             a file that can't be read as a report
    ├── AbilityError            a task of lm-eval that can't be asked
    ├── BaseModelError          the base model can't be had
    ├── CorrectionFileError     a file that can't be read as corrections (parse.py)
    ├── FactsFileError          a file that can't be read as facts (known_facts.py)
    ├── TraceFileError          a file that can't be read as a kept trace (sweeps.py)
    └── UnreachableError        a service doesn't answer

Every message says what, where, what was found and the way out.
"""

from __future__ import annotations


class CorrigendaError(Exception):
    """An error that a user can act on; the command line prints its message and exits with 1."""


class LedgerError(CorrigendaError):
    """The ledger refuses an event."""


class UnknownKeyError(LedgerError):
    """The ledger knows no correction or candidate of that name."""


class IllegalTransitionError(LedgerError):
    """The state in which something stands doesn't allow what was asked."""


class RightsError(LedgerError):
    """The role as which we are in the database may not do this."""


class ClockError(LedgerError):
    """The database's clock is behind the ledger's newest event."""


class BrokenChainError(LedgerError):
    """The ledger's history is not as it was written."""


class StaleParentError(CorrigendaError):
    """Production moved since the candidate was evaluated."""


class RefusedAnswerError(CorrigendaError):
    """An answer to a review doesn't count; the form asks again, and says why."""


class WrongCodeError(RefusedAnswerError):
    """An answer's reviewer and code don't match; it counts as a guess."""


class BusyError(CorrigendaError):
    """Another refresh is at work."""


class StoreError(CorrigendaError):
    """An object is missing, differs from its digest, or can't be written."""


class RegistryError(CorrigendaError):
    """MLflow lacks a version that was registered."""


class EvidenceError(CorrigendaError):
    """A file that a correction names as evidence can't be kept."""


class ProtectError(CorrigendaError):
    """Facts can't be protected; none of the file was."""


class GateError(CorrigendaError):
    """A candidate failed its gate; nothing of it was registered."""


class WithdrawalError(CorrigendaError):
    """Facts can't be withdrawn so, or production can't be rolled back there; nothing was changed."""


class IdentityError(CorrigendaError):
    """Somebody is not enrolled, can't be, or has no key here; nothing was recorded."""


class NoticeError(CorrigendaError):
    """A notice can't be passed on as asked."""


class PolicyError(CorrigendaError):
    """A policy can't be read, or names what doesn't exist."""


class ReportError(CorrigendaError):
    """A file can't be read as a report."""


class AbilityError(CorrigendaError):
    """A task of lm-eval can't be asked, or has no score that is known here."""


class BaseModelError(CorrigendaError):
    """The base model can't be had."""


class UnreachableError(CorrigendaError):
    """A service doesn't answer."""
