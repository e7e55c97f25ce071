"""
The waist: what a plugin may say and when, and what a log and a runner have to be.

Everything above this room meets here. A plugin is a module or an object with functions marked
``@pluperfect.hookimpl``; a store is what a plugin's ``open_log`` returns. The built-in plugins use these
hooks and nothing else, and each can be switched off.

A hook that nobody implements is never called. A plugin that declares an option with ``wakes=True`` is
asked only about flows and tasks that set one of its options, so that it costs nothing elsewhere.

One module, although a long one: who writes a plugin or a store reads the whole contract in one place.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, Final, Protocol

from msgspec import Struct

from .evidence import Checkpoint, Proof, Redaction, Report
from .marks import hookimpl, hookspec
from .rules import Proposal, Verdict
from .states import Packed
from .transitions import Entry, Run, Transition

if TYPE_CHECKING:
    import click

__all__ = [
    "HOOKS",
    "Admitted",
    "Backup",
    "CacheKey",
    "Cell",
    "Compacted",
    "Definition",
    "Head",
    "Health",
    "Holder",
    "Log",
    "Option",
    "Parcel",
    "Part",
    "PruneRule",
    "Pruned",
    "Runner",
    "Specs",
    "Ticket",
    "Unpacked",
    "hookimpl",
    "hookspec",
]

# --- what flows through the hooks -----------------------------------------------------------------------


class Option(Struct, frozen=True):
    """
    An option that a plugin adds to ``@flow`` or ``@task``.

    Attributes:
        name: The keyword.
        default: Its value where nobody sets it.
        doc: One line for people.
        check: Takes the given value and returns the value to keep; raises TypeError or ValueError.
        wakes: The plugin is asked only where one of its options with this mark is set. Names of hooks: at those alone.
        setting: The name of the setting that gives the value where a decorator gives none.
        complete: Takes the value and all options that were given, when the function is decorated, and returns the
            value to keep; raises TypeError or ValueError.
        plain: Takes the value and all options, and returns what a record keeps of it: rules find that in
            ``run.birth.options`` when they are asked without the code. Left out, plain values are recorded as they are.
    """

    name: str
    default: Any = None
    doc: str = ""
    check: Callable[[Any], Any] | None = None
    wakes: bool | tuple[str, ...] = False
    setting: str = ""
    complete: Callable[[Any, Mapping[str, Any]], Any] | None = None
    plain: Callable[[Any, Mapping[str, Any]], Any] | None = None


class Definition:
    """
    A flow or task as rules and plugins see it.

    Attributes:
        kind: ``"flow"`` or ``"task"``.
        name: Its name.
        key: The call key, a hash of name, qualified function name and declared tags.
        fn: The user's function.
        options: All options with their values, defaults included.
        tags: The declared tags.
        version: The version string, or None.
        owner: The ``Flow`` or ``Task`` object.
    """

    __slots__ = ("fn", "key", "kind", "name", "options", "owner", "tags", "version")

    def __init__(
        self,
        kind: str,
        name: str,
        *,
        fn: Callable[..., Any],
        key: str = "",
        options: Mapping[str, Any] | None = None,
        tags: Sequence[str] = (),
        version: str | None = None,
        owner: Any = None,
    ) -> None:
        self.kind: str = kind
        self.name: str = name
        self.fn: Callable[..., Any] = fn
        self.key: str = key or name
        self.options: Mapping[str, Any] = options or {}
        self.tags: tuple[str, ...] = tuple(tags)
        self.version: str | None = version
        self.owner: Any = owner

    def __repr__(self) -> str:
        return f"<Definition {self.kind} {self.name}>"


class CacheKey(Struct, frozen=True):
    """
    The key under which a result is looked up and stored.

    Attributes:
        key: The key; None where none can be made.
        parts: What it was made of, name to digest, to explain a miss.
        why: Why there is no key.
        refresh: Do not look the key up; store the new result under it.
        expiration: Seconds from completion until the result stops answering; None: never.
    """

    key: str | None
    parts: dict[str, str] | None = None
    why: str = ""
    refresh: bool = False
    expiration: float | None = None


class Unpacked(Struct, frozen=True):
    """A decoded value: a box, since None is a value too."""

    value: Any


# --- the log --------------------------------------------------------------------------------------------


class Part(Struct, frozen=True):
    """
    Entries for one run, decided on one version of it.

    Attributes:
        run: 16 bytes.
        root: The run at the top of its tree, whose head holds the epoch.
        expected: The version (the number of entries) that the run must have.
        entries: They continue it: their ``seq`` begin at ``expected + 1``.
    """

    run: bytes
    root: bytes
    expected: int
    entries: tuple[Entry, ...]


class Head(Struct, frozen=True, array_like=True, gc=False):
    """
    What a log knows of a run without reading its records.

    Attributes:
        seq: The version: how many entries the run has.
        position: Where in the log its last entry stands.
        born: Where its first entry stands; runs are listed in this order.
        state: The code of its state, 1 to 8.
        leaf: The hash of its last record.
        root: The run at the top of its tree; None for a root.
        outcome: Where its final transition stands; 0 while there is none.
        epoch: For a root, the highest term that wrote in its tree.
        due: In milliseconds, where the run waits for a time; 0 elsewhere.
        imported: Whether records of it came from another store: its values are not decoded where that may run code.
    """

    seq: int
    position: int
    born: int
    state: int
    leaf: bytes
    root: bytes | None = None
    outcome: int = 0
    epoch: int = 0
    due: int = 0
    imported: bool = False


class Cell(Struct, frozen=True, array_like=True):
    """A row of the cache index: whose result answers a key, and until when (UTC seconds; None: for ever)."""

    run: bytes
    seq: int
    expires: float | None = None


class Holder(Struct, frozen=True):
    """
    Who carries out a tree of runs.

    Attributes:
        epoch: The term.
        owner: The id of the owner: one opening of the store by one process.
        told: The owner in words.
        gone: Why the tree may be taken over; empty while its owner lives.
    """

    epoch: int
    owner: bytes
    told: str
    gone: str


class Parcel(Struct, frozen=True):
    """
    Histories of another store, checked and ready to be taken in.

    Attributes:
        store: The id of the store that they come from.
        rows: Their rows, in the order of its log.
        blobs: The large values that they name, by SHA-256.
        redacted: The values that were taken away there: SHA-256, size, by whom, why.
        header: What the file says beside them; it is kept, so that the same file can be written again.
        at: When they are taken in, UTC seconds.
    """

    store: bytes
    rows: tuple[bytes, ...]
    blobs: Mapping[bytes, bytes]
    redacted: tuple[tuple[bytes, int, str, str], ...]
    header: bytes
    at: float


class Admitted(Struct, frozen=True):
    """
    What became of the runs of a `Parcel`.

    Attributes:
        new: Those that were not here before.
        extended: Those of which more is here now.
        left: Those that were here already, as long or longer.
    """

    new: tuple[bytes, ...]
    extended: tuple[bytes, ...]
    left: tuple[bytes, ...]


class PruneRule(Struct, frozen=True):
    """
    Which trees of runs are pruned, of those that have ended with all of their runs.

    Attributes:
        before: Only those whose last record was made before this (UTC seconds).
        state: Only those whose root is in the state with this code.
        name: Only those whose root is a run of the flow or task with this name.
        keep: Of each flow, the youngest so many that fit ``state`` and ``name`` stay.
        with_keys: Also those with an idempotency key, which would run again if they were called again.
    """

    before: float
    state: int | None = None
    name: str | None = None
    keep: int = 0
    with_keys: bool = False

    def told(self) -> dict[str, Any]:
        """The rule as it is put on record."""
        return {field: getattr(self, field) for field in self.__struct_fields__}


class Pruned(Struct, frozen=True):
    """
    What was pruned, or would be.

    Attributes:
        trees: How many runs that no other run called, with all that they called.
        runs: How many runs these are.
        records: How many records they have.
        bytes: The bytes of these records.
        oldest: When the last record of the tree was made that ended first, UTC seconds; 0: there is none.
        newest: The same of the tree that ended last.
        keyed: How many trees stay for their idempotency key alone.
        values: How many large values went, or would go, that no record names any more.
        value_bytes: Their bytes.
    """

    trees: int = 0
    runs: int = 0
    records: int = 0
    bytes: int = 0
    oldest: float = 0.0
    newest: float = 0.0
    keyed: int = 0
    values: int = 0
    value_bytes: int = 0


class Backup(Struct, frozen=True):
    """
    A backup that was made and checked.

    Attributes:
        path: Its folder, which is a store.
        position: The last record that it has.
        size: How many records the tree over its log has, pruned ones included.
        root: The root of that tree.
        bytes: The size of its file.
        values: How many large values it has as files.
        value_bytes: Their bytes.
        absent: How many values its records name that the store does not have any more.
    """

    path: str
    position: int
    size: int
    root: bytes
    bytes: int
    values: int
    value_bytes: int
    absent: int


class Compacted(Struct, frozen=True):
    """A file that was written anew: its size in bytes before and after, and how many rows it has."""

    before: int
    after: int
    rows: int


class Health(Struct, frozen=True):
    """
    How a store is.

    Attributes:
        facts: What is to be known about it, as plain data.
        findings: What needs somebody's attention, a sentence each, which says what to do.
    """

    facts: dict[str, Any]
    findings: list[str]


class Ticket(Protocol):
    """What an append gives back: it is done when the commit that holds the entries has returned."""

    @property
    def done(self) -> bool:
        """Whether the append was committed or refused."""
        ...

    def wait(self, timeout: float | None = None) -> None:
        """
        Wait for the commit.

        Raises:
            Conflict, Fenced: The append was refused; nothing of it was written.
            StoreError: It could not be written.
            TimeoutError: It is not done after ``timeout`` seconds.
        """
        ...

    def extend(self, part: Part) -> bool:
        """
        Let this append, while it waits to be written, go on with more entries of its tree: all of them are recorded, or none.

        They go on with one of its runs, from where the append leaves that, or with any other run of the tree.

        Returns:
            False where it is too late for that, or something else was appended after it: nothing is changed then, and the part
            is to be appended by itself.

        Raises:
            ValueError, TypeError, OverflowError: As of `Log.append`; nothing is changed.
        """
        ...

    def notify(self, callback: Callable[[], None]) -> None:
        """Call this, from any thread, once the append is done; at once where it is done already."""
        ...


class Log(Protocol):
    """
    An append-only log of runs and the views that are projected from it, in the same transaction.

    Views show what is committed; `flush` first to see one's own latest entries. All methods may be called
    from any thread. ``specs/store.md`` numbers what a log promises, `pluperfect_store.conformance` tests it.
    """

    @property
    def uri(self) -> str:
        """The address that opens this log again."""
        ...

    def append(self, parts: Sequence[Part], *, epoch: int = 0, hold: float = 0.005, claim: bool = False) -> Ticket:
        """
        Append entries, all parts or none.

        Args:
            parts: At most one for each run.
            epoch: The writer's term. A lower one than the tree has seen is refused; a higher one is kept.
            hold: How long the commit may wait for company, in seconds, unless somebody waits for it.
            claim: The first part is the birth of a root, which this process will carry out: others may not, until
                it lets go of it or is gone.

        Raises:
            StoreClosed, StoreForked: The log does not take entries any more.
        """
        ...

    def claim(self, root: bytes, at: float) -> int:
        """
        Become the one who carries out a tree, born or not; durable when this returns.

        Args:
            root: The run at its top.
            at: When, UTC seconds; it stands in the record of the takeover.

        Returns:
            The term for this process's appends.

        Raises:
            Fenced: Somebody else carries it out, and still lives.
        """
        ...

    def release(self, root: bytes, epoch: int) -> None:
        """Let go of a tree that this process carried out in this term, once what was appended before is committed."""
        ...

    def holder(self, root: bytes) -> Holder | None:
        """Who carries out a tree; None: nobody does."""
        ...

    def blob(self, digest: bytes) -> bytes | None:
        """The large value with this SHA-256; None where it is not kept here."""
        ...

    @property
    def store_id(self) -> bytes:
        """The id of the store, under which the log has what the store itself did or refused: no run, but records."""
        ...

    def flush(self) -> None:
        """Wait until everything appended before is committed. Refused appends raise at their own tickets."""
        ...

    def settle_key(self, key: str) -> None:
        """Wait until a result that this process has appended under a cache key, if any, is committed."""
        ...

    def head(self, run: bytes) -> Head | None:
        """The head of a run, or None where there is no such run."""
        ...

    def records(self, run: bytes, after: int = 0, upto: int | None = None) -> list[bytes]:
        """The records of a run with ``after < seq <= upto``, oldest first, as they are stored."""
        ...

    def placed(self, run: bytes) -> list[tuple[int, bytes]]:
        """All records of a run with their positions, oldest first."""
        ...

    def beneath(self, top: bytes) -> list[tuple[int, bytes]]:
        """All records of a run and of all that it called, with their positions, in the order of the log."""
        ...

    def record_at(self, position: int) -> bytes | None:
        """The record at a position of the log."""
        ...

    def children(self, parent: bytes) -> list[bytes]:
        """The runs that were born under this one, in call order."""
        ...

    def called(self, parent: bytes, after: int = 0, limit: int = 64) -> list[tuple[int, list[tuple[int, bytes]]]]:
        """
        The next runs that were born under this one, in call order: of each the position of its birth, and its records with their
        positions, oldest first.

        Args:
            parent: The run that called them.
            after: Only runs that were born behind this position.
            limit: At most so many runs; fewer where they have many records, and none only where there are none.
        """
        ...

    def find(
        self, *, state: int | None = None, name: str | None = None, tag: str | None = None, roots: bool = False
    ) -> Iterator[bytes]:
        """The runs that match all that is given, the youngest first."""
        ...

    def matching(self, prefix: bytes, limit: int = 10) -> list[bytes]:
        """The runs whose id begins with these bytes."""
        ...

    def cached(self, key: str, at: float) -> Cell | None:
        """The row of the cache index under this key that is live at this time."""
        ...

    def due(self, until: float) -> list[tuple[float, bytes]]:
        """The runs that wait for a time up to this one (UTC seconds), the earliest first."""
        ...

    def position(self) -> int:
        """The position of the last committed record; 0 in an empty log."""
        ...

    def feed(self, after: int = 0, limit: int = 1000) -> list[tuple[int, bytes]]:
        """The records after a position, with their positions, in commit order."""
        ...

    def await_position(self, beyond: int, timeout: float | None = None) -> bool:
        """Wait until the log is longer than this; False when the time is up. Sees other processes too."""
        ...

    def compare(self) -> list[str]:
        """Fold the whole log again and say, one line each, where a view differs from it."""
        ...

    def rebuild(self) -> int:
        """Project every view again from the log, in one transaction. Returns the number of records read."""
        ...

    def verify(self, run: bytes | None = None, against: Checkpoint | None = None) -> Report:
        """
        Read the whole log once and say everything that is wrong; nothing is changed.

        Args:
            run: Read the records of this run alone, and prove that they are in the log.
            against: A checkpoint that was kept elsewhere.

        Raises:
            UnknownRun: There is nothing of this run.
        """
        ...

    def tree(self, size: int | None = None) -> tuple[int, bytes]:
        """
        Size and root of the tree over the log.

        Args:
            size: As it was at this size; now where left out.

        Raises:
            IndexError: The log was never so long, or (PrunedAway) all records around there were pruned.
        """
        ...

    def prove(self, run: bytes, size: int | None = None) -> Proof:
        """
        Prove that a run's last record is in the log, and by its chain the whole run.

        Args:
            run: The run.
            size: In the tree of this size; of now where left out. The last record in it is proved.

        Raises:
            UnknownRun: There is no such run, or was none at that size.
            IndexError: The log was never so long, or (PrunedAway) all records around there were pruned.
        """
        ...

    def consistency(self, size: int, later: int | None = None) -> tuple[bytes, ...]:
        """The path that shows that the tree of ``later`` leaves (now where left out) begins with the one of ``size``."""
        ...

    def admit(self, parcel: Parcel) -> Admitted:
        """
        Take histories of another store in: all of them, byte for byte, or none.

        Raises:
            ImportRefused: A run has another history here, or somebody carries it out.
        """
        ...

    def redact(
        self, run: bytes, digests: Collection[bytes], *, everywhere: bool, by: str, why: str, at: float
    ) -> Redaction:
        """
        Take values away: from the records of one run and from what large values are kept in. It goes on record.

        Args:
            run: From this run's records.
            digests: SHA-256 of the values.
            everywhere: From the records of all other runs too.
            by: Who wants it.
            why: For which reason.
            at: When, UTC seconds.
        """
        ...

    def prune(self, rule: PruneRule, at: float, *, dry_run: bool = False) -> Pruned:
        """
        Take whole trees of ended runs out of the log, some to a transaction, and values that no record names any more.

        Their leaves stay, so that the tree over the log does not change; what went is on record, under the store's id.

        Args:
            rule: Which trees.
            at: When, UTC seconds.
            dry_run: Change nothing; only say what would go.
        """
        ...

    def backup(self, path: str) -> Backup:
        """
        Copy the store into a new folder, while others write, and check the copy.

        Raises:
            StoreError: There is something in the folder, or this log has no file.
            StoreDamaged: The copy is not sound; it was not kept.
        """
        ...

    def compact(self) -> Compacted:
        """
        Write the file anew without the room that it does not use.

        Raises:
            StoreError: Somebody else has the store open, or this log has no file.
        """
        ...

    def health(self) -> Health:
        """Look after the store: what there is, and what needs attention. Slots of dead readers are cleared."""
        ...

    def close(self) -> None:
        """Commit what is queued and let go of the file. A second call does nothing."""
        ...


class Runner(Protocol):
    """
    Where submitted calls run.

    One that has a ``submit_steps(step)`` too is given most calls by it: it calls the step, again each time that the ticket which
    that gave is done, until it gives None. So a call that waits for a commit holds no thread.
    """

    def submit(self, call: Callable[[], None]) -> None:
        """Have this called, once, some time, somewhere. The call never raises."""
        ...

    def close(self) -> None:
        """Return when every call that was submitted has returned; take no more."""
        ...


# --- the hooks ------------------------------------------------------------------------------------------


class Specs:
    """What a plugin may say and when. The last registered is asked first; users' plugins come before built-ins."""

    @hookspec
    def options(self, kind: str) -> Sequence[Option] | None:
        """
        Name the options that this plugin adds to ``@flow`` or ``@task`` (``kind``).

        Asked once for each kind when a log is opened. Two plugins that add the same name are an error.
        """

    @hookspec(firstresult=True)
    def open_log(self, uri: str) -> Log | None:
        """Open the store with this address (``scheme:rest``), or None: not mine."""

    @hookspec(firstresult=True)
    def make_runner(self, name: str) -> Runner | None:
        """Make the runner with this name, or None: not mine. Asked once for each flow run that submits."""

    @hookspec(firstresult=True)
    def cache_key(
        self, run: Run, definition: Definition, arguments: Mapping[str, Any], flow_inputs: Mapping[str, Any]
    ) -> CacheKey | None:
        """
        Say under which key the result of this call is looked up and stored; None: it is not cached.

        ``arguments`` are the call's by parameter, ``flow_inputs`` those of the nearest flow around it.

        Asked once for each call of a task, when it leaves Pending, its arguments resolved. The engine looks the key up and
        puts the hit on the proposal. Pure but for callables of the user that it has to ask.
        """

    @hookspec(firstresult=True)
    def review(self, run: Run, proposal: Proposal, definition: Definition | None) -> Verdict | None:
        """
        Judge one proposal before it is recorded: **the orchestration rule**.

        None: no opinion, ask the next. ``Verdict(to=...)``: record that state instead; the table must have
        the row. ``Verdict(refuse=...)``: refuse; the refusal is recorded too. ``Verdict(delay=...)``: ask
        again later. ``Verdict(ask=...)``: have the callable of an option asked first. Pure: the same
        arguments give the same verdict; for the time use ``proposal.at``. ``definition`` is None when a
        history is judged without its code.
        """

    @hookspec
    def during(self, run: Run, definition: Definition) -> AbstractContextManager[Any] | None:
        """Give a context manager that is entered around the call of the user's function, sync or async."""

    @hookspec
    def recorded(self, run: Run, transition: Transition, definition: Definition) -> Any:
        """
        Take note of a transition after its commit. An exception is logged and never alters the run.

        May do anything; may return an awaitable, which is awaited before the run goes on.
        """

    @hookspec(firstresult=True)
    def pack(self, value: Any) -> Packed | None:
        """Encode a result, payload, parameter or input; None: not mine. Raises UnpackableValue."""

    @hookspec(firstresult=True)
    def unpack(self, packed: Packed) -> Unpacked | None:
        """Decode what some ``pack`` has encoded; None: not mine."""

    @hookspec(firstresult=True)
    def coerce_parameter(self, annotation: Any) -> Callable[[Any], Any] | None:
        """
        Say how values of parameters with this annotation are checked and converted, or None: not mine.

        The converter takes a value and returns the one to pass on, the very object where it fits; it raises TypeError
        or ValueError where nothing fits. Asked once for each annotation, at any depth, when a function is first called
        with validation. Pure.
        """

    @hookspec
    def commands(self, cli: click.Group) -> None:
        """Add commands to the command line."""


HOOKS: Final = tuple(name for name in vars(Specs) if not name.startswith("_"))
"""The names of the hooks."""
