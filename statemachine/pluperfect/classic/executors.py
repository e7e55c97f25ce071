"""Where the tasks of a flow are called: one after another here, or side by side in threads, processes, or Dask."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

__all__ = ["DaskExecutor", "Executor", "LocalDaskExecutor", "LocalExecutor"]

_SCHEDULERS: Final = ("threads", "processes", "synchronous")


class Executor:
    """The base of executors."""

    def runner(self) -> Any:
        """The task runner that calls are submitted to; None: they are made one after another."""
        return None

    @property
    def parallel(self) -> bool:
        """Whether tasks are called side by side."""
        return False

    def __repr__(self) -> str:
        return f"<Executor: {type(self).__name__}>"


class LocalExecutor(Executor):
    """One task after another, in this thread."""


class LocalDaskExecutor(Executor):
    """
    Tasks whose turn has come, side by side on this machine. It needs no Dask: the name is Prefect 1's.

    Args:
        scheduler: ``threads`` or ``processes``; ``synchronous`` is as `LocalExecutor`.
        num_workers: How many at once.
        kwargs: Refused.
    """

    def __init__(self, scheduler: str = "threads", num_workers: int | None = None, **kwargs: Any) -> None:
        if scheduler not in _SCHEDULERS:
            raise ValueError(f"scheduler is 'threads', 'processes' or 'synchronous', not {scheduler!r}.")
        if kwargs:
            raise TypeError(f"LocalDaskExecutor has no {', '.join(kwargs)}: it takes scheduler and num_workers.")
        self.scheduler: str = scheduler
        self.num_workers: int | None = num_workers

    def runner(self) -> Any:
        """A runner over threads or processes."""
        from ..authoring.runners import ProcessPoolTaskRunner, ThreadPoolTaskRunner

        if self.scheduler == "synchronous":
            return None
        kind = ThreadPoolTaskRunner if self.scheduler == "threads" else ProcessPoolTaskRunner
        return kind(self.num_workers)

    @property
    def parallel(self) -> bool:
        """Whether tasks are called side by side."""
        return self.scheduler != "synchronous"


class DaskExecutor(Executor):
    """
    Tasks whose turn has come, side by side on the workers of a Dask cluster. Needs the extra ``dask``.

    Args:
        address: Of a cluster's scheduler; None: a cluster is made for each run.
        cluster_class: What makes the cluster, or its dotted name.
        cluster_kwargs: What it is made with.
        adapt_kwargs: Let the cluster adapt its size to the work.
        client_kwargs: What the client is made with.
        debug: Taken, and without effect.
        performance_report_path: Write Dask's report of the run to this file.
    """

    def __init__(
        self,
        address: str | None = None,
        cluster_class: str | Callable[..., Any] | None = None,
        cluster_kwargs: Mapping[str, Any] | None = None,
        adapt_kwargs: Mapping[str, Any] | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
        debug: bool | None = None,
        performance_report_path: str | None = None,
    ) -> None:
        if address is not None and (cluster_class or cluster_kwargs or adapt_kwargs):
            raise ValueError(
                "DaskExecutor was given the address of a cluster that is there already: leave out cluster_class,"
                " cluster_kwargs and adapt_kwargs."
            )
        self.options: dict[str, Any] = {
            "address": address,
            "cluster_class": cluster_class,
            "cluster_kwargs": cluster_kwargs,
            "adapt_kwargs": adapt_kwargs,
            "client_kwargs": client_kwargs,
            "performance_report_path": performance_report_path,
        }

    def runner(self) -> Any:
        """A runner of the kind that a plugin makes under the name ``dask``."""
        from ..authoring.logs import nearest_log

        kind: Any = type(nearest_log().hooks.make_runner("dask"))
        return kind(**{name: value for name, value in self.options.items() if value is not None})

    @property
    def parallel(self) -> bool:
        """Whether tasks are called side by side."""
        return True
