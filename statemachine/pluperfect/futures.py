"""Prefect's place for futures; its own names for them are kept as aliases."""

from .authoring.futures import Future, FutureList, as_completed, wait

PrefectFuture = Future
PrefectFutureList = FutureList

__all__ = ["Future", "FutureList", "PrefectFuture", "PrefectFutureList", "as_completed", "wait"]
