"""A task runner over a Dask cluster, one of its own or one that is there."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import Any, Self
from uuid import uuid4

from pluperfect.errors import RunnerUnavailable, WorkerDied
from pluperfect.task_runners import ThreadPoolTaskRunner, work

__all__ = ["DaskTaskRunner"]


class DaskTaskRunner(ThreadPoolTaskRunner):
    """
    Calls the bodies of submitted tasks in the workers of a Dask cluster. Needs the extra ``dask``.

    With neither *cluster* nor *address*, each flow run has a cluster of its own: a ``LocalCluster``, or one of
    the given class. A call whose worker dies ends as one failed attempt with its cause; Dask's habit of
    calling again behind the log's back is switched off. Dask cannot kill a call that runs into its
    ``timeout_seconds``: it is given up, and asked to stop.

    Args:
        cluster: A cluster object; it stays open.
        address: The address of a scheduler that is running.
        cluster_class: A class, or its dotted name, to make a cluster of.
        cluster_kwargs: What it is made with.
        adapt_kwargs: Let the cluster adapt its size, by ``cluster.adapt(**adapt_kwargs)``.
        client_kwargs: What the client is made with.
        performance_report_path: Write Dask's report of the flow run to this file.

    Raises:
        ValueError: Things are given that exclude one another.
        RunnerUnavailable: distributed is not installed.
    """

    remote = True

    def __init__(
        self,
        cluster: Any = None,
        address: str | None = None,
        cluster_class: str | Callable[..., Any] | None = None,
        cluster_kwargs: Mapping[str, Any] | None = None,
        adapt_kwargs: Mapping[str, Any] | None = None,
        client_kwargs: Mapping[str, Any] | None = None,
        performance_report_path: str | None = None,
    ) -> None:
        super().__init__()
        if address and (cluster is not None or cluster_class or cluster_kwargs or adapt_kwargs):
            raise ValueError(
                "DaskTaskRunner was given an address, the cluster of which is there already: leave out cluster,"
                " cluster_class, cluster_kwargs and adapt_kwargs."
            )
        if cluster is not None and (cluster_class or cluster_kwargs):
            raise ValueError("DaskTaskRunner was given a cluster: leave out cluster_class and cluster_kwargs.")
        if "asynchronous" in (cluster_kwargs or {}):
            raise ValueError("`asynchronous` is not yours to set: the runner works with a cluster that blocks.")
        try:
            import distributed  # noqa: F401  # type: ignore[reportUnusedImport] - to say so now, and not at the first call
        except ImportError as error:
            raise RunnerUnavailable(
                "DaskTaskRunner needs distributed, which is not installed: pip install 'pluperfect[dask]'"
            ) from error
        self.cluster, self.address, self.cluster_class = cluster, address, cluster_class
        self.cluster_kwargs, self.adapt_kwargs = dict(cluster_kwargs or {}), dict(adapt_kwargs or {})
        self.client_kwargs, self.performance_report_path = dict(client_kwargs or {}), performance_report_path
        self._lock = threading.Lock()
        self._client: Any = None
        self._opened = ExitStack()

    def duplicate(self) -> Self:
        """The same settings, with no client yet."""
        return type(self)(
            self.cluster,
            self.address,
            self.cluster_class,
            self.cluster_kwargs,
            self.adapt_kwargs,
            self.client_kwargs,
            self.performance_report_path,
        )

    def call(self, payload: bytes, limit: float) -> bytes:
        """
        Have a body called by a worker.

        Raises:
            WorkerDied: The worker died, or the cluster went away.
        """
        from distributed import KilledWorker

        client = self._connected()
        key = f"pluperfect-{uuid4().hex}"
        try:
            future = client.submit(_once, payload, limit, key, key=key, pure=False, retries=0)
            return future.result()
        except (KilledWorker, _CalledAgain) as error:
            raise WorkerDied("the Dask worker that made this call died in the middle of it") from error
        except Exception as error:
            # What the body raises comes back as a value: this is the cluster's own trouble.
            raise WorkerDied(
                f"the Dask cluster did not carry out this call: {type(error).__name__}: {error}"
            ) from error

    def _connected(self) -> Any:
        with self._lock:
            if self._client is None:
                import dask.config
                from distributed import Client, performance_report

                # One execution: a call whose worker died is not made again by the scheduler.
                with dask.config.set({"distributed.scheduler.allowed-failures": 0}):
                    target: Any = self.address or self.cluster
                    if target is None:
                        target = self._opened.enter_context(self._own_cluster())
                if self.adapt_kwargs:
                    target.adapt(**self.adapt_kwargs)
                self._client = self._opened.enter_context(
                    Client(target, **{"set_as_default": False, **self.client_kwargs})
                )  # type: ignore[no-untyped-call]
                if self.performance_report_path:
                    with self._client.as_current():
                        self._opened.enter_context(performance_report(self.performance_report_path))  # type: ignore[no-untyped-call]
            return self._client

    def _own_cluster(self) -> Any:
        made: Any = self.cluster_class
        if made is None:
            from distributed import LocalCluster

            # Any port for the dashboard: a flow run must not fail, nor warn, since the usual one is taken.
            return LocalCluster(**{"dashboard_address": "127.0.0.1:0", **self.cluster_kwargs})  # type: ignore[no-untyped-call]
        if isinstance(made, str):
            import importlib

            module, _, name = made.rpartition(".")
            made = getattr(importlib.import_module(module), name)
        return made(**self.cluster_kwargs)

    def close(self) -> None:
        """Wait for every call, then let go of the client, and of the cluster if it is the runner's own."""
        super().close()
        self._client = None
        self._opened.close()


class _CalledAgain(Exception):
    """A scheduler that is not ours has given a call to a second worker."""


def _once(payload: bytes, limit: float, token: str) -> bytes:
    """On a worker: call the body, unless another worker has begun that already and died of it."""
    from distributed import Event

    begun: Any = Event(token)
    if begun.is_set():
        raise _CalledAgain(token)
    begun.set()
    try:
        return work(payload, limit)
    finally:
        begun.clear()
