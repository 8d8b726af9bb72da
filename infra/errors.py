"""What can go wrong with the local stack.

CorrigendaError
└── StackError           the local stack can't be started or stopped
    ├── OtherCodeError   a part that runs was started from other code
    ├── PortTakenError   another program listens where a part should
    ├── PartDiedError    a part ended by itself
    └── PartSilentError  a part runs, but doesn't answer
"""

from __future__ import annotations

from tasks.errors import CorrigendaError


class StackError(CorrigendaError):
    """The local stack can't be started or stopped."""


class OtherCodeError(StackError):
    """A part of the stack that runs was started from other code than is here now."""


class PortTakenError(StackError):
    """Another program listens where a part of the stack should."""


class PartDiedError(StackError):
    """A part of the stack ended by itself; the message carries the end of its log."""


class PartSilentError(StackError):
    """A part of the stack runs but doesn't answer; the message carries the end of its log."""
