"""Why a release can't be used, one tree, and what doesn't prove what it should by one of these names."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from editors.errors import UnprovenError


class ReleaseError(Exception):
    """A release can't be used: the message says which, why, and the way out.

    ReleaseError
    ├── UnknownVersionError   the registry has no such version
    ├── NotReleasedError      the version is no release
    ├── AlteredError          a file or record is missing, incomplete, or differs from its digest
    ├── LockError             the lock file can't be read, or pins something else
    ├── FormError             a form or a precision in which it can't be had
    └── RegistryAwayError     the registry or the object store doesn't answer

    Of AlteredError is also what doesn't prove what it should: signatures, receipts, and the chain of releases.
    """


class UnknownVersionError(ReleaseError):
    """The registry has no such version."""


class NotReleasedError(ReleaseError):
    """The version was never approved as a release, whatever an alias says."""


class AlteredError(ReleaseError):
    """A file or record is missing, incomplete, differs from its digest, or doesn't prove what it should."""


class LockError(ReleaseError):
    """The lock file can't be read, or pins something else than what is there."""


class FormError(ReleaseError):
    """A form or a precision in which a release can't be had."""


class RegistryAwayError(ReleaseError):
    """The registry or the object store doesn't answer."""


@contextmanager
def proof_errors() -> Iterator[None]:
    """Call what `governance` finds wrong with a release by this package's own name."""
    try:
        yield
    except UnprovenError as error:
        raise AlteredError(str(error)) from error
