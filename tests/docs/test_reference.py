"""The pages of docs/reference are what the signatures and docstrings make of them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    done = subprocess.run(
        [sys.executable, str(DOCS / "make_reference.py"), str(folder)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return folder, done


def test_the_committed_pages_are_those_that_are_made_now(made):
    there = {page.name: page.read_text() for page in (DOCS / "reference").glob("*.md")}
    now = {page.name: page.read_text() for page in made[0].glob("*.md")}

    assert set(there) == set(now), "run `make reference`"
    assert [name for name in now if there[name] != now[name]] == [], "run `make reference` and read the diff"


def test_every_public_name_has_a_docstring(made):
    assert made[1].stderr == ""
