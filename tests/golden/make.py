"""
Makes a golden store: what this release writes, to be read by every later one.

    python tests/golden/make.py FOLDER

writes ``FOLDER/data.mdb`` and ``FOLDER/history.txt``. Done once for each format, and never again: see ``test_formats.py``.
"""

from __future__ import annotations

import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from types import ModuleType
from typing import Any

import pluperfect
from pluperfect import LOOP, flow, task
from pluperfect.cache_policies import INPUTS
from pluperfect.errors import RedactedValue
from pluperfect.histories import Histories
from pluperfect.runtime import task_run
from pluperfect.testing import FakeClock
from pluperfect.transitions import stamp
from pluperfect_store.lmdb import LmdbLog
from pluperfect_store.tree import Tree


@task(retries=1, retry_delay_seconds=2, cache_policy=INPUTS)
def fetch(page: int) -> str:
    if page == 3:
        raise ConnectionError("page 3 does not answer")
    return "text " * page * 300


@task
def count() -> int:
    done: int = task_run.loop_result or 0
    if done < 2:
        raise LOOP(message=f"round {done}", result=done + 1)
    return done


@task
def sign(name: str) -> datetime:
    return datetime(2027, 1, 15, tzinfo=UTC)


@flow(flow_run_name="read-{pages}")
def read(pages: list[int]) -> int:
    lengths = [len(fetch(page)) for page in pages]
    sign("golden")
    return sum(lengths) + count()


def history(folder: Path) -> str:
    """Everything that is to be read the same for ever, as text."""
    lines: list[str] = []
    log = LmdbLog(folder)
    with log._rows() as rows:
        tree = Tree.decode(rows.get("meta", b"tree"))
    lines.append(f"{tree.size} records, root {tree.root.hex()}")
    log.close()
    with pluperfect.open(folder, entry_points=False) as opened:
        assert isinstance(opened, Histories)
        for run in reversed(opened.runs()):
            lines.append(f"{run.id} {run.kind} {run.folded.birth.name} {run.name} {run.parameters}")
            lines += [str(entry) for entry in run.history]
            if run.state.is_completed():
                lines.append(f"     {_result(run)}"[:120])
        lines += [f"{stamp(note.at)} {note.kind}" for note in opened.journal()]
        report = opened.verify()
        lines.append(
            f"{report.records} records and {report.pruned} pruned, {report.redacted} values redacted, {report.findings}"
        )
    return "\n".join(lines) + "\n"


def _result(run: Any) -> str:
    try:
        return repr(run.result())
    except RedactedValue:
        return "redacted"


def main(folder: Path) -> None:
    """Make the store, and write down what it says."""
    clock = FakeClock()
    file = folder / "other.export"
    with pluperfect.open(folder / "other", clock=clock, entry_points=False) as other:
        read([2])
        other.export(file, other.runs())
    with pluperfect.open(folder, clock=clock, entry_points=False) as opened:
        read([1, 2])
        read.with_options(idempotency_key="golden")([2, 1, 2])
        read([3], return_state=True)
        read.with_options(name="old")([1])
        opened.flush()
        clock.advance(1)
        opened.prune(0, name="old")
        opened.import_runs(file, at=clock.now())
        opened.redact(opened.runs(name="sign")[0].id, result=True, by="make.py", why="to have one", at=clock.now())
        opened.compact()
    (folder / "history.txt").write_text(history(folder))
    shutil.rmtree(folder / "other")
    for left in (file, folder / "lock.mdb", folder / "store.lock"):
        left.unlink()


if __name__ == "__main__":
    # Under a name and a file that are the same on every machine: both stand in the records.
    module = ModuleType("golden_make")
    sys.modules["golden_make"] = module
    exec(compile(Path(__file__).read_text(), "make.py", "exec"), module.__dict__)
    module.main(Path(sys.argv[1]))
