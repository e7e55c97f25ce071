"""``prefect.context``: what the code at hand may ask about where it runs. Dict, object, and context manager."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Final, cast

__all__ = ["Context", "DotDict", "context"]


class DotDict(dict[str, Any]):
    """A dict whose items are attributes too."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value


_values: Final[ContextVar[dict[str, Any]]] = ContextVar("pluperfect_classic_context")


class Context(MutableMapping[str, Any]):
    """
    The context at hand: ``context["map_index"]``, ``context.map_index``, ``context.get("map_index")``.

    What is set belongs to the code at hand and what it calls; each task run has its own.
    """

    def _now(self) -> dict[str, Any]:
        return _values.get({"config": config, "caches": {}, "checkpointing": True})

    def __getitem__(self, key: str) -> Any:
        return self._now()[key]

    def __setitem__(self, key: str, value: Any) -> None:
        _values.set({**self._now(), key: value})

    def __delitem__(self, key: str) -> None:
        left = dict(self._now())
        del left[key]
        _values.set(left)

    def __iter__(self) -> Iterator[str]:
        return iter(self._now())

    def __len__(self) -> int:
        return len(self._now())

    def __getattr__(self, name: str) -> Any:
        try:
            return self._now()[name]
        except KeyError:
            raise AttributeError(f"the context has no {name!r} here") from None

    def __setattr__(self, name: str, value: Any) -> None:
        self[name] = value

    def __delattr__(self, name: str) -> None:
        del self[name]

    @contextmanager
    def __call__(self, *given: dict[str, Any], **values: Any) -> Iterator[Context]:
        """Set these values inside of the block."""
        merged = dict(self._now())
        for one in (*given, values):
            merged.update(one)
        token = _values.set(merged)
        try:
            yield self
        finally:
            _values.reset(token)

    def to_dict(self) -> dict[str, Any]:
        """A copy of all values."""
        return dict(self._now())

    def copy(self) -> dict[str, Any]:
        """A copy of all values."""
        return dict(self._now())

    def __repr__(self) -> str:
        return f"<Context {sorted(self._now())}>"

    def __reduce__(self) -> Any:
        return "context"  # it is one of its kind: a worker has its own


config: Final = DotDict(
    flows=DotDict(checkpointing=True),
    tasks=DotDict(defaults=DotDict(max_retries=0, retry_delay=None, timeout=None)),
    logging=DotDict(level="INFO"),
    context=cast("dict[str, Any]", DotDict()),
)
"""Prefect 1's settings, as far as they have a meaning here. Those of this library are `pluperfect.settings`."""

context: Final = Context()
