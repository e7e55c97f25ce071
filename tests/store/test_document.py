"""The document of the store and its tests speak of the same promises, tables and heads."""

from __future__ import annotations

import re
from pathlib import Path

from pluperfect.hooks import Cell, Head
from pluperfect_store import layout
from pluperfect_store.conformance import LogConformance

DOCUMENT = (Path(__file__).parents[2] / "specs" / "store.md").read_text()


def test_every_promise_has_a_test_that_quotes_its_number_and_no_test_quotes_another():
    promised = {int(number) for number in re.findall(r"^(\d+)\. \*\*", DOCUMENT, re.MULTILINE)}
    tests = [getattr(LogConformance, name) for name in vars(LogConformance) if name.startswith("test_")]
    quoted = {int(re.match(r"(\d+)\. ", test.__doc__)[1]) for test in tests}

    assert promised == quoted == set(range(1, len(promised) + 1))


def test_the_tables_are_those_of_the_layout():
    assert re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE) == list(layout.TABLES)
    for name, kind in (("head", Head), ("cache", Cell)):
        fields = re.search(rf"^\| `{name}` \|.*\| array: (.*) \|$", DOCUMENT, re.MULTILINE)[1]
        assert fields.split(", ") == list(kind.__struct_fields__)
