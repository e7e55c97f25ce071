"""What the body of a run has called: numbered, counted, waited for, and ended with it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ..errors import UpstreamFailed
from . import outcomes
from .futures import Future

if TYPE_CHECKING:
    from ..states import State
    from .frames import Frame
    from .sessions import Session

__all__ = ["Children"]

_log: Final = logging.getLogger("pluperfect.engine")

_AWAY: Final[Any] = object()


class Children:
    """
    The calls of one body.

    Futures come and go in `open` from many threads, each in one step of the set's own; only what takes several has a lock.

    Attributes:
        session: The tree that the body belongs to.
        lock: Held for a few steps: theirs, and those of the futures among them. Where a call ends well nothing is called in
            them, so that no thread loses the interpreter while it holds the lock, and no other has to wait for it.
        open: The submitted calls that have not ended.
        failures: The submitted calls that did not end well, for whoever looks at them.
        active: The direct calls under way.
        resting: Those that came to rest without an end.
        total: How many came to rest.
        completed: How many of these ended well.
        patches: What was asked for by `patched`, and the answers.
    """

    __slots__ = (
        "_ahead",
        "_counts",
        "_names",
        "active",
        "completed",
        "failures",
        "lock",
        "open",
        "patches",
        "resting",
        "session",
        "total",
    )

    def __init__(self, session: Session) -> None:
        self.session: Session = session
        self._counts: dict[str, int] = {}
        self._names: dict[str, int] = {}
        # A handler of a signal, or the end of a generator that the garbage collector found, may come in between and call again.
        self.lock: threading.RLock = threading.RLock()
        self.open: set[Future[Any]] = set()
        self._ahead: dict[Frame, None] = {}  # on record, and not begun: whoever takes one out begins or ends it
        self.failures: list[Future[Any]] = []
        self.resting: list[Frame] = []
        self.active: set[Frame] = set()
        self.total: int = 0
        self.completed: int = 0
        self.patches: dict[str, bool] = {}

    def place(self, key: str, name: str, count: int = 1) -> tuple[int, int]:
        """Number a call: which occurrence of its key it is, and the number of the first of its run names."""
        counts, names = self._counts, self._names
        with self.lock:
            # Nothing is called between looking and noting: nobody can come in between, and be given the same number.
            index = counts[key] if key in counts else 0  # noqa: SIM401
            counts[key] = index + 1
            number = names[name] if name in names else 0  # noqa: SIM401
            names[name] = number + count
            return index, number

    def give_back(self, key: str, name: str) -> None:
        """The call that was numbered last is not made yet: its numbers are those of the next one."""
        with self.lock:
            self._counts[key] -= 1
            self._names[name] -= 1

    def made(self, key: str) -> int:
        """How many calls with this key were made so far; a map counts as one."""
        return self._counts.get(key, 0)

    def took(self, future: Future[Any]) -> None:
        """A child was submitted: the flow ends only after it."""
        self.open.add(future)

    def expect(self, children: Mapping[Frame, None]) -> None:
        """The births of these go on record before they are begun: those that never are end with the body."""
        self._ahead.update(children)

    def begins(self, child: Frame) -> bool:
        """Whether a call that was expected may begin; if not, the body has ended."""
        return self._ahead.pop(child, _AWAY) is not _AWAY

    def ended(self, future: Future[Any], state: State | None) -> None:
        """A submitted call is about to be settled, its run in this state."""
        if state is not None and state.is_completed():
            self.open.discard(future)
            return
        with self.lock:
            if future in self.open:
                self.failures.append(future)  # first: whoever finds nothing open looks at these next
                self.open.discard(future)

    def count(self, child: Frame) -> None:
        """A child has come to rest: it counts in the flow's message, and is ended with the flow if it has not."""
        state = child.run.state
        well = state is not None and state.is_completed()
        rests = state is None or not state.final
        with self.lock:
            self.total += 1
            if well:
                self.completed += 1
            elif rests:
                self.resting.append(child)

    def waiting(self) -> list[Future[Any]]:
        """The submitted calls that have not ended."""
        return list(self.open)  # what is submitted is added before its caller goes on: nothing can be missed

    def suspended(self) -> list[Any]:
        """The generators that this body has called and nobody has led to their end."""
        found = [None if child.generator is None else child.generator() for child in list(self.active)]
        return [generator for generator in found if generator is not None]

    def cut(self, why: str) -> None:
        """End what is under way, as far as it can be ended: direct calls, and submitted ones that await."""
        for child in list(self.active):
            child.cut(why)
        for future in self.waiting():
            future.cancel(why)

    def take_back(self, *, ended: bool) -> None:
        """
        Take back the submitted calls that have not begun.

        Args:
            ended: The run ends with its body: they end with it, Failed and cancelled. Otherwise an error of the
                engine leaves the run open, and them too, for whoever goes on with it.
        """
        for future in self.waiting():
            if future.withdraw():
                child = future.frame
                if not ended:
                    future.settle(
                        UpstreamFailed("the run that submitted this call was left open before the call had begun")
                    )
                    continue
                child.give_up("cancelled", "the flow ended before this call had begun")
                state = child.run.state
                assert state is not None
                future.settle(state)
                self.count(child)
        for child in list(self._ahead):
            if self.begins(child) and ended:
                child.learn()
                if child.held:
                    continue  # it was not recorded: there was no call
                try:
                    child.give_up("cancelled", "the flow ended before this call had begun")
                except outcomes.OURS:
                    pass  # it is tried again as those are ended that a rule has stopped
                finally:
                    self.count(child)

    def end_resting(self) -> None:
        """End the children that a rule has stopped on their way."""
        for child in self.resting:
            ruling = child.run.ruling
            try:
                if ruling is None:
                    child.give_up("cancelled", "its caller ended before it")
                else:
                    child.give_up("refused", f"refused by {ruling.by}: {ruling.why}; its caller ended")
            except outcomes.OURS:
                _log.exception("run %s could not be ended with its caller and stays open", child.run.birth.run_name)
