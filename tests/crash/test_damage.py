"""Damaged files: whatever byte or page changes, nothing else is read as if it were true, and no reader hangs."""

from __future__ import annotations

from collections import Counter

import pytest

from crash import damage, oracle
from crash.children import WORKERS, spread
from pluperfect_store.lmdb import LmdbLog


def intact(folder, data):
    """What the undamaged store says."""
    (folder / "intact").mkdir()
    (folder / "intact" / "data.mdb").write_bytes(data)
    log = LmdbLog(folder / "intact")
    assert oracle.findings(log) == []
    said = oracle.content(log)
    log.close()
    return said


def struck(folder, data, damages, means):
    """The outcomes by kind, and all outcomes."""
    said = intact(folder, data)
    results = spread(damage.struck, [(data, said, damages[share::WORKERS], means) for share in range(WORKERS)])
    assert len(results) == len(damages)
    return Counter("died of a signal" if how == "died" else what[0] for _, (how, what) in results), results


def counted(kinds):
    return ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))


def judged(folder, seed, data, damages):
    kinds, results = struck(folder, data, damages, "findings")
    print(f"damage: seed {seed}, {len(results)} damages to {len(data)} bytes, {counted(kinds)}, 0 silent")
    wrong = []
    for one, (how, what) in results:
        # Only a damaged meta page may take a store back: LMDB then goes by the other one, of the commit before.
        older = what[0] == "older" and min(damage.pages(*one)) >= 2
        if how == "raised" or what == "SIGALRM" or what[0] in ("silent", "unclear") or older:
            wrong.append((one, how, what))
    assert not wrong, "\n".join(map(str, wrong[:20]))
    assert kinds["refused"]
    assert kinds["named"]


def test_damage_is_refused_or_named_or_harmless_and_never_read_as_true(tmp_path, seed):
    data = damage.make(tmp_path, seed(1))

    judged(tmp_path, seed(1), data, damage.some(data, seed(1), 150))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_damage_in_thousands_of_places_is_never_read_as_true(tmp_path, seed):
    data = damage.make(tmp_path, seed(2))

    judged(tmp_path, seed(2), data, damage.all_of_meta() + damage.every_page(data) + damage.some(data, seed(2), 1500))


def test_control_whoever_does_not_look_reads_something_else_as_true(tmp_path, seed):
    data = damage.make(tmp_path, seed(1))
    damages = [one for one in damage.some(data, seed(1), 150) if one[0] == "flip"]

    kinds, results = struck(tmp_path, data, damages, "nothing")
    print(f"control no look at damage: seed {seed(1)}, {len(results)} damages, {counted(kinds)}")
    assert kinds["silent"]
