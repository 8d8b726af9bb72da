"""The public face of Corrigenda for programs: pull, verify and load a release, and pin what a service runs.

    folder = corrigenda.pull("assistant@champion", "served/")
    corrigenda.verify(folder, root="9f2c...")
    model, tokenizer = corrigenda.load("assistant@champion")
    adapter = corrigenda.pull("assistant@champion", "adapter/", form="adapter")
    corrigenda.lock(["assistant@champion"])

A version is believed only if the object store holds a release's manifest for it, which the promoter alone may write,
and if every byte hashes to what its manifest says. Where a root's fingerprint is set, its signatures, receipts and the
chain behind it must lead to that root too. A name that the lock file pins means what is pinned there.

All of it is in `consuming`. What is named here is what programs may count on. Versions in MLflow are such programs:
each keeps the code by which it is loaded, which calls `load` and `name_of`.
"""

from consuming.errors import (
    AlteredError,
    FormError,
    LockError,
    NotReleasedError,
    RegistryAwayError,
    ReleaseError,
    UnknownVersionError,
)
from consuming.pinning import lock, name_of, outdated
from consuming.pulling import load, pull
from consuming.settings import ConsumerSettings
from consuming.verifying import verify

__all__ = [
    "AlteredError",
    "ConsumerSettings",
    "FormError",
    "LockError",
    "NotReleasedError",
    "RegistryAwayError",
    "ReleaseError",
    "UnknownVersionError",
    "load",
    "lock",
    "name_of",
    "outdated",
    "pull",
    "verify",
]
