"""Verifying: whether a folder is the release, or the whole history, that it says it is, with no service asked.

What its own evidence shows under the root is `governance.verifying`; here it is held against the base in the cache, and
against a lock file.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from consuming.errors import AlteredError, LockError, proof_errors
from consuming.lockfile import Pin, check_pinned, read_lock
from consuming.settings import ConsumerSettings
from consuming.telling import Progress
from editors.contents import MEASURED
from editors.digests import DIGEST
from editors.errors import UnprovenError
from governance.evidence import FOLDER, NEWEST

if TYPE_CHECKING:
    from governance.verifying import Link


def verify(
    folder: str | Path,
    *,
    root: str = "",
    base: str | Path | None = None,
    without_base: bool = False,
    lock: str | Path | None = None,
    settings: ConsumerSettings | None = None,
    report: Progress = lambda line: None,
) -> dict[str, Any]:
    """Verify a pulled folder, or the whole history as an audit has it, with no service asked; returns its card.

    Every file, the signatures under the root, the receipts, the chain of releases back to the base, and that the
    weights or the adapter are what base and patch give.

    Args:
        folder: as `pull` wrote it, or `corrigenda audit export`.
        root: the root's fingerprint, had from somebody who can be believed; that of the settings by default.
        base: folder of the base; by default the one that `pull` left in the cache.
        without_base: leave the weights and the configuration unverified where the base is not here.
        lock: refuse a release that this lock file does not pin.
        settings: name the root and the cache; read from the environment by default.
        report: called with a line for each check that holds.

    Raises:
        AlteredError: a check doesn't hold, or can't be made; the message names the file.
        LockError: the lock file pins another release, or can't be read.
    """
    from governance.auditing import is_export, verify_audit
    from governance.verifying import read_card, verify_release

    settings, folder = settings or ConsumerSettings(), Path(folder)
    root = root or settings.root_fingerprint
    if not DIGEST.fullmatch(root):
        raise AlteredError(
            f"{root!r} is no fingerprint of a root, without which nothing can be verified: name it with --root, or set "
            "CORRIGENDA_ROOT_FINGERPRINT, to what whoever runs the platform told you; 'corrigenda trust show' prints it"
        )
    if is_export(folder):
        if lock is not None or base:
            raise AlteredError(f"{folder} is an audit's export, of which neither a lock file nor a base says anything")
        with proof_errors():
            return verify_audit(folder, root=root, report=report)
    with proof_errors():
        card = read_card(folder)
        release = verify_release(folder, card, root=root, report=report)
        _verify_form(release, card, folder, base=base, without_base=without_base, settings=settings, report=report)
        if lock is not None:
            report(f"lock: {_verify_pinned(release, Path(lock), folder, root=root)}")
        return card


def _verify_form(
    release: Link,
    card: dict[str, Any],
    folder: Path,
    *,
    base: str | Path | None,
    without_base: bool,
    settings: ConsumerSettings,
    report: Progress,
) -> None:
    """Hold what a folder has of weights against what its base and its patch give."""
    from editors.forms import check_built, check_patch

    form, what = card["form"], "adapter" if card["form"] == "adapter" else "weights"
    place = Path(base) if base else settings.home / "cache" / "bases" / release.manifest["base"]
    if form == "patch":
        report(f"patch: {check_patch(release.manifest, candidate=release.candidate, folder=folder)}")
    elif place.is_dir():
        patch = folder / FOLDER / NEWEST["patch"]
        told = check_built(form, release.manifest, patch=patch, base=place, folder=folder, dtype=card["dtype"])
        report(f"{what}: {told}")
    elif base or not without_base:
        raise UnprovenError(
            f"{folder}: the {what} and the configuration were not verified, because the base "
            f"{release.manifest['base']} is not in {place}. All else holds. Name its folder with --base DIR, or "
            "leave this check out with --without-base"
        )
    else:
        report(f"{what}: NOT VERIFIED, nor the configuration, for the base is not here")
    if form in MEASURED:
        report("lost: NOT VERIFIED; the card says what was measured when it was pulled")


def _verify_pinned(release: Link, lock: Path, folder: Path, *, root: str) -> str:
    """Refuse a folder whose release is none that a lock file pins."""
    pins = read_lock(lock)
    same = [name for name, pin in pins.items() if pin.candidate == release.candidate]
    if not same:
        pinned = ", ".join(f"{name} at {pin.told()}" for name, pin in pins.items()) or "nothing"
        raise LockError(
            f"{folder} is release {release.position} ({release.candidate[:12]}), and {lock} pins {pinned}: one of "
            "the two is stale. 'corrigenda pull NAME DIR' fetches what is pinned; 'corrigenda lock NAME' pins what "
            "NAME stands for now"
        )
    patch = release.manifest["patch"]
    found = Pin(candidate=release.candidate, patch=patch, position=release.position, root=root)
    for name in same:
        check_pinned(pins[name], found, entry=f'{lock}, entry "{name}"')
    return f"{lock} pins it as {', '.join(same)}"
