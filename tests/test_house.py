"""The house: what an import costs, what the face shows, and what the wheel holds."""

from __future__ import annotations

import ast
import itertools
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pluperfect

ROOT = Path(__file__).parents[1]

SNAPSHOT = re.compile(r"\b(_rows|rows|inside)$")


def test_the_import_loads_nothing_heavy_and_opens_no_file_of_the_user(tmp_path):
    code = (
        "import sys\n"
        "opened = []\n"
        "sys.addaudithook(lambda event, args: opened.append(args[0]) if event == 'open' else None)\n"
        "import pluperfect\n"
        "pluperfect.flow, pluperfect.task, pluperfect.LOOP, pluperfect.open\n"
        "heavy = {'asyncio', 'click', 'rich', 'cloudpickle', 'lmdb', 'platformdirs'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
        "mine = [path for path in opened if str(path).startswith(sys.argv[1])]\n"
        "assert not mine, mine\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={"HOME": str(tmp_path), "PLUPERFECT_HOME": str(tmp_path)},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 0, done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_sync_program_never_loads_asyncio(tmp_path):
    code = (
        "import sys, pluperfect\n"
        "from pluperfect import flow, task\n"
        "@task(retries=1, timeout_seconds=9)\n"
        "def one(): return 1\n"
        "@flow\n"
        "def whole(): return one(), one.submit().result(), one.map\n"
        "with pluperfect.open('runs'): whole.with_options(persist_result=False)()\n"
        "assert 'asyncio' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_the_face_has_what_it_names_and_the_lazy_table_agrees_with_what_type_checkers_see():
    for name in pluperfect.__all__:
        assert getattr(pluperfect, name) is not None
    assert set(pluperfect._HOMES) == set(pluperfect.__all__)
    tree = ast.parse(Path(pluperfect.__file__).read_text())
    block = next(node for node in tree.body if isinstance(node, ast.If))
    seen = {alias.name: "." * part.level + (part.module or "") for part in block.body for alias in part.names}
    assert seen == pluperfect._HOMES


def test_the_wheel_holds_every_package_of_the_three_roots():
    packages = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["hatch"]["build"]["targets"]["wheel"][
        "packages"
    ]
    there = {
        f"{root}/{folder.name}"
        for root in ("statemachine", "store", "plugins")
        for folder in (ROOT / root).iterdir()
        if (folder / "__init__.py").exists()
    }

    assert set(packages) == there
    assert all((ROOT / package / "py.typed").exists() for package in packages)


def test_versions_agree():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]

    assert project["version"] == pluperfect.__version__
    assert f"## {project['version']}" in (ROOT / "CHANGELOG.md").read_text()


def test_no_file_speaks_of_a_machine():
    found = []
    for pattern in ("**/*.py", "**/*.md", "**/*.txt", "**/*.toml", "Makefile"):
        for file in ROOT.glob(pattern):
            parts = file.relative_to(ROOT).parts
            if parts[0].startswith(".") or "__pycache__" in parts or file.name == "test_house.py":
                continue
            text = file.read_text()
            found += [str(file) for word in ("/root/", "/home/", "/work/", "/opt/") if word in text]
    assert found == []


def test_no_lock_is_taken_in_a_step_of_its_own_before_the_block_that_lets_go_of_it():
    """The handler of a signal may raise between the two, and the lock stays taken; ``with`` leaves no room for that."""
    found = []
    for file in (file for root in ("statemachine", "store", "plugins") for file in (ROOT / root).rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            for name in ("body", "orelse", "finalbody"):
                block = getattr(node, name, None)
                steps = block if isinstance(block, list) else []
                for step, following in itertools.pairwise(steps):
                    if isinstance(following, ast.Try) and ast.unparse(step).endswith(".acquire()"):
                        found.append(f"{file.name}:{step.lineno}")
    assert found == []


def test_a_snapshot_of_the_store_lasts_for_a_block_and_nothing_is_yielded_in_it():
    """Who waits to be alone takes a reader whose block is on no stack for one that was interrupted on his way out."""
    found, blocks = [], 0
    for file in (ROOT / "store").rglob("*.py"):
        tree = ast.parse(file.read_text())
        taken = [
            node for node in ast.walk(tree) if isinstance(node, ast.Call) and SNAPSHOT.search(ast.unparse(node.func))
        ]
        held = [
            (item.context_expr, node) for node in ast.walk(tree) if isinstance(node, ast.With) for item in node.items
        ]
        for call in taken:
            block = next((node for expression, node in held if expression is call), None)
            blocks += block is not None
            if block is not None and any(isinstance(node, ast.Yield | ast.YieldFrom) for node in ast.walk(block)):
                found.append(f"{file.name}:{call.lineno} yields in it")
            elif block is None and file.name != "lmdb.py":  # which passes on what it gives
                found.append(f"{file.name}:{call.lineno} takes it without a block")
    assert found == []
    assert blocks > 20
