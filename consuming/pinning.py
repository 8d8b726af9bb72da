"""Pinning: a name means what the lock file says until somebody moves the entry; and how far that is behind by now."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from consuming.errors import AlteredError, LockError
from consuming.lockfile import Pin, check_name, model_of, read_lock, write_lock
from consuming.objects import Objects
from consuming.proving import ROOTLESS, check_proven
from consuming.settings import ConsumerSettings
from consuming.telling import Progress, log
from consuming.versions import Version, resolve
from editors.digests import DIGEST

GONE = {"revoked": "was revoked", "expired": "expired"}
"""How a fact leaves that no longer holds, in words."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Lagging:
    """What the lock file pins, beside what the name stands for now.

    Attributes:
        name: that is pinned.
        pin: to what.
        approved: when the pinned release was.
        now: what the name stands for.
        added, withdrawn: the ids of facts that this one has and the pinned one has not, and the reverse.
        gone: of the pinned one's facts, what became of those that were revoked or have expired in any release since.
    """

    name: str
    pin: Pin
    approved: str
    now: Version
    added: Sequence[str]
    withdrawn: Sequence[str]
    gone: Sequence[str]

    @property
    def outdated(self) -> bool:
        """Whether the name stands for something else, or what is pinned says what was revoked or has expired."""
        return self.now.candidate != self.pin.candidate or bool(self.gone)


def lock(names: Sequence[str], *, settings: ConsumerSettings | None = None, report: Progress = log) -> dict[str, Pin]:
    """Pin names to the releases that they stand for now, in the lock file; returns all that it pins.

    Each has to lead to the root that is written with it: the settings', or else the one that its entry names already.

    Raises:
        LockError: the lock file can't be read, or one of them is no name that can be pinned.
        ReleaseError: one of them stands for no release, or for one that is not proven; the lock file is left as it was.
    """
    settings, told = settings or ConsumerSettings(), []
    pins = read_lock(settings.lock)
    for name in names:
        check_name(name)
    objects = Objects(settings)
    for name in names:
        version = resolve(name, objects, candidate=False, settings=settings)
        before = pins.get(name)
        root = settings.root_fingerprint or (before.root if before else "")
        if root:
            whose = "the settings name" if settings.root_fingerprint else f"its entry in {settings.lock} names"
            try:
                check_proven(version, objects, root=root, settings=settings, report=report)
            except AlteredError as error:
                raise AlteredError(
                    f"{name} is not pinned, for it does not lead to the root {root[:12]} that {whose}: {error}. "
                    "CORRIGENDA_ROOT_FINGERPRINT names another root, if that is the right one"
                ) from error
        pins[name] = version.as_pinned(root=root)
        moved = f", and no longer to {before.told()}" if before and before != pins[name] else ""
        told.append(f"{name} is pinned to {pins[name].told()}{moved}{'' if root else f'; it was {ROOTLESS}'}")
    write_lock(settings.lock, pins)
    for line in told:
        report(line)
    return pins


def outdated(*, settings: ConsumerSettings | None = None) -> list[Lagging]:
    """Hold what the lock file pins against what each name stands for now, as the registry tells it.

    Raises:
        LockError: there is no lock file, or it can't be read.
        ReleaseError: what is pinned, or what a name stands for, is no release.
    """
    settings = settings or ConsumerSettings()
    pins = read_lock(settings.lock)
    if not pins:
        raise LockError(f"{settings.lock} pins nothing; 'corrigenda lock NAME' pins what NAME stands for now")
    objects = Objects(settings)
    return [_lagging(name, pin, objects, settings=settings) for name, pin in pins.items()]


def pin_of(
    name: str, *, settings: ConsumerSettings, candidate: bool = False, report: Progress = log
) -> tuple[Pin | None, ConsumerSettings]:
    """What the lock file pins a name to, if it does, and the settings with the root that it names.

    A digest pins itself, and who asks for a candidate wants what nobody approved: neither is looked up.

    Raises:
        LockError: the lock file can't be read, is set and not there, or the settings name another root.
    """
    if candidate or DIGEST.fullmatch(name):
        return None, settings
    if "lock" in settings.model_fields_set and not settings.lock.exists():
        raise LockError(f"{settings.lock} is set as the lock file, and is not there; 'corrigenda lock NAME' writes it")
    pin = read_lock(settings.lock).get(name)
    if pin is None:
        return None, settings
    if pin.root and settings.root_fingerprint and pin.root != settings.root_fingerprint:
        raise LockError(
            f'{settings.lock}, entry "{name}" pins the root {pin.root}, and the settings name '
            f"{settings.root_fingerprint}. Find out which is right; 'corrigenda lock {name}' pins the settings' own"
        )
    report(f"{name} is pinned to {pin.told()} by {settings.lock}")
    return pin, settings.model_copy(update={"root_fingerprint": settings.root_fingerprint or pin.root})


def name_of(model: str, candidate: str, *, settings: ConsumerSettings | None = None) -> str:
    """The name by which to load a candidate that MLflow was asked for: the lock file's own, where it pins the model.

    MLflow tells a model which version it is, and not by which name it was asked for, so it can't be given another one.

    Raises:
        LockError: the lock file can't be read, or pins the model to something else.
    """
    settings = settings or ConsumerSettings()
    pins = {name: pin for name, pin in read_lock(settings.lock).items() if model_of(name) == model}
    same = [name for name, pin in pins.items() if pin.candidate == candidate]
    if pins and not same:
        told = ", ".join(f"{name} to {pin.told()}" for name, pin in pins.items())
        raise LockError(
            f"{settings.lock} pins {told}, and MLflow was asked for {candidate[:12]}; ask it for a number that is "
            "pinned, load by corrigenda.load(NAME), or pin this one by 'corrigenda lock'"
        )
    return same[0] if same else candidate


def _lagging(name: str, pin: Pin, objects: Objects, *, settings: ConsumerSettings) -> Lagging:
    """Compare what is pinned with what the name stands for, and with the newest release."""
    rooted = settings.model_copy(update={"root_fingerprint": settings.root_fingerprint or pin.root})
    pinned = resolve(name, objects, candidate=False, settings=rooted, pin=pin)
    now = resolve(name, objects, candidate=False, settings=settings)
    newest = resolve(f"{model_of(name)}@champion", objects, candidate=False, settings=settings)
    assert pinned.release is not None, "nothing else is pinned"
    ours, theirs = ({fact["id"] for fact in version.manifest["facts"]} for version in (pinned, now))
    return Lagging(
        name=name,
        pin=pin,
        approved=pinned.release["approved"],
        now=now,
        added=sorted(theirs - ours),
        withdrawn=sorted(ours - theirs),
        gone=[line for fact, line in _gone_since(pin.position, newest, objects, settings=settings) if fact in ours],
    )


def _gone_since(
    position: int, newest: Version, objects: Objects, *, settings: ConsumerSettings
) -> Iterator[tuple[str, str]]:
    """The facts that were revoked or expired in the releases after a position, each with a line that says so.

    Candidates name their parents by digest, so this comes to an end whatever the records say.
    """
    version = newest
    while version.release and version.release["position"] > position:
        for each in version.manifest["leaving"]:
            if each["becomes"] in GONE:
                why = f": {each['reason']}" if each["reason"] else ""
                yield each["id"], f"{each['id']} {GONE[each['becomes']]} in {version.told()}{why}"
        if version.manifest["parent"] == version.manifest["base"]:
            return
        version = resolve(version.manifest["parent"], objects, candidate=False, settings=settings)
