"""Where the tasks of a flow are called: one after another here, or side by side in threads, processes, or Dask."""

from __future__ import annotations

from typing import Any

__all__ = ["DaskExecutor", "Executor", "LocalDaskExecutor", "LocalExecutor"]


class Executor:
    """The base of executors."""

    def runner(self) -> Any:
        """The task runner that calls are submitted to; None: they are made one after another."""
        return None

    @property
    def elsewhere(self) -> bool:
        """Whether tasks are called in other processes."""
        return False

    def __repr__(self) -> str:
        return f"<Executor: {type(self).__name__}>"


class LocalExecutor(Executor):
    """One task after another, in this thread."""


class LocalDaskExecutor(Executor):
    """
    Tasks whose turn has come, side by side on this machine.

    Args:
        scheduler: ``threads`` or ``processes``; ``synchronous`` is as `LocalExecutor`.
        num_workers: How many at once.
        kwargs: Refused.
    """

    def __init__(self, scheduler: str = "threads", num_workers: int | None = None, **kwargs: Any) -> None:
        if scheduler not in {"threads", "processes", "synchronous"}:
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
    def elsewhere(self) -> bool:
        """Whether tasks are called in other processes."""
        return self.scheduler == "processes"


class DaskExecutor(Executor):
    """
    Tasks whose turn has come, side by side through the task runner called ``dask``.

    Args:
        address: Of a cluster; None: one on this machine.
        kwargs: Handed to the runner.
    """

    def __init__(self, address: str | None = None, **kwargs: Any) -> None:
        self.address: str | None = address
        self.given: dict[str, Any] = kwargs

    def runner(self) -> Any:
        """The runner by name, or one for this cluster."""
        if self.address is None and not self.given:
            return "dask"
        from ..authoring import runners

        kind: Any = getattr(runners, "DaskTaskRunner", None)
        if kind is None:
            raise RuntimeError(
                "There is no Dask task runner here. Use LocalDaskExecutor, or DaskExecutor() without arguments."
            )
        return kind(address=self.address, **self.given)

    @property
    def elsewhere(self) -> bool:
        """Whether tasks are called in other processes."""
        return True
