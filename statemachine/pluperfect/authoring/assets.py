"""
Assets: what tasks make outside of this program, by key, and what they make it from.

A materialization stands in the record of the run's end. What an asset was made from is inferred from the
runs whose results its task was given, directly or through other tasks; nothing of it is kept elsewhere.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, Concatenate, Final, ParamSpec, TypeVar, cast, overload

import msgspec
from msgspec import Struct

from ..errors import MissingContextError
from ..transitions import Materialization
from .context import current_frame
from .tasks import Task

if TYPE_CHECKING:
    from .frames import Frame

__all__ = ["Asset", "AssetProperties", "MaterializingTask", "add_asset_metadata", "materialize"]

P = ParamSpec("P")
Q = ParamSpec("Q")
R = TypeVar("R", covariant=True)
S = TypeVar("S")

_KEY: Final = re.compile(r"[a-z0-9]+://[^\s\"'`<>\[\]{}#?&%|\\^\0]+")
_LONGEST: Final = 512


class AssetProperties(Struct, frozen=True, omit_defaults=True):
    """What people want to know about an asset."""

    name: str | None = None
    url: str | None = None
    description: str | None = None
    owners: list[str] | None = None


class Asset(Struct, frozen=True):
    r"""
    Something outside of this program that tasks make: a table, a file, a model.

    Attributes:
        key: A URI with a scheme in lower case, ``s3://bucket/rows.csv``: at most 512 characters, without
            blanks, quotes, brackets, or any of ``# ? & % | \ ^``.
        properties: What people want to know about it.

    Raises:
        ValueError: The key is not like that.
    """

    key: str
    properties: AssetProperties | None = None

    def __post_init__(self) -> None:
        if not isinstance(self.key, str):
            raise TypeError(f"The key of an asset is a string, not {self.key!r}.")
        if len(self.key) > _LONGEST:
            raise ValueError(
                f"The key of an asset has at most {_LONGEST} characters; {self.key[:40]!r}... has {len(self.key)}."
            )
        if _KEY.fullmatch(self.key) is None:
            raise ValueError(
                f"{self.key!r} is no key of an asset: it is a URI such as s3://bucket/rows.csv, its scheme in lower case, without"
                " blanks, quotes, brackets, or any of # ? & % | \\ ^"
            )

    def __repr__(self) -> str:
        return f"Asset(key={self.key!r})"

    def add_metadata(self, metadata: dict[str, Any]) -> None:
        """As `add_asset_metadata`."""
        add_asset_metadata(self, metadata)


def assets_from(given: Any, option: str) -> tuple[Asset, ...]:
    """Keys and assets as assets."""
    if isinstance(given, str | Asset):
        given = [given]
    if not isinstance(given, Iterable):
        raise TypeError(f"{option} is a list of assets or their keys, not {given!r}.")
    return tuple(one if isinstance(one, Asset) else Asset(one) for one in cast("Iterable[Any]", given))


class MaterializingTask(Task[P, R]):
    """
    A task whose runs make assets.

    Attributes:
        assets: What it makes.
        materialized_by: The tool that does it, for people.
    """

    def __init__(
        self, fn: Callable[P, R], *, assets: Iterable[str | Asset], materialized_by: str | None = None, **options: Any
    ) -> None:
        super().__init__(fn, assets=assets_from(assets, "assets"), materialized_by=materialized_by, **options)

    @property
    def assets(self) -> list[Asset]:
        """What it makes."""
        return list(self.given["assets"])

    @property
    def materialized_by(self) -> str | None:
        """The tool that does it, for people."""
        return self.given.get("materialized_by")

    @overload
    def __get__(self, obj: None, owner: type) -> MaterializingTask[P, R]: ...
    @overload
    def __get__(
        self: MaterializingTask[Concatenate[S, Q], R], obj: S, owner: type | None = None
    ) -> MaterializingTask[Q, R]: ...
    def __get__(self, obj: Any, owner: type | None = None) -> Any:
        """As a method: bound to its object, which is the first argument of the call."""
        return self.bound_to(obj, owner)


def materialize(
    *assets: str | Asset, by: str | None = None, **task_options: Any
) -> Callable[[Callable[P, R]], MaterializingTask[P, R]]:
    """
    Make a task of a function that makes these assets.

    Args:
        assets: Assets, or their keys.
        by: The tool that does it, for people.
        task_options: Those of ``@task``.

    Raises:
        TypeError: No asset is given.
        ValueError: A key is not possible.
    """
    if not assets or not all(isinstance(one, str | Asset) for one in assets):
        raise TypeError(
            "materialize requires at least one asset argument, given before the function:"
            " `@materialize('s3://bucket/rows.csv')` above it."
        )

    def decorate(fn: Callable[P, R]) -> MaterializingTask[P, R]:
        return MaterializingTask(fn, assets=assets, materialized_by=by, **task_options)

    return decorate


def add_asset_metadata(asset: str | Asset, metadata: Mapping[str, Any]) -> None:
    """
    Note something about an asset that the task at hand makes: how many rows, which schema.

    Args:
        asset: The asset or its key; the task must have declared it.
        metadata: Values that JSON has, by name. Later ones replace earlier ones of the same name.

    Raises:
        MissingContextError: No materializing task runs here.
        ValueError: The task makes no such asset.
        TypeError: A value is none that JSON has.
    """
    here = current_frame.get()
    key = asset.key if isinstance(asset, Asset) else asset
    if here is None or not here.definition.options.get("assets"):
        raise MissingContextError(
            "add_asset_metadata() was called where no task runs that is decorated with @materialize."
        )
    declared = [one.key for one in here.definition.options["assets"]]
    if key not in declared:
        raise ValueError(f"{here.definition.name} does not make {key!r}; it makes: {', '.join(declared)}.")
    plain = msgspec.to_builtins(dict(metadata), str_keys=True)
    kept = here.assets = here.assets or {}
    kept[key] = {**kept.get(key, {}), **plain}


def materializations(frame: Frame) -> tuple[Materialization, ...]:
    """What the run of a materializing task has made, or was to make, for the record of its end."""
    options = frame.definition.options
    sources = [one.key for one in options.get("asset_deps") or ()]
    for run in frame.run.birth.upstream:
        sources.extend(_through(frame, run, set()))
    made = options["assets"]
    noted: dict[str, dict[str, Any]] = frame.assets or {}
    own = {one.key for one in made}
    upstream = tuple(dict.fromkeys(key for key in sources if key not in own))
    return tuple(
        Materialization(
            one.key,
            options.get("materialized_by") or "",
            upstream,
            noted.get(one.key, {}),
            {} if one.properties is None else msgspec.to_builtins(one.properties),
        )
        for one in made
    )


def _through(frame: Frame, run: bytes, seen: set[bytes]) -> Iterable[str]:
    """The assets that a run's result stands for: those that it made, else those that it came from."""
    if run in seen:
        return
    seen.add(run)
    spec = frame.session.spec_of(run)
    if spec is None:
        return
    made = spec.options.get("assets")
    if made:
        yield from made
        return
    yield from spec.options.get("asset_deps") or ()
    for above in spec.upstream:
        yield from _through(frame, above, seen)
