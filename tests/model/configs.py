"""The tables of specs/ledger.md as configurations of TLC, and the rows of the table as TLA+."""

from __future__ import annotations

import re

from core import oracle
from model import tlc

DOCUMENT = (tlc.SPECS / "ledger.md").read_text()
MODULE = (tlc.SPECS / "ledger.tla").read_text()

BOUNDS = ("processes", "children", "records", "attempts", "terms", "faults", "queue")
FEW = ("Pending", "Running", "Retrying", "Completed")
PROPERTIES = {"P2_DurableStays"}  # about steps, not about states


def table(title):
    """The rows of the table under a heading, by the names of the columns."""
    section = DOCUMENT.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    head, _, *rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [dict(zip(head, row, strict=True)) for row in rows]


def words(cell):
    return [word for word in re.split(r"[\s,`]+", cell) if word]


SWITCHES = re.findall(r"^    (\w+),? +\\\*", MODULE.split("CONSTANTS")[2].split("\\* BEGIN ROWS")[0], re.MULTILINE)
INVARIANTS = re.findall(r"^(P\d_\w+) ==", MODULE, re.MULTILINE)
LEVELS = {words(row["level"])[0]: row for row in table("Levels")}
GOOD = table("What holds")
MUTANTS = table("What must not hold")


def promised(level):
    """The invariants of a level."""
    row = LEVELS[level]
    weaker = {name for other in LEVELS.values() for name in words(other["instead"])}
    return [
        name
        for name in INVARIANTS
        if name in words(row["instead"]) or (name not in weaker and name not in words(row["not promised"]))
    ]


def level_of(row):
    return words(row["level"])[0]


def config(row, invariants, off=()):
    """A configuration: the bounds of a row, some switches off, and what has to hold."""
    level = level_of(row)
    down = {*words(LEVELS[level]["off"]), *off}
    assert down <= set(SWITCHES)
    names = ", ".join(f"p{n}" for n in range(1, int(row["processes"]) + 1))
    used = FEW if row.get("proposed", "few") == "few" else sorted(oracle.KINDS)
    states = [name for name in invariants if name not in PROPERTIES]
    steps = [name for name in invariants if name in PROPERTIES]
    return "\n".join(
        [
            "SPECIFICATION Spec",
            "SYMMETRY Symmetry",
            "CONSTANTS",
            f"    Procs = {{{names}}}",
            f"    Children = {row['children']}",
            f"    MaxRecords = {row['records']}",
            f"    MaxAttempts = {row['attempts']}",
            f"    MaxTerm = {row['terms']}",
            f"    MaxFaults = {row['faults']}",
            f"    MaxQueue = {row['queue']}",
            f"    Used = {quoted(used)}",
            *(f"    {name} = {str(name not in down).upper()}" for name in SWITCHES),
            *(f"INVARIANT {name}" for name in states),
            *(f"PROPERTY {name}" for name in steps),
            "",
        ]
    )


def quoted(names):
    return "{" + ", ".join(f'"{name}"' for name in names) + "}"


# --- the table

BEGIN = "\\* BEGIN ROWS, from transitions.md; the tests compare them, and write them anew with --rewrite\n"
END = "\\* END ROWS\n"


def rows_of_the_document():
    """What stands between BEGIN and END."""
    rows = [(start, end) for start, end, _ in oracle.rows("Rows")]
    lines = ",\n".join(f'    <<"{start}", "{end}">>' for start, end in rows)
    return f"Rows == {{\n{lines}\n}}\nFinal == {quoted(sorted(oracle.FINAL))}\n"


def rows_of_the_module():
    return MODULE.split(BEGIN)[1].split(END)[0]


def rewrite_rows():
    before, rest = MODULE.split(BEGIN)
    after = rest.split(END)[1]
    (tlc.SPECS / "ledger.tla").write_text(before + BEGIN + rows_of_the_document() + END + after)
