"""
A small web service on this machine that is flaky on purpose, so that there is something to retry.

It knows Fibonacci numbers and the statistics of one repository. Of the Fibonacci numbers every fourth is
answered with 503 when it is asked for the first time by a client; one page is slow; it counts what it is asked.
"""

from __future__ import annotations

import json
import threading
import time
from collections import Counter
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

OPEN_ISSUES = 640


class Service:
    """The service and its books: ``asked`` counts every request by what it asked for."""

    def __init__(self) -> None:
        self.asked: Counter[str] = Counter()
        self.reached = threading.Event()  # set once the client "killed" asks for the 9th number
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Service:
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    def answer(self, path: str, query: dict[str, str]) -> tuple[int, object]:
        """The status and the JSON body for a request."""
        with self._lock:
            what = f"{path}?{'&'.join(f'{k}={v}' for k, v in sorted(query.items()))}"
            self.asked[what] += 1
            first = self.asked[what] == 1
        if path == "/fib":
            n = int(query["nth"])
            if n == 9 and query.get("client") == "killed" and first:
                self.reached.set()
                time.sleep(1.0)  # long enough for the client to be killed while it waits
            if n % 4 == 0 and first:
                return 503, {"error": "busy, come again"}
            a, b = 0, 1
            for _ in range(n):
                a, b = b, a + b
            return 200, a
        if path == "/slow":
            time.sleep(2.0)
            return 200, "at last"
        if path == "/repos/demo":
            return 200, {"stargazers_count": 12157, "forks_count": 1251, "open_issues_count": OPEN_ISSUES}
        if path == "/repos/demo/issues":
            time.sleep(0.05)
            start = (int(query["page"]) - 1) * 100
            numbers = range(start, min(start + 100, OPEN_ISSUES))
            return 200, [{"number": i, "user": {"id": i * 7919 % 283}} for i in numbers]
        return 404, {"error": f"nothing at {path}"}

    def _handler(service) -> type[BaseHTTPRequestHandler]:  # noqa: N805 - `self` is the handler's below
        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                parts = urlsplit(self.path)
                status, body = service.answer(parts.path, {k: v[0] for k, v in parse_qs(parts.query).items()})
                data = json.dumps(body).encode()
                try:
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)
                except OSError:
                    pass  # the client is gone, as it is meant to be in one part of the demo

            def log_message(self, *_: object) -> None:
                pass

        return Handler
