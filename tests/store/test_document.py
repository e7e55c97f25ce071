"""The document of the store and its tests speak of the same promises, tables and heads."""

from __future__ import annotations

import ast
import inspect
import re
from pathlib import Path

from pluperfect.hooks import Cell, Head
from pluperfect_store import layout
from pluperfect_store.conformance import LogConformance

DOCUMENT = (Path(__file__).parents[2] / "specs" / "store.md").read_text()


def quoted(classes_and_functions):
    """The numbers that these tests begin their docstrings with."""
    docs = [ast.get_docstring(node) or "" for node in classes_and_functions if node.name.startswith("test_")]
    return [int(found[1]) if (found := re.match(r"(\d+)\. ", doc)) else None for doc in docs]


def functions(path):
    return [node for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.FunctionDef)]


def promised(title):
    section = DOCUMENT.split(f"### {title}\n")[1].split("\n#")[0]
    return [int(number) for number in re.findall(r"^(\d+)\. \*\*", section, re.MULTILINE)]


def test_every_promise_has_a_test_that_quotes_its_number_and_no_test_quotes_another():
    """
    Of those of every log each conformance test quotes one; of those of the file the tests beside this one do, and of those
    of its care the tests of the care.
    """
    general, special = promised("Of every log"), promised("Of the file")
    evidence, care = promised("Of the evidence, of every log"), promised("Of its care")
    conformance = quoted(functions(Path(inspect.getfile(LogConformance))))
    beside = {number for path in Path(__file__).parent.glob("test_*.py") for number in quoted(functions(path))}

    of_care = {
        number for path in Path(__file__).parent.parent.glob("care/test_*.py") for number in quoted(functions(path))
    }

    assert general + special + evidence + care == [*range(1, len(general + special + evidence + care) + 1)]
    assert set(care) <= of_care - {None} <= {*special, *care}
    assert set(conformance) == {*general, *evidence}
    assert set(special) <= beside - {None} <= {*general, *special}


def test_the_tables_are_those_of_the_layout():
    assert re.findall(r"^\| `(\w+)` \|", DOCUMENT, re.MULTILINE) == list(layout.TABLES)
    for name, kind in (("head", Head), ("cache", Cell)):
        fields = re.search(rf"^\| `{name}` \|.*\| array: (.*) \|$", DOCUMENT, re.MULTILINE)[1]
        assert fields.split(", ") == list(kind.__struct_fields__)
