"""
Every example in the README and the guides runs as it is printed, and prints what is printed under it.

A block ``python`` may be followed by a block ``output`` (what it prints) or ``log`` (what it writes to stderr); in a
block ``console`` the lines after a command are what it prints. Times, durations and ids may differ.
A block under ``<!-- file: PATH -->`` is that file: it is put beside the program and is no part of it.
Where the last command of a block exits with a number, that stands above it: ``<!-- exits: 1 -->``.
``pytest --rewrite tests/docs`` writes those that are there anew: read the diff.
"""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(
    r"(?P<mark><!-- (?:skip|file|exits): [^>]*-->\n\n?)?^```(?P<language>\w+)\n(?P<code>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
STREAMS = ("output", "log")
VARIES = (
    (re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?Z?"), "TIME"),
    (re.compile(r"\b\d\d:\d\d:\d\d\.\d{3}\b"), "CLOCK"),
    (re.compile(r"\b[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b"), "ID"),
    (re.compile(r"\b([0-9a-f]{8}|[0-9a-f]{32})\b"), "ID"),
    (re.compile(r"\b\d+\.\d+(?= ?s\b)"), "N"),
    (re.compile(r'"(at|took|draw|elapsed|due)": [\d.]+'), "N"),
    (re.compile(r"\b\d+(\.\d)? (bytes|[KMG]iB)\b"), "SIZE"),
    (re.compile(r"(?<=\.py:)\d+"), "LINE"),
    (re.compile(r"─+"), "-"),
    (re.compile(r"[ \t]+"), " "),
)


def blocks(page):
    """The blocks of a page that are not skipped: line, language, code, mark, and where the code stands in the text."""
    text = page.read_text()
    for found in BLOCK.finditer(text):
        if not (found["mark"] or "").startswith("<!-- skip"):
            line = text[: found.start("code")].count("\n") + 1
            yield line, found["language"], found["code"], found["mark"] or "", found.span("code")


def shown_file(mark):
    """The file that a block under this mark is."""
    return ROOT / mark.removeprefix("<!-- file: ").split(" -->")[0]


def settled(text):
    """A text without what differs from one time to the next."""
    for pattern, word in VARIES:
        text = pattern.sub(word, text)
    return "\n".join(line.strip() for line in text.strip().splitlines())


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PLUPERFECT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    return tmp_path


def run(command, name, home, code=0):
    """What a command writes to stdout and stderr, without the folder that it runs in."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, f"{name}\n{done.stdout}\n{done.stderr}"
    return done.stdout.replace(f"{home}{os.sep}", ""), done.stderr.replace(f"{home}{os.sep}", "")


def compare(page, shown, rewrite):
    """Compare pairs of what a page shows, as (line, printed there, printed now, place), or write what is printed now."""
    if rewrite:
        text = page.read_text()
        for _, _, now, (start, end) in reversed(shown):
            text = text[:start] + now + text[end:]
        page.write_text(text)
        return
    for line, there, now, _ in shown:
        assert settled(there) == settled(now), f"{page.name}:{line} shows\n{there}\nand this is printed\n{now}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_blocks_of_a_page_run_in_order_and_then_its_commands(page, home, pytestconfig):
    rewrite = pytestconfig.getoption("--rewrite")
    cut = "=-= {} =-=\n"
    program, shown, last, lines = [], [], 0, 0
    for line, language, code, mark, place in blocks(page):
        if mark.startswith("<!-- file: "):
            file = shown_file(mark)
            (home / file.name).write_text(file.read_text())
        elif language == "python":
            last = line
            # The marker of the block before stands on the empty lines between the two.
            begin = (
                f"import sys; print({cut.format(line)!r}, end='', flush=True); sys.stderr.write({cut.format(line)!r})\n"
            )
            between = "\n" * (line - lines - 2) + begin
            program.append(between + code)
            lines = line - 1 + code.count("\n")
        elif language in STREAMS:
            shown.append((last, line, language, code, place))
    if program:
        script = home / f"{page.stem.replace('-', '_')}.py"
        script.write_text("".join(program))
        streams = dict(zip(STREAMS, run([sys.executable, str(script)], page.name, home), strict=True))
        compare(
            page,
            [
                (line, there, streams[name].partition(cut.format(last))[2].partition("=-= ")[0].rstrip() + "\n", place)
                for last, line, name, there, place in shown
            ],
            rewrite,
        )
    shown = []
    for line, language, code, mark, place in blocks(page):
        if language != "console":
            continue
        printed = ""
        commands = [text for text in code.splitlines() if text.startswith("$ ")]
        for command in commands:
            exits = int(mark.split()[2]) if mark.startswith("<!-- exits: ") and command is commands[-1] else 0
            told, _ = run(shlex.split(command[2:]), f"{page.name}: {command}", home, exits)
            printed += f"{command}\n" + "".join(f"{text.rstrip()}\n" for text in told.strip("\n").splitlines())
        if any(not text.startswith("$ ") for text in code.splitlines()):
            shown.append((line, code, printed, place))
    compare(page, shown, rewrite)


def test_a_block_that_shows_a_file_is_that_file():
    shown = 0
    for page in PAGES:
        for line, _, code, mark, _ in blocks(page):
            if mark.startswith("<!-- file: "):
                file = shown_file(mark)
                assert code.strip() in file.read_text(), f"{page.name}:{line} differs from {file.name}"
                shown += 1
    assert shown


def test_the_distribution_of_the_guide_to_rules_announces_its_plugin(home, monkeypatch):
    """What installing it does, but for the copying: its entry point is found beside its module."""
    example = ROOT / "examples" / "spending"
    project = tomllib.loads((example / "pyproject.toml").read_text())["project"]
    (home / "spending.py").write_text((example / "spending.py").read_text())
    info = home / f"{project['name']}-{project['version']}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = [f"{name} = {target}" for name, target in project["entry-points"]["pluperfect"].items()]
    (info / "entry_points.txt").write_text("\n".join(["[pluperfect]", *points, ""]))
    monkeypatch.setenv("PYTHONPATH", str(home))
    listed, _ = run(["pluperfect", "plugins"], "the plugins", home)

    assert listed.startswith("spending ")
    assert listed.splitlines()[0] in (ROOT / "docs" / "rules.md").read_text()


def anchors(page):
    """The headings of a page as links name them."""
    seen = []
    for heading in re.findall(
        r"^#+ (.+)$", re.sub(r"^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL), re.MULTILINE
    ):
        slug = re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-")
        seen.append(f"{slug}-{seen.count(slug)}" if slug in seen else slug)
    return seen


def test_every_link_leads_somewhere():
    for page in [*PAGES, *(ROOT / "docs" / "reference").glob("*.md")]:
        for target, anchor in re.findall(r"\]\(([^)#:]*)(?:#([^):]+))?\)", page.read_text()):
            there = page.parent / target if target else page
            assert there.exists(), f"{page.name} links to {target}"
            assert not anchor or anchor in anchors(there), f"{page.name} links to {target}#{anchor}"
