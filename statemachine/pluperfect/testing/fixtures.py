"""The pytest plugin: a log and a clock for tests that record runs. Installing this library makes its fixtures known to pytest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from ..authoring.logs import OpenLog
    from ..divergences import Replay
    from . import FakeClock

__all__ = ["pluperfect_clock", "pluperfect_log", "replay_histories"]


@pytest.fixture
def pluperfect_clock() -> FakeClock:
    """A clock that makes nobody wait: sleeps move it, and end at once."""
    from . import FakeClock

    return FakeClock()


@pytest.fixture
def pluperfect_log(pluperfect_clock: FakeClock) -> Iterator[OpenLog]:
    """A log in memory that the runs of this test are recorded in, with the time of ``pluperfect_clock``."""
    from ..authoring.logs import open

    with open("memory:", clock=pluperfect_clock) as log:
        yield log


@pytest.fixture
def replay_histories() -> Callable[..., list[Replay]]:
    """
    A function that replays every run of the exported files in a folder against the code of today.

    ``replay_histories(folder, flow=None, pattern="*", bodies=False)``: the folder is looked for from the working folder. The files are taken as
    a part of the tests: their values are decoded. It fails the test where a run does something else than is on record, or cannot
    be led; it returns the replays.
    """

    def replay(
        folder: str | PathLike[str], *, flow: Any = None, pattern: str = "*", bodies: bool = False
    ) -> list[Replay]:
        from ..authoring.logs import open

        files = sorted(path for path in Path(folder).glob(pattern) if path.is_file())
        if not files:
            pytest.fail(
                f"There is no exported history in {Path(folder).absolute()}. `pluperfect export RUN` writes one."
            )
        found: list[Replay] = []
        wrong: list[str] = []
        for path in files:
            with open("memory:", trust_imported=True) as log:
                log.import_runs(path)
                for one in log.replays(flow=flow, bodies=bodies):
                    found.append(one)
                    if one.outcome not in {"same", "extended"}:
                        wrong.append(f"{path.name}: {told(one)}")
        if wrong:
            pytest.fail("\n".join(wrong), pytrace=False)
        if not found:
            pytest.fail(f"None of the {len(files)} files in {folder} holds a run of that flow.")
        return found

    return replay


def told(replay: Replay) -> str:
    """What a replay found, in a few lines."""
    lines = [f"{replay.name}/{replay.run_name} ({replay.run}): {replay.outcome}"]
    why = replay.why or next((section.why for section in replay.sections if section.why), "")
    if why:
        lines.append(f"  {why}")
    first = replay.first
    if first is not None:
        for word, side in (("recorded", first.recorded), ("replayed", first.replayed)):
            parts = "".join(f"\n            {name} = {value}" for name, value in side.parts.items())
            lines.append(f"  {word}: {side.what}{f'   {side.site}' if side.site else ''}{parts}")
        lines.append(f"  {first.part}: {first.advice}")
    return "\n".join(lines)
