"""A release in memory that many ask at once: verified before it answers, and followed when its name moves on.

One thread writes. What is asked meanwhile joins as a group of its own and takes turns with the others, so nobody waits
for somebody's long answer. A second thread looks where the name points: a release that took its place is pulled,
verified and loaded beside the old one; groups at work end on what they began with. If it can't be used, the old one
stays, and why is told.
"""

from __future__ import annotations

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Protocol

from consuming.errors import RegistryAwayError
from consuming.lockfile import Pin
from consuming.objects import Objects
from consuming.pinning import pin_of
from consuming.pulling import load
from consuming.settings import ConsumerSettings
from consuming.telling import Progress
from consuming.versions import Version, resolve
from editors.writing import Answer, Wish, write_together

if TYPE_CHECKING:
    from transformers import PreTrainedModel, PreTrainedTokenizerFast

logger = logging.getLogger(__name__)

GROUP = 32  # answers that begin together, at most
WAITING = 256  # askers who may wait; more are turned away

Outcome = str
LOADED, REFUSED, AWAY = "loaded", "refused", "away"


class BusyServiceError(Exception):
    """Too many wait already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """A release in memory."""

    version: Version
    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerFast
    since: datetime

    @property
    def position(self) -> int:
        """The number of the release."""
        assert self.version.release is not None, "only releases are served"
        return int(self.version.release["position"])

    @property
    def window(self) -> int:
        """The most tokens of prompt and answer together."""
        return int(self.model.config.max_position_embeddings)


@dataclass(slots=True)
class Checked:
    """When the name was last looked up, and what was wrong with what it means then."""

    at: datetime
    problem: str = ""


class Source(Protocol):
    """Where releases come from. Both calls raise a ReleaseError for one that can't be used."""

    def find(self) -> Version:
        """Return the release that is meant now."""
        ...

    def load(self, version: Version) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
        """Return its model and tokenizer, verified."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """The release that a name means in the registry; `name` is as for `corrigenda.pull`.

    Where the lock file pinned it when this was made, it means that one for good.
    """

    name: str
    settings: ConsumerSettings
    pin: Pin | None = None

    @classmethod
    def here(cls, name: str, *, settings: ConsumerSettings, report: Progress) -> Named:
        """A name as it is to be understood here.

        Raises:
            ReleaseError: the lock file can't be read, or names another root than the settings.
        """
        pin, settings = pin_of(name, settings=settings, report=report)
        return cls(name=name, settings=settings, pin=pin)

    @property
    def pinned(self) -> str:
        """The lock file that pins it, if one does."""
        return str(self.settings.lock) if self.pin else ""

    def find(self) -> Version:
        """Ask the registry where the name points; the object store alone where it is pinned."""
        settings = self.settings
        return resolve(self.name, Objects(settings), candidate=False, settings=settings, pin=self.pin)

    def load(self, version: Version) -> tuple[PreTrainedModel, PreTrainedTokenizerFast]:
        """Pull, verify and load the release."""
        return load(version.candidate, settings=self.settings)


class Service:
    """Answers with the release that a name means."""

    def __init__(
        self,
        name: str,
        *,
        source: Source,
        pinned: str = "",
        reloaded: Callable[[Outcome], None] = lambda outcome: None,
    ) -> None:
        """Load the release.

        Args:
            name: what clients call it.
            source: where it comes from, and what takes its place.
            pinned: the lock file that lets nothing take its place, to be told to who asks; none by default.
            reloaded: called with how each look at the source ended, unless it is the same as before.

        Raises:
            ReleaseError: it can't be used.
        """
        self.name = name
        self.pinned = pinned
        self._source = source
        self._reloaded = reloaded
        self.held = self._hold(source.find())
        self.checked = Checked(at=self.held.since)
        self._queue: deque[tuple[Held, Answer]] = deque()
        self._groups: deque[tuple[list[Answer], Iterator[None]]] = deque()
        self._woken = threading.Condition()
        self._stopping = threading.Event()

    @property
    def waiting(self) -> int:
        """How many answers have not begun."""
        return len(self._queue)

    @property
    def writing(self) -> int:
        """How many answers are being written."""
        return sum(not answer.ended for answers, _ in list(self._groups) for answer in answers)

    def run(self, *, every: float) -> None:
        """Answer, and look where the name points every so many seconds, in two threads, until `stop`."""
        threading.Thread(target=self._write, name="writer", daemon=True).start()
        threading.Thread(target=self._follow, args=(every,), name="follower", daemon=True).start()

    def stop(self) -> None:
        """End both threads; what is being written is left."""
        with self._woken:
            self._stopping.set()
            self._woken.notify_all()

    def ask(self, wish: Wish, *, told: Callable[[Answer], None], held: Held) -> Answer:
        """Let an answer be written, by the release that the wish was made for.

        Raises:
            BusyServiceError: too many wait.
        """
        answer = Answer(wish=wish, told=told)
        with self._woken:
            if len(self._queue) >= WAITING:
                raise BusyServiceError(f"{WAITING} others wait; ask again in a while")
            self._queue.append((held, answer))
            self._woken.notify_all()
        return answer

    def look(self) -> None:
        """Take the release that is meant now, if it is another one and can be used."""
        now = datetime.now(UTC)
        try:
            version = self._source.find()
            if version.candidate != self.held.version.candidate:
                self.held = self._hold(version)
                self._reloaded(LOADED)
                logger.info("serving %s, %s", self.name, told_of(self.held))
            self.checked = Checked(at=now)
        except Exception as error:  # whatever it is, the one that is served goes on
            away = isinstance(error, RegistryAwayError)
            self._reloaded(AWAY if away else REFUSED)
            self.checked = Checked(at=self.checked.at if away else now, problem=str(error))
            logger.warning("still serving %s: %s", told_of(self.held), error)

    def _hold(self, version: Version) -> Held:
        model, tokenizer = self._source.load(version)
        return Held(version=version, model=model, tokenizer=tokenizer, since=datetime.now(UTC))

    def _follow(self, every: float) -> None:
        while not self._stopping.wait(every):
            self.look()

    def _write(self) -> None:
        while self._wait():
            self._admit()
            answers, steps = self._groups[0]
            try:
                next(steps)
                self._groups.rotate(-1)
            except StopIteration:
                self._groups.popleft()
            except Exception:
                logger.exception("an answer could not be written")
                self._groups.popleft()
                _fail(answers)

    def _wait(self) -> bool:
        """Wait until there is something to write; False once it is over."""
        with self._woken:
            self._woken.wait_for(lambda: self._queue or self._groups or self._stopping.is_set())
        return not self._stopping.is_set()

    def _admit(self) -> None:
        """Let those who wait begin, together where they ask the same release."""
        with self._woken:
            waiting = [self._queue.popleft() for _ in range(min(GROUP, len(self._queue)))]
        for held in {id(held): held for held, _ in waiting}.values():
            answers = [answer for of, answer in waiting if of is held]
            self._groups.append((answers, write_together(held.model, held.tokenizer, answers)))


def told_of(held: Held) -> str:
    """Which release it is, for a line of text."""
    return f"release {held.position} ({held.version.candidate[:12]})"


def _fail(answers: list[Answer]) -> None:
    for answer in answers:
        if not answer.ended:
            answer.ended = "failed"
            answer.told(answer)
