"""A letter that must not be sent twice is never sent twice, whenever the process that sends it is killed."""

from __future__ import annotations

import socketserver
import threading
from collections import Counter

import pytest

from crash import mails
from crash.children import WORKERS, spread


class _Postbox(socketserver.StreamRequestHandler):
    """As much of SMTP as a letter takes. It is sent once its last line is here, whether the sender hears of that or not."""

    def handle(self):
        self.say("220 here")
        for line in self.rfile:
            word = line[:4].upper().strip()
            if word == b"DATA":
                self.say("354 go on")
                lines = []
                for text in self.rfile:
                    if text == b".\r\n":
                        self.server.sent.extend(
                            found[9:].decode().strip() for found in lines if found[:8] == b"Subject:"
                        )
                        break
                    lines.append(text)
                self.say("250 sent")
            elif word == b"QUIT":
                self.say("221 bye")
                return
            else:
                self.say("250 yes")

    def say(self, text):
        try:
            self.wfile.write(f"{text}\r\n".encode())
        except OSError:
            pass  # whoever asked is dead


class Post(socketserver.ThreadingTCPServer):
    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), _Postbox)
        self.sent = []

    def handle_error(self, request, address):
        """Senders are killed in the middle of a word; what is sent is counted below."""


@pytest.fixture
def post():
    with Post() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


def send_and_kill(folder, post, seed, kills):
    shares = [(folder, post.server_address[1], seed * WORKERS + share, kills // WORKERS) for share in range(WORKERS)]
    killed, doubtful, ended = 0, set(), {}
    for count, states, ever in spread(mails.rounds, shares):
        killed += count
        doubtful |= ever
        ended |= states
    sent = Counter(post.sent)
    print(
        f"kills of a sender: seed {seed}, {killed} kills, {sent.total()} letters sent, {len(doubtful)} in doubt"
        f" ({sum(name in sent for name in doubtful)} of them sent), 0 twice"
    )
    assert killed == kills
    assert max(sent.values()) == 1
    assert {*sent} <= {*ended}
    assert {name for name, how in ended.items() if how == "in_doubt"} == doubtful
    assert all(how == "Completed" and sent[name] for name, how in ended.items() if name not in doubtful)


def test_a_letter_is_never_sent_twice_whenever_its_sender_is_killed(tmp_path, post, seed):
    send_and_kill(tmp_path, post, seed(1), 6)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_of_a_hundred_killed_senders_none_has_a_letter_sent_twice(tmp_path, post, seed):
    send_and_kill(tmp_path, post, seed(2), 100)
