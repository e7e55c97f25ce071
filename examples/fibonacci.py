"""
The largest Fibonacci number up to M, asked from a service one number at a time.

Nobody knows beforehand how many requests that takes. Each iteration is recorded with its payload, and retried
alone: a failure in the eleventh does not ask for the first ten again, nor does a killed process.

    python fibonacci.py URL CLIENT M [STORE]
"""

from __future__ import annotations

import json
import sys
import urllib.request

import pluperfect
from pluperfect import LOOP, flow, task
from pluperfect.runtime import task_run


@task(retries=5, retry_delay_seconds=0.2)
def compute_large_fibonacci(M: int, url: str, client: str) -> int:  # noqa: N803 - the name in the exercise
    payload = task_run.loop_result or {}
    n, fib = payload.get("n", 1), payload.get("fib", 1)

    with urllib.request.urlopen(f"{url}/fib?nth={n}&client={client}", timeout=10) as response:
        next_fib = json.load(response)

    if next_fib > M:
        return fib  # a return ends the loop
    raise LOOP(message=f"Fib {n}={next_fib}", result={"n": n + 1, "fib": next_fib})


@flow
def fibonacci(M: int, url: str, client: str) -> int:  # noqa: N803
    return compute_large_fibonacci(M, url, client)


if __name__ == "__main__":
    url, client, limit, *store = sys.argv[1:]
    with pluperfect.open(*store):
        print(fibonacci.with_options(idempotency_key=f"fibonacci-{client}")(int(limit), url, client))
