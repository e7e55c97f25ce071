"""Every example in the README and the guides runs as it is printed."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?P<mark><!-- (?:skip|file): [^>]*-->\n\n?)?^```(?P<language>\w+)\n(?P<code>.*?)^```$", re.MULTILINE | re.DOTALL
)


def blocks(page, language):
    for found in BLOCK.finditer(page.read_text()):
        if found["language"] == language and not (found["mark"] or "").startswith("<!-- skip"):
            yield page.read_text()[: found.start()].count("\n") + 2, found["code"], found["mark"] or ""


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLUPERFECT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run_in_order_and_then_its_commands(page, home):
    program = []
    for line, code, _ in blocks(page, "python"):
        program.append("\n" * (line - sum(part.count("\n") for part in program)) + code)
    if program:
        script = home / f"{page.stem}.py"
        script.write_text("".join(program))
        done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{page.name}: {done.stderr}"
    for _, code, _ in blocks(page, "console"):
        for line in code.splitlines():
            if line.startswith("$ "):
                done = subprocess.run(shlex.split(line[2:]), capture_output=True, text=True, check=False)
                assert done.returncode == 0, f"{page.name}: {line}\n{done.stderr}"


def test_a_block_that_shows_a_file_is_that_file():
    shown = 0
    for page in PAGES:
        for line, code, mark in blocks(page, "python"):
            if mark.startswith("<!-- file: "):
                file = ROOT / mark.removeprefix("<!-- file: ").split(" -->")[0]
                assert code.strip() in file.read_text(), f"{page.name}:{line} differs from {file.name}"
                shown += 1
    assert shown


def test_every_linked_file_is_there():
    for page in PAGES:
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"
