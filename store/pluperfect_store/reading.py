"""The reading half of every log here: the questions of the `Log` protocol, answered from the tables."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import AbstractContextManager
from heapq import merge
from itertools import islice
from math import isnan
from typing import Final

from pluperfect.hooks import Cell, Head, Holder

from .layout import (
    born_of,
    cache_key,
    child_key,
    child_prefix,
    decode_cell,
    decode_head,
    decode_lease,
    decode_owner,
    due_ms,
    idx_key,
    number,
    past,
    readable_head,
    state_prefix,
    text_key,
    text_prefix,
    timer_key,
    u64,
)
from .leases import gone
from .ledger import Rows, end_of, under

__all__ = ["Reading", "check_id", "check_timeout", "check_whole"]

_LAST_SEQ: Final = 2**32 - 1
_LAST: Final = 2**64 - 1
_SHORT: Final = 8  # records: few runs have more
_LOOK: Final = 4096  # rows to look at in one snapshot, however few of them match


def check_whole(what: str, *given: int) -> None:
    """
    Make sure of what should be whole numbers.

    Raises:
        TypeError: One is none.
    """
    for one in given:
        if not isinstance(one, int):
            raise TypeError(f"{what}: {one!r} is no whole number.")


def check_id(run: bytes) -> None:
    """
    Make sure of what should be the id of a run: a longer one would be cut in the key of a row, and answer for another run.

    Raises:
        ValueError: It is none.
    """
    if type(run) is not bytes or len(run) != 16:
        raise ValueError(f"The id of a run has 16 bytes; this is none: {run!r}.")


def check_timeout(timeout: float | None) -> None:
    """
    Make sure of what should be seconds: whoever waits for what is no number waits for ever.

    Raises:
        ValueError: It is no number.
    """
    if timeout is not None and (not isinstance(timeout, int | float) or isnan(timeout)):
        raise ValueError(f"A time to wait is in seconds; this is none: {timeout!r}.")


class Reading:
    """
    Answers from one snapshot each. A subclass gives the snapshots.

    Lists that may be long are read page by page, each page from a snapshot of its own, so that nobody who
    stops in the middle of one holds a snapshot open.
    """

    def _rows(self) -> AbstractContextManager[Rows]:
        """A snapshot of the committed tables, as long as the context lasts."""
        raise NotImplementedError

    def head(self, run: bytes) -> Head | None:
        """The head of a run, or None where there is no such run."""
        with self._rows() as rows:
            found = rows.get("head", run) if run else None
        return None if found is None else decode_head(found)

    def records(self, run: bytes, after: int = 0, upto: int | None = None) -> list[bytes]:
        """The records of a run with ``after < seq <= upto``, oldest first, as they are stored."""
        check_whole("The bounds of a history", after, 0 if upto is None else upto)
        last = _LAST_SEQ - 1 if upto is None else min(upto, _LAST_SEQ - 1)
        first = max(after, 0) + 1
        if len(run) != 16 or first > last:
            return []
        with self._rows() as rows:
            # A single one is mostly the last of a run that has ended: its head leads there, and never trails behind.
            head = readable_head(rows.get("head", run)) if first == last else None
            if head is not None and head.seq == last:
                return rows.get_many("log", [u64(head.position)])
            places = [place for _, place in rows.scan("idx", idx_key(run, first), idx_key(run, last + 1))]
            return rows.get_many("log", places)

    def placed(self, run: bytes) -> list[tuple[int, bytes]]:
        """All records of a run with their positions, oldest first."""
        check_id(run)
        with self._rows() as rows:
            places = _places_of(rows, run)
            return [(number(place), row) for place, row in zip(places, rows.get_many("log", places), strict=True)]

    def called(self, parent: bytes, after: int = 0, limit: int = 64) -> list[tuple[int, list[tuple[int, bytes]]]]:
        """The next runs that were born under this one, in call order: see `pluperfect.hooks.Log.called`."""
        check_id(parent)
        check_whole("A position and a limit", after, limit)
        after = max(after, 0)
        if limit <= 0 or after >= _LAST:
            return []
        with self._rows() as rows:
            born = [*islice(rows.scan("child", child_key(parent, after + 1), past(child_prefix(parent))), limit)]
            found = _places(rows, [run for _, run in born])
            read = iter(rows.get_many("log", [place for places in found for place in places]))
            return [
                (born_of(key), [(number(place), next(read)) for place in places])
                for (key, _), places in zip(born, found, strict=False)  # of very long ones there are fewer
            ]

    def beneath(self, top: bytes) -> list[tuple[int, bytes]]:
        """All records of a run and of all that it called, with their positions, in the order of the log."""
        check_id(top)
        called: defaultdict[bytes, list[bytes]] = defaultdict(list)
        known: dict[bytes, set[bytes]] = {}  # by the beginning of their ids, which mostly is one for a whole tree
        waiting = [top]
        with self._rows() as rows:
            while waiting:
                run = waiting.pop()
                group = run[:6]
                if group not in known:
                    known[group] = set()
                    for key, child in under(rows, "child", group):
                        called[key[:16]].append(child)
                if run not in known[group]:
                    known[group].add(run)
                    waiting += called.get(run, ())
            places = [
                place for group, runs in known.items() for key, place in under(rows, "idx", group) if key[:16] in runs
            ]
            places.sort()
            return [*zip(map(number, places), rows.get_many("log", places), strict=True)]

    def record_at(self, position: int) -> bytes | None:
        """The record at a position of the log."""
        check_whole("A position", position)
        if not 0 < position <= _LAST:
            return None
        with self._rows() as rows:
            return rows.get("log", u64(position))

    def blob(self, digest: bytes) -> bytes | None:
        """The large value with this SHA-256; None where it is not kept here."""
        with self._rows() as rows:
            return rows.get("blob", digest)

    def holder(self, root: bytes) -> Holder | None:
        """Who carries out a tree; None: nobody does."""
        with self._rows() as rows:
            found = rows.get("lease", root)
            if found is None:
                return None
            lease = decode_lease(found)
            data = rows.get("owner", lease.owner)
        if data is None:
            return Holder(lease.epoch, lease.owner, "", "its owner closed the store")
        owner = decode_owner(data)
        return Holder(lease.epoch, lease.owner, str(owner), gone(lease.owner, owner))

    @property
    def store_id(self) -> bytes:
        """The id of the store, under which the log has what the store itself did or refused."""
        with self._rows() as rows:
            return rows.get("meta", b"store_id") or bytes(16)

    def children(self, parent: bytes) -> list[bytes]:
        """The runs that were born under this one, in call order."""
        if len(parent) != 16:
            return []
        with self._rows() as rows:
            return [run for _, run in under(rows, "child", child_prefix(parent))]

    def matching(self, prefix: bytes, limit: int = 10) -> list[bytes]:
        """The runs whose id begins with these bytes."""
        if not isinstance(prefix, bytes):
            raise TypeError(f"The beginning of an id is bytes, not {prefix!r}.")
        check_whole("A limit", limit)
        found: list[bytes] = []
        with self._rows() as rows:
            for run, head in under(rows, "head", prefix):
                if len(found) >= limit:
                    break
                if decode_head(head).state:  # the store's own records are no run
                    found.append(run)
        return found

    def cached(self, key: str, at: float) -> Cell | None:
        """The row of the cache index under this key that is live at this time; it expires at ``cell.expires`` sharp."""
        if not isinstance(key, str):
            raise TypeError(f"A cache key is a text, not {key!r}.")
        with self._rows() as rows:
            found = rows.get("cache", cache_key(key))
        if found is None:
            return None
        cell = decode_cell(found)
        return cell if cell.expires is None or at < cell.expires else None

    def due(self, until: float) -> list[tuple[float, bytes]]:
        """The runs that wait for a time up to this one (UTC seconds), the earliest first; to the millisecond."""
        if not until > 0:
            return []
        bound = min(due_ms(until) + 1, _LAST)
        with self._rows() as rows:
            return [
                (number(key[:8]) / 1000, key[8:]) for key, _ in rows.scan("timer", b"", timer_key(bound, bytes(16)))
            ]

    def position(self) -> int:
        """The position of the last committed record; 0 in an empty log."""
        with self._rows() as rows:
            return end_of(rows)

    def feed(self, after: int = 0, limit: int = 1000) -> list[tuple[int, bytes]]:
        """The records after a position, with their positions, in commit order."""
        check_whole("A position and a limit", after, limit)
        after = max(after, 0)
        if limit <= 0 or after >= _LAST:
            return []
        with self._rows() as rows:
            return [(number(key), data) for key, data in islice(rows.scan("log", u64(after + 1), b""), limit)]

    def compare(self) -> list[str]:
        """Fold the whole log again and say, one line each, where a view differs from it."""
        from .comparing import differences

        with self._rows() as rows:
            return differences(rows)

    # --- lists

    def find(
        self, *, state: int | None = None, name: str | None = None, tag: str | None = None, roots: bool = False
    ) -> Iterator[bytes]:
        """The runs that match all that is given, the youngest first; what is born meanwhile is not among them."""
        for text in (name, tag):
            if text is not None and not isinstance(text, str):
                raise TypeError(f"A name and a tag are texts, not {text!r}.")
        if state is not None:
            check_whole("A state", state)
        below, size = _LAST, 32
        while below:
            with self._rows() as rows:
                page, below = _page(rows, state, name, tag, roots=roots, below=below, size=size)
            yield from page
            size = min(size * 4, 1024)


def _page(
    rows: Rows, state: int | None, name: str | None, tag: str | None, *, roots: bool, below: int, size: int
) -> tuple[list[bytes], int]:
    """
    The next runs born before ``below``, the youngest first, and from where to go on; 0 at the end.

    The place of birth never changes, so that no run can be met twice, however it moves between two pages.
    """
    if name is not None:
        runs = _listed(rows, "by_name", text_prefix(name), below)
    elif tag is not None:
        runs = _listed(rows, "by_tag", text_prefix(tag), below)
    else:
        states = range(1, 9) if state is None else (state,) if 0 < state < 256 else ()
        prefixes = [state_prefix(s, child=child) for s in states for child in ((False,) if roots else (False, True))]
        runs = merge(*(_listed(rows, "by_state", prefix, below) for prefix in prefixes), reverse=True)
    found: list[bytes] = []
    for seen, (born, run) in enumerate(runs, 1):
        both = name is None or tag is None or rows.get("by_tag", text_key(tag, born)) is not None
        if both and ((name is None and tag is None) or _is(rows, run, state, roots=roots)):
            found.append(run)
        if len(found) >= size or seen >= _LOOK:
            return found, born
    return found, 0


def _places_of(rows: Rows, run: bytes) -> list[bytes]:
    """Where the records of a run stand."""
    return [place for _, place in rows.scan("idx", idx_key(run, 1), idx_key(run, _LAST_SEQ))]


def _places(rows: Rows, runs: list[bytes]) -> list[list[bytes]]:
    """Where the records of these runs stand; of the first of them, where they have very many."""
    if not runs:
        return []
    # Runs that were called one after the other mostly stand side by side in the index.
    most = len(runs) * _SHORT
    near = [*islice(rows.scan("idx", idx_key(min(runs), 1), idx_key(max(runs), _LAST_SEQ)), most)]
    if len(near) < most:
        by_run: dict[bytes, list[bytes]] = {run: [] for run in runs}
        for key, place in near:
            if (places := by_run.get(key[:16])) is not None:
                places.append(place)
        return [*by_run.values()]
    found: list[list[bytes]] = []
    total = 0
    for run in runs:
        found.append(_places_of(rows, run))
        total += len(found[-1])
        if total >= _LOOK:
            break
    return found


def _listed(rows: Rows, table: str, prefix: bytes, below: int) -> Iterator[tuple[int, bytes]]:
    exact = len(prefix) + 8
    for key, run in rows.scan(table, prefix, prefix + u64(below), reverse=True):
        if len(key) == exact:
            yield born_of(key), run


def _is(rows: Rows, run: bytes, state: int | None, *, roots: bool) -> bool:
    if state is None and not roots:
        return True
    found = rows.get("head", run)
    head = None if found is None else decode_head(found)
    return head is not None and (state is None or head.state == state) and not (roots and head.root is not None)
