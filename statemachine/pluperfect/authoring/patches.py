"""Patches: branches of user code that new runs take, and runs that were under way before do not."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from .context import current_frame
from .names import child_id
from .tasks import Task

if TYPE_CHECKING:
    from .frames import Frame

__all__ = ["MARK", "patched"]

MARK: Final = "patched "
"""How the name of a task begins whose run is a mark in the record."""


def patched(name: str) -> bool:
    """
    Say whether this run takes the new branch of a change.

    It is asked as ``if patched("send a receipt"): ... else: ...``. A run that reaches this for the first time does, and has it on record from then on. One that is led again, resumed or
    replayed, does if it is on record; where more is recorded that lies behind this place, it was here before the change, and
    takes the old branch. Outside of runs: true.

    When `pluperfect check` says that no run needs the old branch, delete it, and the question.

    Args:
        name: Tells this change from others; the same wherever it is asked for.

    Raises:
        ValueError: The name is empty, or cannot be one.
    """
    if type(name) is not str or not name:
        raise ValueError(f"A patch has a name, which is a text and not empty; not {name!r}.")
    mark = _mark(name)
    frame = current_frame.get()
    if frame is None:
        return True
    known = frame.children.patches
    if name not in known:
        known[name] = _decided(frame, name, mark)
    return known[name]


def _decided(frame: Frame, name: str, mark: Task[..., Any]) -> bool:
    script = frame.log.script
    if script is not None:
        account = script.account(frame.run.id)
        on_record, behind = account.has(mark.key), account.behind()
        script.patches[name] = on_record or not behind
    else:
        on_record, behind = _on_record(frame, mark.key), _is_behind(frame)
    if behind and not on_record:
        return False
    mark()
    return True


def _on_record(frame: Frame, key: str) -> bool:
    if frame.fresh:
        return False
    place = child_id(frame.session.root, frame.run.id, key, 0, None, frame.salt, 0)
    return frame.log.log.head(place) is not None


def _is_behind(frame: Frame) -> bool:
    """Whether the record holds calls of this body that it has not come to yet."""
    if frame.fresh:
        return False
    frame.log.log.flush()
    for _, _, child in frame.log.each_called(frame.run.id):
        spec = child.birth
        if spec.generation == frame.salt and spec.index >= frame.children.made(spec.key):
            return True
    return False


@lru_cache(maxsize=1000)
def _mark(name: str) -> Task[..., Any]:
    """The task whose run is the mark in the record."""
    return Task(_taken, name=f"{MARK}{name}", durability="result")


def _taken() -> bool:
    return True
