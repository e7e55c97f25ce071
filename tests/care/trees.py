"""Trees of runs to be pruned, and what a sound log is."""

from __future__ import annotations

import msgspec

from pluperfect.hooks import Part
from pluperfect.records import GENESIS, continues, leaf, open_record, open_row
from pluperfect.states import PLAIN, Completed, Failed, Packed, Pending, Running, Spec
from pluperfect.transitions import NO_FACTS, Facts, Transition
from pluperfect_store.conformance import AT, new_id
from pluperfect_store.tree import Tree

DAY = 86400.0


def told(run, root=None, *, at=AT, name="fetch", key=None, cached=None, value=b"\x05", end="completed", tags=()):
    """A part that tells a run from its birth to its end, or, with another ``end``, not so far."""
    kind = "flow" if root is None else "task"
    spec = Spec(kind, name, name, f"{name}-0", root or run, root, tags=tuple(tags), idempotency_key=key)
    states = [Pending(spec=spec), Running()]
    if end == "completed":
        states.append(Completed(data=Packed(PLAIN, value)))
    elif end == "failed":
        states.append(Failed("no"))
    facts = Facts(key=cached) if cached and end == "completed" else NO_FACTS
    entries = [Transition(n, at, state, facts=facts if n == 3 else NO_FACTS) for n, state in enumerate(states, 1)]
    return Part(run, root or run, 0, tuple(entries))


def grown(log, *, children=1, **given):
    """Append a tree; the ids of its runs, the root first."""
    root = new_id()
    runs = [root, *(new_id() for _ in range(children))]
    child = {name: value for name, value in given.items() if name not in {"key", "end"}}
    log.append([told(root, **given), *(told(run, root, **child) for run in runs[1:])], epoch=1).wait()
    return runs


def sound(log):
    """An unbroken chain of each run that is left, views that equal the fold, every value there that nobody took away."""
    last = {}
    taken = {digest for note in notes(log, "store/redacted") for digest, _ in note["values"]}
    for _, data in log.feed(0, 10**7):
        row = open_row(data)
        seq, prev = last.get(row.record.run, (0, GENESIS))
        assert row.record.seq == seq + 1
        assert continues(row.record.prev, prev)
        last[row.record.run] = (row.record.seq, row.leaf)
        for value in row.values:
            digest = None if type(value) is bytes else bytes(value.data)[:32]
            assert digest is None or digest in taken or log.blob(digest) is not None
    assert log.compare() == []


def leaves(log):
    """The leaf of each record that is left, by its position."""
    return {position: leaf(data) for position, data in log.feed(0, 10**7)}


def tree(log):
    """Size and root of the tree over the log."""
    with log._rows() as rows:
        found = Tree.decode(rows.get("meta", b"tree"))
    return found.size, found.root


def over(hashes):
    """Size and root of the tree over these leaves."""
    made = Tree()
    for hashed in hashes:
        made.push(hashed)
    return made.size, made.root


def answers(log, runs):
    """All that a log answers about these runs."""
    among = set(runs)
    lists = [log.find(), log.find(roots=True), log.find(name="fetch"), log.find(tag="x")]
    lists += [log.find(state=code) for code in range(1, 9)]
    return {
        "heads": [log.head(run) for run in runs],
        "records": [log.records(run) for run in runs],
        "children": [log.children(run) for run in runs],
        "matching": [log.matching(run) for run in runs],
        "lists": [[run for run in listed if run in among] for listed in lists],
    }


def notes(log, kind):
    """The bodies of the store's own records of this type."""
    records = [open_record(data) for data in log.records(log.store_id)]
    return [msgspec.msgpack.decode(record.body) for record in records if record.type == kind]
