"""
Opened logs: which one a run is recorded in, and for how long it stays open.

A flow or task records into the log of the ``with pluperfect.open(...)`` around it; with none around, into
the default one, which is opened once for the process and closed at its exit with nothing lost.
"""

from __future__ import annotations

import atexit
import os
import threading
import weakref
from collections.abc import Iterable, Iterator, Mapping
from contextvars import Token
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from msgspec import Struct

from ..histories import Histories
from ..hooks import Definition, Log, Option
from ..manager import Attending, Hooks
from ..settings import current
from ..states import ABSENT, Input, Packed, State
from .clock import Clock, SystemClock
from .context import current_log
from .sources import Sources

if TYPE_CHECKING:
    from datetime import datetime

    from ..divergences import Replay, Upgrade
    from ..histories import RecordedRun
    from .binding import Binder
    from .definitions import Authored
    from .recovery import Recovered, Repair
    from .replaying import Script
    from .retaking import Retaken
    from .validation import Validator

__all__ = ["OpenLog", "address", "default_uri", "nearest_log", "open"]


class Terms(Struct):
    """
    What one log makes of a flow or task.

    Attributes:
        definition: The flow or task under the plugins of the log.
        attending: Who of them speaks to it.
        options: Those that were set to other than their default, as far as they are plain values: for the record.
        check: Makes the arguments fit the annotations; None: they are taken as they come.
        strict: Whether it only looks whether they do.
        binder: Binds the arguments.
        code: The digest of the function's code.
        generates: Whether the function yields.
        limit: Seconds that a body may take; 0: as long as it likes.
        template: What gives its runs their names, a text or a callable; None: nothing does.
    """

    definition: Definition
    attending: Attending
    options: dict[str, Any]
    check: Validator | None
    strict: bool
    binder: Binder
    code: bytes
    generates: bool
    limit: float
    template: Any

    def validated(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """
        The arguments as the function is to receive them: the same objects where they fit their annotations.

        Raises:
            ParameterTypeError: Some can be made to fit in no way; it names all of them.
        """
        return (args, kwargs) if self.check is None else self.check(args, kwargs, strict=self.strict)


class OpenLog(Histories):
    """
    A log opened with its plugins: what `open` returns.

    Entered by ``with``, it takes the runs of the flows and tasks inside. It can be read at any time while
    it is open, and from any thread.
    """

    def __init__(
        self, hooks: Hooks, uri: str, clock: Clock, *, trust_imported: bool = False, log: Log | None = None
    ) -> None:
        super().__init__(hooks.open_log(uri) if log is None else log, hooks, trust_imported=trust_imported)
        self.clock = clock
        self._turns: weakref.WeakValueDictionary[bytes, threading.Lock] = weakref.WeakValueDictionary()
        self._lock = threading.Lock()
        self.script: Script | None = None  # what answers for every call, where code is led again beside its record
        self.items: Sources = Sources()  # what generators have yielded, while their consumers have it
        self._tokens: list[Token[OpenLog | None]] = []
        self.closed = False

    @property
    def uri(self) -> str:
        """The address of the store."""
        return self.log.uri

    @property
    def carrier(self) -> OpenLog:
        """This log: it carries runs out."""
        return self

    # --- for the engine

    def terms(self, authored: Authored) -> Terms:
        """What this log makes of a flow or task; looked at once."""
        return authored.known.get(self) or self._made(authored)

    def _made(self, authored: Authored) -> Terms:
        declared = self.hooks.options(authored.kind)
        definition = authored.define(declared)
        options = {
            name: plain
            for name, value in authored.given.items()
            if name not in {"name", "description", "version", "tags", "idempotency_key"}
            and (plain := _plain(value, declared.get(name), definition.options)) is not None
        }
        mode = definition.options["validate_parameters" if authored.kind == "flow" else "validate"]
        check = None
        if mode:
            from .validation import Validator

            check = Validator(
                authored.fn, authored.binder.signature, name=authored.name, converters=self.hooks.converter
            )
        known = Terms(
            definition,
            self.hooks.awake(definition),
            options,
            check,
            mode == "strict",
            authored.binder,
            authored.code,
            authored.generates,
            definition.options.get("timeout_seconds") or 0.0,
            definition.options["flow_run_name" if definition.kind == "flow" else "task_run_name"],
        )
        authored.known.put(self, known)
        return known

    def turn(self, run: bytes) -> threading.Lock:
        """The lock that callers of this process hold while they carry out the root run with this id."""
        with self._lock:
            turn = self._turns.get(run)
            if turn is None:
                turn = self._turns[run] = threading.Lock()
            return turn

    # --- after a crash

    def interrupted(self) -> list[RecordedRun]:
        """The root runs that have not ended and that nobody alive carries out, the oldest first; without the paused ones."""
        from . import recovery

        return recovery.interrupted(self)

    def in_doubt(self) -> list[RecordedRun]:
        """
        The calls of tasks that began and have no end on record, and whose process is gone, the oldest first.

        Whether such a call took effect, nobody knows but the world outside. What becomes of it when its flow is
        resumed, its ``on_interrupt`` says; `repair` says it now.
        """
        from . import recovery

        return recovery.in_doubt(self)

    def recover(self, *, limit: int = 3, only: Iterable[str] | None = None) -> list[Recovered]:
        """
        Go on with every flow that a dead process left behind, one after the other, in this process.

        Args:
            limit: How many processes may have died of a run; one that killed more is left, and reported.
            only: Names of flows; None: all.

        Raises:
            ValueError: The limit is not a positive number.
        """
        from . import recovery

        return recovery.recover(self, limit=limit, only=only)

    def repair(self, run: str, action: Repair, *, result: Any = None, why: str = "") -> RecordedRun:
        """
        Say what became of a call in doubt. It is proposed and judged like any other move, and recorded as a repair.

        Args:
            run: The id of a run that began, has no end on record, and that nobody alive carries out.
            action: ``retry``: it is called again when its flow goes on. ``fail``: it failed, in doubt. ``skip``: it
                completed without a result. ``result``: it completed with this one.
            result: With ``result`` alone.
            why: For the record.

        Raises:
            ValueError: There is no such action, or the run is in no doubt.
            Fenced: Somebody alive carries it out.
            Refused: A rule refused; the refusal is on record.
        """
        from . import recovery

        return recovery.repair(self, run, action, result=result, why=why)

    # --- led again

    def replay(self, run: RecordedRun | str, flow: Any = None, *, bodies: bool = False, strict: bool = True) -> Replay:
        """
        Lead the code of a root flow run again beside its record, and say where the two part.

        Every call is answered from the record, none is made; nothing is written. Compared are, call by call, the task, its
        inputs, options, tags and version and what it waits for; the order, maps and what is left over; then how the flow ends,
        and its result. Flows that it calls are led again too.

        Args:
            run: A run, or what `run` finds it by.
            flow: The flow, or where it is found: ``module:flow``, ``file.py:flow``; where it is left out, it is imported from where the record says that it was defined.
            bodies: The bodies of tasks are called as well, with what they were given, and what they give is compared.
            strict: What opens a socket, starts a process, or writes, renames or removes a file is stopped, and is a difference.

        Raises:
            UnknownRun: There is no such run.
            PluperfectError: It is no root flow run, the flow is another one or cannot be imported, or a parameter is not on record.
        """
        from . import replaying

        recorded = self.recorded(run)
        return replaying.replay(self, recorded, flow, bodies=bodies, strict_mode=strict)

    def replays(
        self,
        *,
        state: str | type[State] | None = None,
        name: str | None = None,
        since: float | datetime | None = None,
        flow: Any = None,
        bodies: bool = False,
        strict: bool = True,
    ) -> Iterator[Replay]:
        """
        Replay every root flow run that matches all that is given, the youngest first.

        A run whose code cannot be had is no error here: its replay is ``unloadable`` and says why.

        Args:
            state: A kind, as for `runs`.
            name: The name of the flow.
            since: Only runs that began at this time or later: UTC seconds since the epoch, or a datetime (without a zone: UTC).
            flow: As for `replay`; with it, only the runs of this flow.
            bodies: As for `replay`.
            strict: As for `replay`.

        Raises:
            ValueError: There is no such state.
        """
        from . import replaying

        return replaying.replays(
            self, state=state, name=name, since=since, flow=flow, bodies=bodies, strict_mode=strict
        )

    def check(self, flow: Any, *, since: float | datetime | None = None) -> Upgrade:
        """
        Replay the runs of a flow against its code as it is now: which may go on under it, and which patches can go.

        Args:
            flow: The flow, or where it is found.
            since: Of the runs that have ended, only those that began at this time or later, as for `replays`.
        """
        from . import replaying

        return replaying.check(self, flow, since=since)

    def replay_task(
        self,
        run: RecordedRun | str,
        *,
        attempt: int | None = None,
        iteration: int | None = None,
        inputs: Mapping[str, Any] | None = None,
        task: Any = None,
        flow: Any = None,
        strict: bool = True,
        debug: bool = False,
    ) -> Retaken:
        """
        Call the body of one recorded task run again, with what it was given then; nothing is recorded.

        It gets the recorded inputs, loop payload and attempt number, and calls that it makes are answered from the record.

        Args:
            run: The run of a task, or what `run` finds it by.
            attempt: Which one, from 1 within its iteration; the last one where left out.
            iteration: Which iteration of a loop, from 1; the last one that had the attempt where left out.
            inputs: In the place of recorded inputs, or of those that are not on record.
            task: The task; where left out, it is looked for in the modules that the flow's module imports.
            flow: The flow at the top, or ``module:flow``; where left out, it is imported from where the record says.
            strict: What opens a socket, starts a process, or writes, renames or removes a file is stopped.
            debug: Under pdb: it stops at the first line of the body, and where the body raises.

        Raises:
            UnknownRun: There is no such run.
            LookupError: It has no such attempt.
            SideEffect: In strict mode, the body reached outside.
            PluperfectError: It is no task run, its function is not found, or an input is not on record.
        """
        from . import retaking

        recorded = self.recorded(run)
        wanted = retaking.Wanted(attempt, iteration, inputs or {}, task, flow, strict, debug)
        return retaking.retake(self, recorded, wanted)

    # --- what if

    def fork(
        self,
        run: RecordedRun | str,
        at: int | None = None,
        overrides: Mapping[str, Any] | None = None,
        *,
        flow: Any = None,
    ) -> RecordedRun:
        """
        Begin a new run that shares the beginning of a recorded one, and carry it out; see `RecordedRun.fork`.

        Raises:
            PluperfectError: It is no root flow run, its function is not found, or a parameter is not on record.
        """
        from . import forking

        return forking.fork(self, self.recorded(run), at, overrides or {}, flow)

    # --- lifetime

    def _now(self) -> float:
        return self.clock.now()

    def flush(self) -> None:
        """Wait until everything that was recorded so far is durable."""
        self.log.flush()

    def close(self) -> None:
        """Commit what is queued and let go of the store. A second call does nothing."""
        self.closed: bool = True
        self.log.close()

    def __enter__(self) -> Self:
        self._tokens.append(current_log.set(self))
        with _entering:
            _entered.append(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with _entering:
            _entered.remove(self)
        current_log.reset(self._tokens.pop())
        if not self._tokens:
            self.close()

    def __repr__(self) -> str:
        return f"<OpenLog {self.uri}{' closed' if self.closed else ''}>"


_entered: list[OpenLog] = []
_entering = threading.Lock()
_default: OpenLog | None = None


def _plain(value: Any, option: Option | None, options: Mapping[str, Any]) -> Any:
    """An option as a record keeps it: a plain value, or a list of such; assets by their keys. None: not at all."""
    if option is not None and option.plain is not None:
        value = option.plain(value, options)
    if isinstance(value, str | int | float):
        return value
    if isinstance(value, list | tuple):
        items: list[Any] = [getattr(item, "key", item) for item in value]  # type: ignore[reportUnknownVariableType]
        if all(isinstance(item, str | int | float) for item in items):
            return items
    return None


def open(
    uri: str | None = None,
    *,
    plugins: Iterable[Any] = (),
    disabled: Iterable[str] = (),
    entry_points: bool = True,
    clock: Clock | None = None,
    trust_imported: bool = False,
) -> OpenLog:
    """
    Open a log with its plugins.

    Args:
        uri: ``lmdb:PATH`` or ``memory:``; a bare path means ``lmdb:``. Left out: the setting ``STORE``
            (``PLUPERFECT_STORE``), else the folder ``runs`` in ``HOME``, by default the user's data folder.
        plugins: Modules or objects with hook implementations. They are asked before the built-in ones.
        disabled: Names of plugins to leave out.
        entry_points: Whether to load the plugins that installed distributions announce.
        clock: Where the time comes from; a test gives a `pluperfect.testing.FakeClock`.
        trust_imported: Decode values of imported histories although that may run code of whoever made the file.

    Raises:
        UnknownStore: No plugin opens such an address.
        NotAStore, StoreDamaged, StoreUnwritable: The path cannot be opened as a store; it is left as it is.
        PluginError: A plugin does not fit the contract.
    """
    hooks = Hooks(plugins, disabled=disabled, entry_points=entry_points)
    return OpenLog(hooks, address(uri), clock or SystemClock(), trust_imported=trust_imported)


def address(uri: str | None) -> str:
    """The address that is meant: a bare path is one of the file store, None the default log."""
    if uri is None:
        return default_uri()
    text = os.fspath(uri)
    scheme, colon, _ = text.partition(":")
    # A bare path is convenient; one letter before the colon is a drive, not a scheme.
    return text if colon and len(scheme) > 1 else f"lmdb:{text}"


def default_uri() -> str:
    """The address of the default log."""
    held = current()
    if held.store:
        return address(held.store)
    home = os.path.expanduser(held.home)  # noqa: PTH111 - pathlib is not loaded for this
    return f"lmdb:{os.path.join(home, 'runs')}"  # noqa: PTH118


def nearest_log() -> OpenLog:
    """The log that a run begun here is recorded in."""
    here = current_log.get()
    if here is not None and not here.closed:
        return here
    with _entering:
        # A thread that the host has started inherits no context: the log entered last is meant.
        if _entered:
            return _entered[-1]
        return _opened_default()


def _opened_default() -> OpenLog:
    global _default
    uri = default_uri()
    if _default is not None and (_default.closed or _default.uri != uri):
        _default.close()
        _default = None
    if _default is None:
        _default = open()
        atexit.register(_default.close)
    return _default


def describe_call(name: str, inputs: tuple[Input, ...]) -> str:
    """A call as people write it, from its recorded inputs."""
    from ..states import PLAIN

    def shown(given: Input) -> str:
        packed = given.value
        if isinstance(packed, Packed) and packed.code == PLAIN:
            import msgspec

            text = repr(msgspec.msgpack.decode(packed.data))
            return text if len(text) <= 60 else f"{text[:57]}..."
        if isinstance(packed, Packed) and packed.code == ABSENT:
            return "<not recorded>"
        return f"<{given.digest.hex()[:8]}>" if given.digest else "<unknown>"

    return f"{name}({', '.join(f'{given.name}={shown(given)}' for given in inputs)})"
