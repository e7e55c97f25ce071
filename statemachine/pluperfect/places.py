"""
The places of calls, by which people name them: ``fetch:2``, the third call of ``fetch`` that the run at the top made.

Calls of one name are counted from 0 within their caller, as the run names that they get by default are. A call that another one
made stands behind it: ``part:0/fetch:2``. Where the body of the caller was begun anew, for a retry or another iteration, the
number of that generation stands at the end: ``fetch:2@1``.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from itertools import islice
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import msgspec

from .errors import UnknownRun
from .states import ABSENT, RESULT, Packed
from .transitions import Run
from .trees import Moment
from .values import Spec

if TYPE_CHECKING:
    from .histories import RecordedRun

__all__ = ["any_generation", "calls", "find_place", "full_place", "place_name", "places"]


class _Call(NamedTuple):
    """Where a call stands in the body that made it."""

    name: str
    key: str
    generation: int
    occurrence: int
    map_index: int


_Path = tuple[_Call, ...]


def places(moment: Moment, *, shared: bool = False) -> dict[str, Run]:
    """
    Every call of a tree by its place, in the order of the births.

    Args:
        moment: The tree.
        shared: With the calls that a fork shares and did not make anew: those that had ended, as they are in the other tree.
    """
    called, others = _called(moment), _shared(moment)
    numbers = _numbers({**others, **called})
    named: dict[_Path, str] = {(): ""}
    found: dict[str, Run] = {}
    for path, run in {**others, **called}.items():  # callers come before what they called
        before = named[path[:-1]]
        place = place_name(path[-1].name, numbers[path], path[-1].generation)
        named[path] = f"{before}{place}/"
        if path in called or (shared and run.final):
            found[f"{before}{place}"] = run
    return found


def _called(moment: Moment) -> dict[_Path, Run]:
    """The calls that were made in this very tree."""
    paths: dict[bytes, _Path] = {moment.run.id: ()}
    found: dict[_Path, Run] = {}
    for run in moment.runs:
        spec = run.spec
        if spec is not None and spec.parent in paths and run.id not in paths:
            path = paths[run.id] = (*paths[spec.parent], _call(spec))
            found[path] = run  # the newest, where it was made again
    return found


def _call(spec: Spec) -> _Call:
    return _Call(spec.name, spec.key, spec.generation, spec.index, -1 if spec.map_index is None else spec.map_index)


def _shared(moment: Moment) -> dict[_Path, Run]:
    """The calls of the tree that this one was forked from, as the fork counts generations: from the attempt that was under way."""
    there = moment.shared
    if there is None:
        return {}
    runs: Mapping[_Path, Run] = {**_shared(there), **_called(there)}
    found: dict[_Path, Run] = {}
    for path, run in runs.items():
        callers = [there.run, *(runs[path[:depth]] for depth in range(1, len(path)))]
        shifted = tuple(
            call._replace(generation=call.generation - caller.generation)
            for call, caller in zip(path, callers, strict=True)
        )
        if all(call.generation >= 0 for call in shifted) and (len(shifted) == 1 or shifted[:-1] in found):
            found[shifted] = run
    return found


def _numbers(paths: Mapping[_Path, Run]) -> dict[_Path, int]:
    """For each call its number among the calls of its name that the same body made, in the order of the code."""
    groups: dict[tuple[_Path, str, int], list[_Path]] = {}
    for path in paths:
        groups.setdefault((path[:-1], path[-1].name, path[-1].generation), []).append(path)
    numbers: dict[_Path, int] = {}
    for group in groups.values():
        # Threads may be born in another order than they were called; tasks of one name may have several keys.
        waiting: dict[str, Iterator[_Path]] = {}
        for key in {path[-1].key for path in group}:
            waiting[key] = iter(sorted((path for path in group if path[-1].key == key), key=lambda path: path[-1][3:]))
        for number, path in enumerate(group):
            numbers[next(waiting[path[-1].key])] = number
    return numbers


def place_name(name: str, number: int, generation: int = 0) -> str:
    """A call's place within its caller: the name, the number among the calls of that name, and the generation but for the first."""
    return f"{name}:{number}@{generation}" if generation else f"{name}:{number}"


_PART: Final = r"(?P<name>.+?)(?::(?P<number>\d+))?(?:@(?P<generation>\d+))?"


def full_place(place: str) -> str:
    """
    A place with everything that may be left out: ``fetch`` is ``fetch:0``.

    Raises:
        ValueError: It names nothing.
    """
    parts: list[str] = []
    for part in str(place).split("/"):
        found = re.fullmatch(_PART, part)
        if found is None:
            raise ValueError(
                f"{place!r} is no place of a call. One is NAME or NAME:NUMBER, for instance fetch:2 for the third call of fetch;"
                " part:0/fetch:2 where part:0 called it."
            )
        parts.append(place_name(found["name"], int(found["number"] or 0), int(found["generation"] or 0)))
    return "/".join(parts)


def find_place(moment: Moment, place: str) -> Run:
    """
    The call at a place.

    Raises:
        UnknownRun: There is none; the message names close ones.
        ValueError: It is no place.
    """
    known, wanted = places(moment, shared=True), full_place(place)
    if wanted in known:
        return known[wanted]
    import difflib

    near = difflib.get_close_matches(wanted, known, 3, 0.5) or list(islice(known, 3))
    hint = f" There are {len(known)}, such as {', '.join(near)}." if near else " It made no calls."
    raise UnknownRun(
        f"Run {moment.run.id.hex() if moment.run.spec is None else moment.run.name} made no call {wanted}.{hint}"
    )


def any_generation(place: str) -> str:
    """The same place without the generations of the bodies."""
    return "/".join(re.sub(r"@\d+$", "", part) for part in place.split("/"))


def calls(run: RecordedRun) -> list[str]:
    """The calls of a run and of all that it called, in the order of their births, each with its place and its inputs."""
    tree = run.tree
    found = places(tree.at(len(tree.events)), shared=True)
    named = {one.id: place for place, one in found.items()}

    def shown(given: Any) -> str:
        packed = given.value
        if isinstance(packed, Packed) and packed.code == RESULT:
            cited = msgspec.msgpack.decode(packed.data)
            return f"<{named.get(cited, 'another run')}>" if isinstance(cited, bytes) else "<other runs>"
        if isinstance(packed, Packed) and packed.code != ABSENT:
            return run.histories.describe(packed)
        return "<other runs>" if packed is None or given.digest is None else f"<{given.digest.hex()[:8]}>"

    return [
        f"{place}({', '.join(f'{given.name}={shown(given)}' for given in one.birth.inputs)})"
        for place, one in found.items()
    ]
