"""Every mutant of the corpus is caught with the right first divergence, and every neutral edit passes."""

from __future__ import annotations

import asyncio

import pytest
from corpus import HELPERS, MUTANTS, NEUTRAL, PROGRAMS, edited, load

import pluperfect


@pytest.fixture(scope="module")
def recorded(tmp_path_factory):
    """A log with one run of each program, and their ids."""
    folder = tmp_path_factory.mktemp("corpus")
    with pluperfect.open(f"lmdb:{folder / 'runs'}", entry_points=False) as log:
        found = {}
        for shape, source in PROGRAMS.items():
            program = load(source + HELPERS)
            made = program()
            if program.is_async:
                asyncio.run(made)
            found[shape] = log.run("program").id
        yield log, found


def named(edit):
    return f"{edit.shape}: {edit.kind}: {edit.old.strip()[:20]}"


@pytest.mark.parametrize("mutant", MUTANTS, ids=named)
def test_a_mutant_is_caught_where_it_parts_from_the_record(recorded, mutant):
    log, runs = recorded
    found = log.replay(runs[mutant.shape], load(edited(mutant)), bodies=mutant.bodies)

    assert found.outcome == "diverged"
    first = found.first
    assert (first.part, first.recorded.what[: len(mutant.recorded)], first.replayed.what[: len(mutant.replayed)]) == (
        mutant.part,
        mutant.recorded,
        mutant.replayed,
    )
    assert first.advice


@pytest.mark.parametrize("mutant", [mutant for mutant in MUTANTS if mutant.bodies], ids=named)
def test_a_changed_body_is_a_warning_where_bodies_are_not_called(recorded, mutant):
    log, runs = recorded
    found = log.replay(runs[mutant.shape], load(edited(mutant)))

    assert found.outcome == "same"
    assert any("body of task" in warning for warning in found.warnings)


@pytest.mark.parametrize("edit", NEUTRAL, ids=named)
@pytest.mark.parametrize("bodies", [False, True], ids=["answered", "bodies"])
def test_a_neutral_edit_passes(recorded, edit, bodies):
    log, runs = recorded
    found = log.replay(runs[edit.shape], load(edited(edit)), bodies=bodies)

    assert (found.outcome, found.first) == ("same", None)


def test_the_corpus_has_thirteen_kinds_and_each_shape():
    assert len({mutant.kind for mutant in MUTANTS}) >= 13
    assert {mutant.shape for mutant in MUTANTS} == {edit.shape for edit in NEUTRAL} == set(PROGRAMS)
