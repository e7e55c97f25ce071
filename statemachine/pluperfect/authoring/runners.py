"""
Where submitted calls run: threads, an event loop, processes, or any executor of ``concurrent.futures``.

A runner is a plugin's, by name, or an object. One that has a method ``call`` calls bodies elsewhere: the
run is still led by the process that owns the log, and only the body's call travels (``abroad.py``).
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import TYPE_CHECKING, Any, Final, Self, cast

from ..errors import RunnerUnavailable, WorkerDied
from ..hooks import Runner, hookimpl
from .deadlines import DeadlinePassed
from .pools import Pool, Step

if TYPE_CHECKING:
    import asyncio
    from concurrent.futures import Executor

__all__ = [
    "AsyncioTaskRunner",
    "ExecutorTaskRunner",
    "ProcessPoolTaskRunner",
    "ThreadPoolTaskRunner",
    "checked_runner",
    "make_runner",
    "runner_from",
]

MANY: Final = 256
"""Threads at most where nobody sets a number: enough to wait for a network, few enough to fit in memory."""


class ThreadPoolTaskRunner:
    """
    Makes submitted calls in threads of this process.

    Args:
        max_workers: How many at once; None means the setting ``TASKS_RUNNER_THREAD_POOL_MAX_WORKERS``, else 256.
            A worker that waits for a call which no other worker has begun makes that call itself, so that a
            small number cannot deadlock.
    """

    remote = False
    """Whether bodies are called elsewhere, by ``call``."""

    def __init__(self, max_workers: int | None = None) -> None:
        if max_workers is not None and (
            isinstance(max_workers, bool) or not isinstance(max_workers, int) or max_workers < 1
        ):
            raise ValueError(f"max_workers is a whole number from 1, or None, not {max_workers!r}.")
        self.max_workers = max_workers
        self._pool: Pool | None = None

    def duplicate(self) -> Self:
        """A runner with the same settings and no workers yet: each flow run has its own."""
        return type(self)(self.max_workers)

    def threads(self) -> int:
        """How many threads of this process lead calls at once."""
        return self.max_workers or _setting("tasks_runner_thread_pool_max_workers") or MANY

    def __init_subclass__(cls, **given: Any) -> None:
        super().__init_subclass__(**given)
        if "submit" in vars(cls) and "submit_steps" not in vars(cls):
            cls.submit_steps = None  # type: ignore[assignment] - it has a way of its own to make calls, and makes them whole

    def submit(self, call: Callable[[], None]) -> None:
        """Have this called in a thread."""

        def whole() -> None:
            call()

        self._submit(whole)

    def submit_steps(self, step: Step) -> None:
        """Have a call made in threads, step by step, so that it holds none while it waits for a commit."""
        self._submit(step)

    def _submit(self, step: Step) -> None:
        if self._pool is None:
            self._pool = Pool(self.threads(), "pluperfect")
        self._pool.submit(step)

    def close(self) -> None:
        """Wait for every call that was submitted."""
        pool, self._pool = self._pool, None
        if pool is not None:
            pool.close()

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and cast("ThreadPoolTaskRunner", other).max_workers == self.max_workers

    def __hash__(self) -> int:
        return hash((type(self), self.max_workers))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(max_workers={self.max_workers!r})"


class AsyncioTaskRunner(ThreadPoolTaskRunner):
    """
    Makes submitted calls of async tasks in one event loop, and those of other tasks in threads.

    The loop is the one that the flow runs in, where the flow is async; else one in a thread of its own.
    """

    def __init__(self, max_workers: int | None = None) -> None:
        super().__init__(max_workers)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._ident = 0
        self._tasks: set[Any] = set()

    def submit_async(self, make: Callable[[], Coroutine[Any, Any, None]], context: Context) -> int:
        """Have this awaited in the loop. Returns the identifier of the loop's thread."""
        import asyncio

        if self._loop is None:
            try:
                self._loop, self._ident = asyncio.get_running_loop(), threading.get_ident()
            except RuntimeError:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(target=self._loop.run_forever, name="pluperfect-loop", daemon=True)
                self._thread.start()
                self._ident = self._thread.ident or 0
        loop = self._loop

        def begin() -> None:
            task = loop.create_task(make(), context=context)
            self._tasks.add(task)  # the loop itself holds tasks weakly
            task.add_done_callback(self._tasks.discard)

        if threading.get_ident() == self._ident:
            begin()
        else:
            loop.call_soon_threadsafe(begin)
        return self._ident

    def in_loop(self) -> bool:
        """Whether this code runs in the loop, and not in one of the threads."""
        return self._ident == threading.get_ident()

    def close(self) -> None:
        """Wait for every call; the flow has awaited those in the loop."""
        super().close()
        loop, thread, self._loop, self._thread = self._loop, self._thread, None, None
        if loop is not None and thread is not None:
            loop.call_soon_threadsafe(loop.stop)
            thread.join()
            loop.close()


class ProcessPoolTaskRunner(ThreadPoolTaskRunner):
    """
    Calls the bodies of submitted tasks in processes of their own. Needs the extra ``process``.

    A task that runs into its ``timeout_seconds`` is killed with its process; a process that dies ends that
    one attempt. The arguments and results travel between processes, so that they have to be picklable, and a
    body that runs there calls no other tasks: the log stays with this process.

    Args:
        max_workers: How many processes; None means the setting ``TASKS_RUNNER_PROCESS_POOL_MAX_WORKERS``, else
            one for each processor.

    Raises:
        RunnerUnavailable: pebble is not installed.
    """

    remote = True

    def __init__(self, max_workers: int | None = None) -> None:
        super().__init__(max_workers)
        try:
            import pebble  # noqa: F401  # type: ignore[reportUnusedImport] - to say so now, and not at the first call
        except ImportError as error:
            raise RunnerUnavailable(
                "ProcessPoolTaskRunner needs pebble, which is not installed: pip install 'pluperfect[process]'"
            ) from error
        self._workers: Any = None
        self._lock = threading.Lock()

    def threads(self) -> int:
        """As many as there are processes."""
        import os

        return self.max_workers or _setting("tasks_runner_process_pool_max_workers") or os.cpu_count() or 1

    def call(self, payload: bytes, limit: float) -> bytes:
        """
        Have a body called in a process.

        Raises:
            DeadlinePassed: It took longer than ``limit`` seconds (0: no limit), and was killed.
            WorkerDied: Its process died.
        """
        from pebble import ProcessExpired

        from .abroad import work

        future: Any = self._pool_of_processes().schedule(work, args=(payload,), timeout=limit or None)
        try:
            return future.result()
        except TimeoutError:
            raise DeadlinePassed from None
        except ProcessExpired as error:
            code: Any = getattr(error, "exitcode", "unknown")
            raise WorkerDied(f"the process that made this call died (exit code {code})") from None

    def _pool_of_processes(self) -> Any:
        with self._lock:
            if self._workers is None:
                import multiprocessing

                from pebble import ProcessPool

                # Fresh processes: a fork would copy the threads' locks, and the open store.
                self._workers = ProcessPool(self.threads(), context=multiprocessing.get_context("spawn"))
            return self._workers

    def close(self) -> None:
        """Wait for every call, then let the processes go."""
        super().close()
        workers, self._workers = self._workers, None
        if workers is not None:
            workers.close()
            workers.join()


class ExecutorTaskRunner(ThreadPoolTaskRunner):
    """
    Makes submitted calls in an executor of ``concurrent.futures``, which stays open: it is its maker's to close.

    In a ``ThreadPoolExecutor`` the calls themselves run; of any other executor it is supposed that it works
    in other processes, and only the calls of bodies travel there.
    """

    def __init__(self, executor: Executor) -> None:
        from concurrent.futures import ThreadPoolExecutor

        super().__init__()
        self.executor = executor
        self.remote: bool = not isinstance(executor, ThreadPoolExecutor)
        self._open: set[Any] = set()

    def duplicate(self) -> Self:
        """The same executor for each flow run."""
        return type(self)(self.executor)

    def submit(self, call: Callable[[], None]) -> None:
        """Have this called in the executor, or by a thread that has its body called there."""
        if self.remote:
            super().submit(call)
        else:
            self._open.add(self.executor.submit(call))

    def call(self, payload: bytes, limit: float) -> bytes:
        """
        Have a body called by the executor; the limit is kept there, as well as a worker can.

        Raises:
            WorkerDied: The executor broke.
        """
        from concurrent.futures import BrokenExecutor

        from .abroad import work

        try:
            return self.executor.submit(work, payload, limit).result()
        except BrokenExecutor as error:
            raise WorkerDied(f"the executor broke during this call: {error}") from error

    def close(self) -> None:
        """Wait for every call."""
        from concurrent.futures import wait

        super().close()
        wait(self._open)

    def __repr__(self) -> str:
        return f"ExecutorTaskRunner({self.executor!r})"


def checked_runner(value: Any) -> Any:
    """
    A ``task_runner`` option as it is kept.

    Raises:
        TypeError: It is no runner.
    """
    if isinstance(value, str) or value is None or _is_executor(value):
        return value
    if all(callable(getattr(value, name, None)) for name in ("submit", "close")):
        return value
    raise TypeError(
        "task_runner is a name ('threads', 'asyncio', 'processes', 'dask'), a runner such as ThreadPoolTaskRunner(max_workers=4),"
        f" or an executor of concurrent.futures, not {value!r}."
    )


def runner_from(wanted: Any, make: Callable[[str], Runner]) -> Runner:
    """A runner for one flow run, from what the option ``task_runner`` says."""
    if wanted is None or isinstance(wanted, str):
        return make(wanted or "threads")
    if isinstance(wanted, type):
        return wanted()
    if _is_executor(wanted):
        return ExecutorTaskRunner(wanted)
    return wanted.duplicate() if hasattr(wanted, "duplicate") else wanted


def _is_executor(value: Any) -> bool:
    futures = sys.modules.get("concurrent.futures")  # who has made one, has loaded it
    return futures is not None and isinstance(value, futures.Executor)


def _setting(name: str) -> Any:
    from ..settings import get_current_settings

    return getattr(get_current_settings(), name)


_BY_NAME: Final[dict[str, type[ThreadPoolTaskRunner]]] = {
    "threads": ThreadPoolTaskRunner,
    "asyncio": AsyncioTaskRunner,
    "processes": ProcessPoolTaskRunner,
}


@hookimpl
def make_runner(name: str) -> ThreadPoolTaskRunner | None:
    """The runners called ``threads``, ``asyncio`` and ``processes``."""
    kind = _BY_NAME.get(name)
    return None if kind is None else kind()
