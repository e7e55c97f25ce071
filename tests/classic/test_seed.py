"""The programs of the tutorial on loops, unchanged but for their imports and the address that they ask."""

from __future__ import annotations

import json
import threading
from collections import Counter
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs

import pytest
import requests

import pluperfect.classic as prefect
from pluperfect.classic import Flow, Parameter, task
from pluperfect.classic.engine.signals import LOOP


class Numbers(ThreadingHTTPServer):
    """Serves Fibonacci numbers; counts what it is asked."""

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.asked = Counter()
        self.broken = Counter()
        self.lock = threading.Lock()

    @property
    def url(self):
        return f"http://127.0.0.1:{self.server_port}/"


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        n = int(form["nth"][0])
        with self.server.lock:
            self.server.asked[n] += 1
            broken = self.server.broken[n] > 0
            self.server.broken[n] -= broken
        a, b = 0, 1
        for _ in range(n):
            a, b = b, a + b
        body = b"gone" if broken else json.dumps(a).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture
def numbers():
    with Numbers() as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def compute_large_fibonacci(numbers):
    @task(max_retries=5, retry_delay=timedelta(seconds=2))
    def compute_large_fibonacci(M):
        # we extract the accumulated task loop result from context
        loop_payload = prefect.context.get("task_loop_result", {})

        n = loop_payload.get("n", 1)
        fib = loop_payload.get("fib", 1)

        next_fib = requests.post(numbers.url, data={"nth": n}).json()

        if next_fib > M:
            return fib  # return statements end the loop

        raise LOOP(message=f"Fib {n}={next_fib}", result=dict(n=n + 1, fib=next_fib))  # noqa: C408 - as it is printed

    return compute_large_fibonacci


@pytest.mark.parametrize(("limit", "found", "calls"), [(100, 89, 12), (1000, 987, 17)])
def test_the_largest_number_up_to_a_limit_is_found_with_one_request_for_each(
    log, numbers, compute_large_fibonacci, limit, found, calls
):
    with Flow("fibonacci") as flow:
        M = Parameter("M")
        fib_num = compute_large_fibonacci(M)

    flow_state = flow.run(M=limit)

    assert flow_state.is_successful()
    assert flow_state.result[fib_num].result == found
    assert sum(numbers.asked.values()) == calls
    assert flow_state.result[M].result == limit


def test_the_mapped_flow_finds_one_for_each_limit(log, compute_large_fibonacci):
    with Flow("mapped-fibonacci") as mapped_flow:
        ms = Parameter("ms")
        fib_nums = compute_large_fibonacci.map(ms)

    flow_state = mapped_flow.run(ms=[10, 100, 1000, 1500])

    assert flow_state.result[fib_nums].result == [8, 89, 987, 987]


def test_an_iteration_that_fails_is_retried_after_two_seconds_and_the_others_are_not_asked_again(
    log, clock, numbers, compute_large_fibonacci
):
    numbers.broken[11] = 2
    with Flow("fibonacci") as flow:
        M = Parameter("M")
        fib_num = compute_large_fibonacci(M)

    assert flow.run(M=100).result[fib_num].result == 89
    assert numbers.asked[11] == 3
    assert all(count == 1 for n, count in numbers.asked.items() if n != 11)
    assert clock.slept == [2.0, 2.0]
