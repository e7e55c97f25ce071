"""The model holds within its bounds, and each of its mutants breaks what specs/ledger.md says."""

from __future__ import annotations

import re

import pytest

from model import configs, tlc

checked = pytest.mark.model


def named(rows, column):
    return [
        pytest.param(row, id=row[column], marks=[pytest.mark.long] if "(long)" in row[column] else []) for row in rows
    ]


# --- without Java: what the documents say fits together


def test_the_rows_of_the_model_are_the_tables(request):
    if request.config.getoption("--rewrite"):
        configs.rewrite_rows()
        return
    assert configs.rows_of_the_module() == configs.rows_of_the_document()


def test_every_promise_has_its_invariants_or_a_word_on_why_it_has_none():
    promises = re.findall(r"^## (\d+)\. ", (tlc.SPECS / "invariants.md").read_text(), re.MULTILINE)
    rows = configs.table("What it covers")

    assert [row["promise"] for row in rows] == promises
    for row in rows:
        number, said = row["promise"], row["invariants"]
        there = [name for name in configs.INVARIANTS if name.startswith(f"P{number}_")]
        assert said.split(", ") == there or (not there and said.startswith("none: ")), number


def test_every_switch_has_a_mutant_and_every_invariant_is_broken_by_one():
    assert {row["off"] for row in configs.MUTANTS} == set(configs.SWITCHES)
    assert {row["breaks"] for row in configs.MUTANTS} == set(configs.INVARIANTS)
    assert all(row["off"] not in configs.words(configs.LEVELS[configs.level_of(row)]["off"]) for row in configs.MUTANTS)


def test_what_a_mutant_breaks_is_promised_at_its_level_and_holds_in_wider_bounds():
    for row in configs.MUTANTS:
        level = configs.level_of(row)
        assert row["breaks"] in configs.promised(level), row["mutant"]
        wider = [
            good
            for good in configs.GOOD
            if configs.level_of(good) == level
            and "(long)" not in good["name"]
            and all(int(good[bound]) >= int(row[bound]) for bound in configs.BOUNDS)
        ]
        assert wider, row["mutant"]


def test_without_java_the_tests_are_skipped_here_and_fail_where_others_rely_on_them(monkeypatch):
    monkeypatch.setattr(tlc.shutil, "which", lambda name: None)
    monkeypatch.delenv("CI", raising=False)
    with pytest.raises(pytest.skip.Exception, match="needs Java"):
        tlc.need()
    monkeypatch.setenv("CI", "1")
    with pytest.raises(pytest.fail.Exception, match="needs Java"):
        tlc.need()


# --- with TLC


@checked
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("row", named(configs.GOOD, "name"))
def test_the_model_keeps_every_promise_of_its_level(row, tmp_path):
    tlc.need()
    answer = tlc.run(tmp_path, "ledger", configs.config(row, configs.promised(configs.level_of(row))), coverage=True)

    assert (answer.code, answer.broken) == (tlc.HOLDS, None), answer.output
    assert answer.states == int(row["states"].replace(",", ""))
    assert len(answer.taken) >= 13
    assert all(answer.taken.values()), {name for name, count in answer.taken.items() if not count}


@checked
@pytest.mark.parametrize("row", named(configs.MUTANTS, "mutant"))
def test_a_mutant_breaks_its_promise(row, tmp_path):
    tlc.need()
    answer = tlc.run(tmp_path, "ledger", configs.config(row, [row["breaks"]], [row["off"]]))

    step = row["breaks"] in configs.PROPERTIES
    assert answer.code == (tlc.BROKEN_BY_A_STEP if step else tlc.BROKEN), answer.output
    assert (answer.broken, answer.depth) == (row["breaks"], int(row["depth"]))
