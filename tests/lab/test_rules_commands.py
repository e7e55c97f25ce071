"""``pluperfect rules``: what it prints, what it exits with, and what it says to those who ask wrongly."""

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from click.testing import CliRunner

import pluperfect
from pluperfect import task
from pluperfect.authoring.cli import main
from pluperfect.runtime import task_run
from pluperfect_plugins.skeleton import write

RULES = """
import time
from pluperfect import Verdict, hookimpl

class Once:
    @hookimpl
    def review(self, run, proposal):
        if proposal.to.is_running() and proposal.to.attempt > 1:
            return Verdict(refuse="one attempt is enough")
        return None

class Clocked:
    @hookimpl
    def review(self, run, proposal):
        return Verdict(refuse="late") if time.time() > 1e12 else None

class Careless:
    @hookimpl
    def review(self, run, proposal):
        return Verdict(refuse="no") if "deploy" in run.birth.tags else None

class NoRule:
    @hookimpl
    def during(self, run, definition):
        return None

number = 3
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a store and some rules, which one stands in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    (tmp_path / "house_rules.py").write_text(RULES)
    (tmp_path / "broken_rules.py").write_text("1 / 0\n")
    (tmp_path / "needy_rules.py").write_text("import pluperfect_no_such_thing\n")

    @task(retries=1)
    def shaky():
        if task_run.run_count == 1:
            raise OSError("busy")

    with pluperfect.open("runs", entry_points=False):
        for _ in range(3):
            shaky()
        task(lambda: 1, name="calm")()
    yield tmp_path
    for name in ("house_rules", "broken_rules", "needy_rules"):
        sys.modules.pop(name, None)


def ask(*words, store="runs"):
    return CliRunner().invoke(main, [*(["--store", store] if store else []), "rules", *words])


def test_try_lists_what_would_have_gone_otherwise_and_counts_it(place):
    done = ask("try", "house_rules:Once")
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert len(lines) == 4
    assert lines[0].endswith(
        "entry 4: Retrying -> Running: recorded Running attempt 2, now refused by once: one attempt is enough"
    )
    assert lines[-1] == "3 of 18 proposals would have gone otherwise, in 3 of 4 runs."


def test_try_without_a_rule_asks_those_that_are_here(place):
    done = ask("try", "--check")
    assert (done.exit_code, done.output) == (0, "All 18 proposals of 4 runs would have gone as they went.\n")


def test_try_has_filters_a_limit_json_and_an_exit_code_for_checks(place):
    assert ask("try", "house_rules:Once", "--check").exit_code == 1
    assert "and 2 more" in ask("try", "house_rules:Once", "--limit", "1").output
    assert ask("try", "house_rules:Once", "--name", "calm").output.startswith("All 3 proposals of 1 runs")
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).date().isoformat()
    assert ask("try", "house_rules:Once", "--since", tomorrow).output.startswith("All 0 proposals")
    assert "3 of 18" in ask("try", "house_rules:Once", "--since", "2h").output
    assert "3 of 18" in ask("try", "house_rules:Once", "--among").output
    told = json.loads(ask("try", "house_rules.py:Once", "--json").stdout)
    assert (told["judged"], told["differing"], len(told["otherwise"])) == (18, 3, 3)
    assert told["otherwise"][0]["before"] == "Retrying"
    assert told["otherwise"][0]["first"] is True


@pytest.mark.parametrize(
    ("words", "code", "says"),
    [
        (["try", "no_such_module:Rule"], 2, "There is no module 'no_such_module'"),
        (["try", "no_such_file.py:Rule"], 2, "There is no file"),
        (["try", "broken_rules:Rule"], 2, "broken_rules cannot be imported: ZeroDivisionError: division by zero ("),
        (["try", "needy_rules"], 2, "it needs 'pluperfect_no_such_thing', which is not installed"),
        (["try", "house_rules:Onze"], 2, "has no rule 'Onze'. Did you mean 'Once'?"),
        (["try", "house_rules"], 2, "house_rules has 3 rules: say which, house_rules:Once"),
        (["try", "house_rules:NoRule"], 2, "it implements during, and no `review`"),
        (["try", "house_rules:number"], 2, "3 is no rule"),
        (["try", "house_rules:Once", "--state", "complete"], 2, "Did you mean 'completed'?"),
        (["try", "house_rules:Once", "--since", "Tuesday"], 2, "'Tuesday' is no time. Give 2026-11-20"),
        (["try", "house_rules:Clocked"], 1, "Rule 'clocked' is not pure: "),
        (["explain", "Running", "Pending"], 2, "is not in the table"),
        (["explain", "Runing", "Failed"], 2, "There is no state 'Runing'. There are: nothing, Pending"),
        (["check", "house_rules:Onze"], 2, "Did you mean 'Once'?"),
        (["new", "No Fridays"], 2, "cannot be the name of a rule"),
        (["new", "json"], 2, "There is a module 'json' already"),
    ],
    ids=lambda given: " ".join(given) if isinstance(given, list) else "",
)
def test_who_asks_wrongly_is_told_what_was_wrong_and_what_there_is(place, words, code, says):
    done = ask(*words)
    assert says in " ".join(done.output.split()), done.output
    assert done.exit_code == code
    assert "Traceback" not in done.output


def test_the_line_that_makes_a_rule_impure_is_named(place):
    line = RULES.splitlines().index('        return Verdict(refuse="late") if time.time() > 1e12 else None') + 1
    assert (
        f"{place / 'house_rules.py'}:{line} tries to read the clock (time.time)"
        in ask("try", "house_rules:Clocked").output
    )


def test_check_finds_what_is_wrong_and_says_what_to_do(place):
    assert ask("check", "house_rules:Once", store=None).exit_code == 0
    done = ask("check", "house_rules:Careless", "house_rules:Clocked", store=None)
    assert done.exit_code == 1
    assert [line.partition(":")[0] for line in done.output.splitlines()] == ["raises", "impure"]
    assert "Look at proposal.to before run.birth" in done.output
    found = json.loads(ask("check", "house_rules:Careless", "--json", store=None).stdout)
    assert [(one["rule"], one["kind"]) for one in found] == [("careless", "raises")]
    assert ask("check", store=None).output == "Nothing is wrong, as far as probes show it.\n"


def test_explain_shows_the_order_and_who_decides(place):
    done = ask("explain", "retrying", "running", "--rule", "house_rules:Once", store=None)
    assert done.exit_code == 0, done.output
    lines = done.output.splitlines()
    assert lines[0].startswith("Retrying -> Running   The engine proposes it; rules are asked in this order")
    assert [line.split()[1] for line in lines[1:5]] == ["once", "classic", "retries", "caching"]
    assert "refuses: one attempt is enough" in lines[1]
    assert lines[5].startswith("First to speak: once (")
    told = json.loads(ask("explain", "pending", "cached", "--json", store=None).stdout)
    assert told["proposed"] is False
    assert told["made_of"] == {"caching": ["Running"]}


def test_looking_at_rules_opens_no_store(place, monkeypatch):
    home = place / "elsewhere"
    monkeypatch.setenv("PLUPERFECT_HOME", str(home))
    assert ask("explain", "pending", "running", store=None).exit_code == 0
    assert ask("check", store=None).exit_code == 0
    assert not home.exists()


# --- a new rule -----------------------------------------------------------------------------------------


def test_a_new_rule_is_written_and_its_tests_pass_as_they_are(place):
    done = ask("new", "at-most-twice", store=None)
    assert done.exit_code == 0, done.output
    folder = place / "at-most-twice"
    assert sorted(path.name for path in folder.iterdir()) == [
        "at_most_twice.py",
        "pyproject.toml",
        "test_at_most_twice.py",
    ]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:randomly", str(folder)],
        cwd=place,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONDONTWRITEBYTECODE": "1"},
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert "10 passed" in ran.stdout
    assert ask("check", "at-most-twice/at_most_twice.py", store=None).exit_code == 0
    assert "All 18 proposals" in ask("try", "at-most-twice/at_most_twice.py").output


def test_a_new_rule_is_found_by_its_entry_point(place, monkeypatch):
    """What installing it does, but for the copying."""
    import tomllib

    made = write("no-mondays", place)
    project = tomllib.loads((made.folder / "pyproject.toml").read_text())["project"]
    info = made.folder / "no_mondays-0.1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n")
    points = "".join(f"{name} = {where}\n" for name, where in project["entry-points"]["pluperfect"].items())
    (info / "entry_points.txt").write_text(f"[pluperfect]\n{points}")
    ran = subprocess.run(
        [sys.executable, "-m", "pluperfect", "plugins"],
        env={**os.environ, "PYTHONPATH": str(made.folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    assert "no-mondays" in ran.stdout
    assert "entry point" in ran.stdout.partition("no-mondays")[2].splitlines()[0]


def test_what_is_there_already_is_not_touched(place, monkeypatch):
    monkeypatch.syspath_prepend(str(place))  # a folder there is no module
    (place / "mine").mkdir()
    done = ask("new", "mine", store=None)
    assert done.exit_code == 2
    assert "is there already" in done.output
    assert list((place / "mine").iterdir()) == []
    assert ask("new", "mine", "--into", "sub", store=None).exit_code == 0
    assert (Path("sub") / "mine" / "mine.py").exists()


@pytest.mark.parametrize(
    ("name", "why"), [("retries", "There is a plugin 'retries' already"), ("class", "a word of Python's")]
)
def test_a_name_that_could_not_be_used_is_refused_before_anything_is_written(place, name, why):
    done = ask("new", name, store=None)
    assert done.exit_code == 2
    assert why in done.output
    assert not (place / name).exists()
