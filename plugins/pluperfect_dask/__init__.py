"""
Task runners over Dask: the bodies of submitted tasks are called by the workers of a cluster.

Needs the extra ``dask``. Say ``@flow(task_runner="dask")`` or give a `DaskTaskRunner`.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from pluperfect.marks import hookimpl

if TYPE_CHECKING:
    from .task_runners import DaskTaskRunner

__all__ = ["DaskTaskRunner", "make_runner"]


@hookimpl
def make_runner(name: str) -> Any:
    """The runner called ``dask``."""
    if name != "dask":
        return None
    from .task_runners import DaskTaskRunner

    return DaskTaskRunner()


def __getattr__(name: str) -> Any:
    if name == "DaskTaskRunner":
        from .task_runners import DaskTaskRunner

        return DaskTaskRunner
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
