"""
This library, the floor and the peers at the same work, side by side in one run.

    make bench                                       installs the peers, runs everything, writes benchmarks/results/
    python benchmarks/bench.py                       ours and the floor alone
    python benchmarks/bench.py --only map --rounds 9
    python benchmarks/bench.py --peers FOLDER        beside the peers that `benchmarks/peers/install.sh FOLDER` installed
    python benchmarks/bench.py --growth              ours alone, from a hundred items to a million

Each measurement is a process of its own. A round measures every subject once, in another order each time, so that what the
machine does besides falls on all of them. Told are medians; `noise` is how far apart the middle half of the rounds lay, and
`waited` how much of the wall time the measured thread stood without a CPU (it is taken out of the figures).
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

HERE = Path(__file__).resolve().parent
OWN = "pluperfect"
"""The environment, beside those of the peers, that has this library and what it needs, and no more; this one where there is none."""
SUBJECTS = {"ours": "ours.py", "floor": "floor.py", "sqlite": "plain_sqlite.py"}
PEERS = {"eventsourcing": "eventsourcing.py", "dbos": "dbos.py", "prefect": "prefect.py"}
IMPORTS = {
    "python": "",
    "floor": "import lmdb, msgspec",
    "sqlite": "import sqlite3",
    "ours": "from pluperfect import flow, task",
    "eventsourcing": "from eventsourcing.application import Application",
    "dbos": "from dbos import DBOS",
    "prefect": "from prefect import flow, task",
}
"""What a program of each subject imports; bare Python, nothing."""
WHOLE = ("start", "import")
"""The works whose figure is the time since a process was begun, in ms."""


class Line(NamedTuple):
    """One subject at one work."""

    work: str
    level: str
    subject: str
    asked: str
    count: int


class Target(NamedTuple):
    """What a figure of ours has to be: at most so much, so many times less than another subject's, at most so many times another's."""

    work: str
    level: str
    figure: str
    most: float = 0.0
    unit: str = "µs"
    ahead: tuple[tuple[str, float], ...] = ()
    within: tuple[tuple[str, float], ...] = ()


OURS = 2_000
TARGETS = (
    Target("sequential", "effect", "us", ahead=(("dbos.wal", 3.5), ("prefect.asis", 15))),
    Target("sequential", "lazy", "us", 40, ahead=(("prefect.asis", 150), ("dbos.wal", 35))),
    Target("map", "effect", "us", 130, ahead=(("prefect.asis", 60), ("dbos.wal", 20))),
    Target("map", "lazy", "us", 60, ahead=(("prefect.asis", 140), ("dbos.wal", 50))),
    Target("submit", "effect", "us", 130, ahead=(("prefect.asis", 60), ("dbos.wal", 20))),
    Target("submit", "lazy", "us", 60, ahead=(("prefect.asis", 140), ("dbos.wal", 50))),
    Target("gather", "lazy", "us", 50),
    Target("loop", "lazy", "us", 40),
    Target("retry", "lazy", "us", 60),
    Target("cached", "lazy", "us", 25),
    Target("history", "", "us", 4),
    Target("resume", "", "us", 20),
    Target("list", "", "us", 1_000),
    Target("start", "", "ms", 100, "ms", ahead=(("prefect", 100), ("dbos", 6)), within=(("python", 6),)),
    Target("map", "lazy", "peak_mb", 50, "MB"),
    Target("sequential", "lazy", "bytes", 900, "bytes"),
)


def lines(peers: bool) -> list[Line]:
    """Everything that is measured."""
    found: list[Line] = []
    for work in ("sequential", "submit", "map", "loop", "retry", "cached", "subflow", "gather"):
        for level in ("effect", "lazy"):
            big = 10_000 if work in {"submit", "map", "gather"} or level == "lazy" else OURS
            found.append(Line(work, level, "ours", f"{work}.{level}", big))
    found += [Line("sequential", level, "floor", f"sequential.{level}", OURS) for level in ("effect", "lazy")]
    found += [Line(work, "lazy", "floor", f"{work}.lazy", 10_000) for work in ("submit", "map")]
    found += [
        Line(work, level, "sqlite", f"{work}.{level}", 1_000)
        for work in ("sequential", "submit", "map")
        for level in ("effect", "lazy")
    ]
    found += [Line("history", "", subject, "history", 10_000) for subject in ("ours", "floor")]
    found += [
        Line("history", "", "ours, decoded only", "decode", 10_000),
        Line("resume", "", "ours", "resume", 100_000),
    ]
    found += [Line("rejudge", "", "ours", "rejudge", 30_000), Line("list", "", "ours", "list", 1_000_000)]
    found += [Line("start", "", subject, "start", 1) for subject in SUBJECTS]
    found.append(Line("start", "", "python", "import", 1))
    found += [Line("import", "", subject, "import", 1) for subject in IMPORTS if peers or subject not in PEERS]
    if peers:
        for work in ("sequential", "submit", "map", "loop", "retry"):
            found.append(Line(work, "effect", "eventsourcing", f"{work}.effect", 500))
        for work in ("sequential", "submit", "map", "loop", "retry", "cached", "gather"):
            found += [Line(work, "effect", f"dbos.{mode}", f"{work}.{mode}", 200) for mode in ("asis", "wal")]
        for work in ("sequential", "submit", "map", "loop", "retry", "cached"):
            found += [Line(work, "lazy", f"prefect.{mode}", f"{work}.{mode}", 100) for mode in ("asis", "fast")]
        found += [Line("history", "", subject, "history", 500) for subject in ("eventsourcing", "dbos")]
        found += [Line("start", "", subject, "start", 1) for subject in PEERS]
    return found


def measured(line: Line, folder: Path | None) -> dict[str, Any] | None:
    """One measurement, in a process of its own; None where it failed, which is told."""
    name = line.subject.split(",")[0].split(".")[0]
    python = sys.executable
    if folder is not None:
        home = folder.absolute() / (name if name in PEERS else OWN) / "bin" / "python"
        python = str(home) if name in PEERS or home.exists() else python
    with tempfile.TemporaryDirectory() as place:
        if line.asked == "import":
            command = [python, "-c", f"{IMPORTS[name]}\nimport time; print(time.time())"]
        else:
            script = str(HERE / "subjects" / {**SUBJECTS, **PEERS}[name])
            command = [python, script, line.asked, place if line.work == "start" else str(line.count)]
        # Byte code is kept, as an installation does it: else each process would compile all that it imports.
        kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
        begun = time.time()
        # In an empty folder: what stands in this one, a pyproject.toml for one, is no part of the work.
        done = subprocess.run(command, cwd=place, env=kept, capture_output=True, text=True, check=False, timeout=900)
    out = done.stdout.strip().splitlines()
    if done.returncode or not out:
        print(f"{line.subject} cannot do {line.asked}: {(done.stderr or done.stdout).strip()[-400:]}", file=sys.stderr)
        return None
    return {"ms": (float(out[-1]) - begun) * 1e3} if line.work in WHOLE else json.loads(out[-1])


def rounds(todo: list[Line], count: int, folder: Path | None) -> dict[Line, list[dict[str, Any]]]:
    """All measurements, round by round."""
    found: dict[Line, list[dict[str, Any]]] = {line: [] for line in todo}
    order = random.Random(1)
    try:
        for number in range(count):
            once = [line for line in todo if number == 0 or found[line]]
            order.shuffle(once)
            for line in once:
                told = measured(line, folder)
                if told is not None:
                    found[line].append(told)
            print(f"round {number + 1} of {count}, load {os.getloadavg()[0]:.1f}", file=sys.stderr, flush=True)
    except KeyboardInterrupt:
        print("interrupted: what was measured until here is told", file=sys.stderr)
    return {line: told for line, told in found.items() if told}


def middle(told: list[dict[str, Any]], figure: str) -> float:
    """The median of a figure."""
    return statistics.median(each[figure] for each in told)


def spread(told: list[dict[str, Any]], figure: str) -> float:
    """How far apart the middle half lies, as a part of the median."""
    values = [each[figure] for each in told]
    if len(values) < 3:
        return 0.0
    low, _, high = statistics.quantiles(values, n=4)
    return (high - low) / statistics.median(values)


def table(found: dict[Line, list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """Print and give all medians."""
    rows: list[dict[str, Any]] = []
    ours = {
        (line.work, line.level): middle(told, "ms" if line.work in WHOLE else "us")
        for line, told in found.items()
        if line.subject == "ours"
    }
    print(
        f"{'work':<12}{'level':<8}{'subject':<20}{'n':>8}{'median':>12}{'to ours':>9}{'noise':>7}{'waited':>7}{'MB':>6}{'bytes':>8}"
    )
    for line, told in sorted(
        found.items(), key=lambda item: (item[0].work, item[0].level, item[0].subject != "ours", item[0])
    ):
        figure = "ms" if line.work in WHOLE else "us"
        value = middle(told, figure)
        base = ours.get((line.work, line.level))
        row: dict[str, Any] = {
            "work": line.work,
            "level": line.level,
            "subject": line.subject,
            "n": line.count,
            figure: value,
        }
        row |= {key: middle(told, key) for key in told[0] if isinstance(told[0][key], float | int) and key not in row}
        row["noise"] = spread(told, figure)
        rows.append(row)
        print(
            f"{line.work:<12}{line.level:<8}{line.subject:<20}{line.count:>8}{value:>9.1f} {'ms' if figure == 'ms' else 'µs'}"
            f"{'' if base is None else f'{value / base:.1f}':>9}{row['noise']:>7.0%}{row.get('waited', 0):>7.0%}"
            f"{row.get('peak_mb', 0):>6.0f}{row.get('bytes', 0):>8.0f}"
        )
    return rows


def judged(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Hold the medians against what they have to be; print and give what came of it."""
    by = {(row["work"], row["level"], row["subject"]): row for row in rows}
    told: list[dict[str, Any]] = []
    for target in TARGETS:
        row = by.get((target.work, target.level, "ours"))
        if row is None:
            continue
        value, name = row[target.figure], f"{target.work} {target.level}".strip()
        if target.most:
            text = f"{name}: {value:.1f} {target.unit}, at most {target.most:g}"
            told.append({"target": text, "reached": value <= target.most})
        for other, times in target.ahead:
            levels = [target.level, "effect", "lazy"] if target.level else [""]
            there = next((by[target.work, level, other] for level in levels if (target.work, level, other) in by), None)
            if there is not None:
                ratio = there[target.figure] / value
                told.append({"target": f"{name}: {ratio:.1f} × {other}, at least {times:g}", "reached": ratio >= times})
        for other, times in target.within:
            there = by.get((target.work, target.level, other))
            if there is not None:
                ratio = value / there[target.figure]
                told.append(
                    {"target": f"{name}: {ratio:.1f} × bare {other}, at most {times:g}", "reached": ratio <= times}
                )
    floor, durable = by.get(("sequential", "effect", "floor")), by.get(("sequential", "effect", "ours"))
    if floor and durable:
        most = 1.15 * floor["us"] + 40
        text = f"sequential effect: {durable['us']:.0f} µs, at most 1.15 × the floor of {floor['us']:.0f} + 40 = {most:.0f}"
        told.append({"target": text, "reached": durable["us"] <= most})
    history, decoded = by.get(("history", "", "ours")), by.get(("history", "", "ours, decoded only"))
    if history and decoded:
        ratio = history["us"] / decoded["us"]
        told.append({"target": f"history: {ratio:.1f} × decoding with msgspec, at most 2", "reached": ratio <= 2})
    again = by.get(("rejudge", "", "ours"))
    if again:
        text = f"fold and re-judge: {again['a_second']:,.0f} transitions a second, at least 300,000"
        told.append({"target": text, "reached": again["a_second"] >= 300_000})
    print()
    for each in told:
        print(f"{'reached' if each['reached'] else 'missed ':<9}{each['target']}")
    return told


def growth(rounds_of: int) -> list[dict[str, Any]]:
    """How ours grows: a curve that bends is a defect."""
    rows: list[dict[str, Any]] = []
    print(f"\n{'work':<20}" + "".join(f"{n:>18,}" for n in SIZES))
    for asked, most in GROWING.items():
        told: list[str] = []
        for n in (size for size in SIZES if size <= most):
            found = [measured(Line(asked, "", "ours", asked, n), None) for _ in range(rounds_of if n < 100_000 else 1)]
            each = [one for one in found if one is not None]
            if each:
                rows.append({"work": asked, "n": n, **{key: middle(each, key) for key in ("us", "peak_mb", "bytes")}})
                told.append(f"{rows[-1]['us']:.0f} µs {rows[-1]['peak_mb']:.0f} MB")
        print(f"{asked:<20}" + "".join(f"{text:>18}" for text in told), flush=True)
    return rows


SIZES = (100, 1_000, 10_000, 100_000, 1_000_000)
GROWING = {
    "sequential.lazy": 1_000_000,
    "loop.lazy": 1_000_000,
    "list": 1_000_000,
    "map.lazy": 100_000,  # each future is kept by the program, some 4 kB
    "gather.lazy": 100_000,
    "history": 100_000,  # the whole tree is read into memory
    "resume": 100_000,
}
"""How far each work is followed."""


def picture(rows: list[dict[str, Any]]) -> str:
    """The medians as bars on a logarithmic scale, as an SVG."""
    from math import log10

    shown = [row for row in rows if "us" in row and row["work"] != "rejudge"]
    colours = {"ours": "#1b6ca8", "floor": "#8a8a8a"}
    parts, y = [], 20
    last = None
    for row in shown:
        if last != (row["work"], row["level"]):
            last = (row["work"], row["level"])
            y += 10
            parts.append(f'<text x="8" y="{y + 11}" font-weight="bold">{row["work"]} {row["level"]}</text>')
        width = 110 * log10(max(row["us"], 1.0)) + 2
        colour = colours.get(row["subject"], "#d08a3c")
        parts.append(f'<text x="300" y="{y + 11}" text-anchor="end">{row["subject"]}</text>')
        parts.append(f'<rect x="308" y="{y}" width="{width:.0f}" height="13" fill="{colour}"/>')
        parts.append(f'<text x="{314 + width:.0f}" y="{y + 11}">{row["us"]:,.1f} µs</text>')
        y += 17
    style = 'font-family="sans-serif" font-size="12"'
    title = '<text x="8" y="16">µs for each task, median, logarithmic</text>'
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="960" height="{y + 20}" {style}>{title}{"".join(parts)}</svg>\n'
    )


def main() -> None:
    """Measure, print, and write the results."""
    asked = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    asked.add_argument("--only", help="works whose name holds this text")
    asked.add_argument("--rounds", type=int, default=5)
    asked.add_argument("--peers", type=Path, help="where benchmarks/peers/install.sh has installed them")
    asked.add_argument("--growth", action="store_true", help="ours alone, at growing sizes")
    asked.add_argument("--out", type=Path, help="a folder for results.json and results.svg")
    given = asked.parse_args()
    if given.rounds < 1:
        asked.error(f"--rounds is 1 or more, not {given.rounds}")
    todo = [
        line for line in lines(given.peers is not None) if not given.only or given.only in f"{line.work}.{line.level}"
    ]
    if not todo:
        asked.error(
            f"no work's name holds {given.only!r}; there are {', '.join(sorted({x.work for x in lines(peers=True)}))}"
        )
    result: dict[str, Any] = {
        "python": platform.python_version(),
        "machine": platform.machine(),
        "cpus": os.cpu_count(),
    }
    if given.growth:
        result["growth"] = growth(given.rounds)
    else:
        found = rounds(todo, given.rounds, given.peers)
        result["medians"] = table(found)
        result["targets"] = judged(result["medians"])
        result["load"] = os.getloadavg()[0]
    if given.out:
        given.out.mkdir(parents=True, exist_ok=True)
        name = "growth" if given.growth else "results"
        (given.out / f"{name}.json").write_text(json.dumps(result, indent=1) + "\n")
        if not given.growth:
            (given.out / "results.svg").write_text(picture(result["medians"]))


if __name__ == "__main__":
    main()
