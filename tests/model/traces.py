"""
Traces: lists of steps of real or imagined processes, and how far the model can follow them.

A step is a dict. ``a`` says what happened: ``acquire`` (p, epoch), ``append`` (p, r, epoch, seq, st, and why
where that is known), ``sync``, ``user`` (p, r, n: which attempt's body begins), ``ack`` (p, r), ``kill`` (p),
``power``. Runs are counted from the root, 0; processes are named.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from model import configs, tlc

FIELDS = {
    "acquire": {"p", "epoch"},
    "append": {"p", "r", "epoch", "seq", "st"},
    "sync": set(),
    "user": {"p", "r", "n"},
    "ack": {"p", "r"},
    "kill": {"p"},
    "power": set(),
}


@dataclass(frozen=True)
class Verdict:
    """Whether the model can follow a trace; if not, the first step that it cannot make, counted from 0."""

    accepted: bool
    stuck: int | None = None
    step: dict | None = None

    def __bool__(self):
        return self.accepted


def follow(traces, folder):
    """
    Have the model follow traces, one by one; starting TLC takes longer than that.

    Returns:
        A verdict for each.

    Raises:
        ValueError: A step lacks something, or has too much.
        AssertionError: An invariant broke on the way, or TLC failed.
    """
    for step in (step for steps in traces for step in steps):
        if step["a"] not in FIELDS or {*step} - {"a", "why"} != FIELDS[step["a"]]:
            raise ValueError(f"no step of a trace: {step}")
    (folder / "TraceData.tla").write_text(data(traces))
    answer = tlc.run(folder, "ledger_trace", config(traces))
    assert answer.code == tlc.HOLDS, answer.output
    followed = [0] * len(traces)
    for which, count in re.findall(r'<<"followed", (\d+), (\d+)>>', answer.output):
        followed[int(which) - 1] = int(count)
    return [
        Verdict(True) if count == len(steps) else Verdict(False, count, steps[count])
        for steps, count in zip(traces, followed, strict=True)
    ]


def data(traces):
    """The module TraceData."""
    whole = ",\n".join("  <<\n" + ",\n".join(f"    {record(step)}" for step in steps) + "\n  >>" for steps in traces)
    return f"---- MODULE TraceData ----\nTraces == <<\n{whole}\n>>\n====\n"


def record(step):
    whole = {"why": "?", **step} if step["a"] == "append" else step
    return "[" + ", ".join(f"{name} |-> {value(item)}" for name, item in whole.items()) + "]"


def value(item):
    return f'"{item}"' if isinstance(item, str) else str(item)


def config(traces):
    """Bounds above everything in the traces; on the way, all invariants of level effect."""
    steps = [step for steps in traces for step in steps]
    names = sorted({step["p"] for step in steps if "p" in step})
    room = str(max(map(len, traces)))
    row = {
        "level": "effect",
        "processes": "1",
        "children": str(max((step["r"] for step in steps if "r" in step), default=0)),
        "proposed": "all",
        **dict.fromkeys(("records", "attempts", "terms", "faults"), room),
        "queue": "8",
    }
    invariants = [name for name in configs.promised("effect") if name not in configs.PROPERTIES]
    text = configs.config(row, invariants)
    text = text.replace("SPECIFICATION Spec\nSYMMETRY Symmetry\n", "SPECIFICATION TraceSpec\nCONSTRAINT Followed\n")
    return text.replace("Procs = {p1}", f"Procs = {configs.quoted(names)}")
