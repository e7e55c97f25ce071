"""The files of a new rule: the rule itself, its tests, and the project that announces it."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Collection
from importlib.util import find_spec
from pathlib import Path

from msgspec import Struct

__all__ = ["Made", "write"]

PROJECT = """\
[project]
name = "{name}"
version = "0.1.0"
description = "A rule for pluperfect."
requires-python = ">=3.11"
dependencies = ["pluperfect"]

[project.entry-points.pluperfect]
{name} = "{module}:{klass}"

[build-system]
requires = ["setuptools>=61"]
build-backend = "setuptools.build_meta"

[tool.setuptools]
py-modules = ["{module}"]

[tool.pytest.ini_options]
testpaths = ["test_{module}.py"]
pythonpath = ["."]
"""

RULE = '''\
"""{title}: a task with the tag `{tag}` may be begun {most} times in an iteration, and no more."""

from pluperfect import Verdict, hookimpl


class {klass}:
    """Refuse what goes too far. Write here what yours is for."""

    name = "{name}"  # stands in the record beside what it decides
    tag = "{tag}"
    most = {most}

    @hookimpl
    def review(self, run, proposal, definition):
        # Look at what is proposed first: at its birth a run has no `birth` yet.
        if not proposal.to.is_running() or self.tag not in run.birth.tags:
            return None  # no opinion
        if proposal.to.attempt > self.most:
            return Verdict(refuse=f"{{self.most}} attempts are enough")
        return None
'''

TESTS = '''\
from {module} import {klass}

import pluperfect
from pluperfect import Running, task
from pluperfect.errors import Refused
from pluperfect.testing import FakeClock
from pluperfect.testing.rules import RuleConformance, ask, retrying


class Test{klass}(RuleConformance):
    """What every rule has to hold: it never raises, is pure, and its answers can be recorded."""

    rule = {klass}()
    speaks = (retrying(tags=["{tag}"], attempt={most}), Running(attempt={most} + 1))


def test_the_last_attempt_is_made():
    assert ask({klass}(), retrying(tags=["{tag}"], attempt={most} - 1), Running(attempt={most})) is None


def test_one_more_is_refused():
    verdict = ask({klass}(), retrying(tags=["{tag}"], attempt={most}), Running(attempt={most} + 1))
    assert verdict.refuse == "{most} attempts are enough"


def test_other_tasks_are_left_alone():
    assert ask({klass}(), retrying(attempt=9), Running(attempt=10)) is None


def test_in_a_run():
    @task(tags=["{tag}"], retries=5)
    def always_busy():
        raise ConnectionError("busy")

    with pluperfect.open("memory:", plugins=[{klass}()], entry_points=False, clock=FakeClock()) as log:
        try:
            always_busy()
        except Refused as error:
            assert "{most} attempts are enough" in str(error)
        assert log.runs()[0].folded.attempt == {most}
'''


class Made(Struct, frozen=True):
    """What was written."""

    folder: Path
    module: str
    files: tuple[Path, ...]


def write(name: str, into: Path, taken: Collection[str] = ()) -> Made:
    """
    Write the files of a new rule.

    Args:
        name: Small letters, digits and hyphens; the folder, the plugin and, with underscores, the module are called so.
        into: Where the folder is made.
        taken: What plugins are called already.

    Raises:
        ValueError: Nothing can have this name.
        FileExistsError: The folder is there already.
    """
    plain = name.replace("_", "-")
    module = plain.replace("-", "_")
    if keyword.iskeyword(module):
        raise ValueError(f"{name!r} is a word of Python's, and no module can have it as its name. Choose another one.")
    if not re.fullmatch(r"[a-z][a-z0-9]*(-[a-z0-9]+)*", plain):
        raise ValueError(
            f"{name!r} cannot be the name of a rule: small letters, digits and hyphens between them, as in no-fridays."
        )
    if plain in taken:
        raise ValueError(f"There is a plugin {plain!r} already, and two cannot have one name. Choose another one.")
    there = find_spec(module)  # one without an origin is a mere folder in a place that Python imports from
    hidden = there is not None and there.origin is not None and not (into / plain).exists()
    if module in sys.stdlib_module_names or hidden:
        raise ValueError(f"There is a module {module!r} already, which this one would hide. Choose another name.")
    folder = into / plain
    if folder.exists():
        raise FileExistsError(f"{folder} is there already; nothing was written. Choose another name, or remove it.")
    klass = "".join(part.capitalize() for part in plain.split("-"))
    words = {
        "name": plain,
        "module": module,
        "klass": klass,
        "title": plain.replace("-", " ").capitalize(),
        "tag": "costly",
        "most": 2,
    }
    folder.mkdir(parents=True)
    files: list[Path] = []
    for file, text in (("pyproject.toml", PROJECT), (f"{module}.py", RULE), (f"test_{module}.py", TESTS)):
        path = folder / file
        path.write_text(text.format(**words), encoding="utf-8")
        files.append(path)
    return Made(folder, module, tuple(files))
