"""The table as the document has it: what the tests judge the code by."""

from __future__ import annotations

import re
from pathlib import Path

from pluperfect import states

DOCUMENT = (Path(__file__).parents[2] / "specs" / "transitions.md").read_text()


def rows(title):
    """The cells of the table under a heading."""
    section = DOCUMENT.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


LEGAL = {(start, end) for start, end, _ in rows("Rows")}
KINDS = {name: (int(code), final == "yes") for name, code, final, _ in rows("States")}
FINAL = {name for name, (_, final) in KINDS.items() if final}
CLASSES = {name: getattr(states, name) for name in KINDS}
CAUSES = re.findall(r"`(\w+)`", DOCUMENT.split("Failed has one of the causes")[1].split(".")[0])
PAIRS = {(start, end) for start in ["nothing", *KINDS] for end in KINDS}


def kind_of(state):
    return "nothing" if state is None else state.kind
