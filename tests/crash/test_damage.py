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


def judged(folder, seed, data, damages):
    said = intact(folder, data)
    results = spread(damage.struck, [(data, said, damages[share::WORKERS]) for share in range(WORKERS)])
    kinds, wrong = Counter(), []
    for one, (how, what) in results:
        kind = "died of a signal" if how == "died" else what[0]
        kinds[kind] += 1
        # Only a damaged meta page may take a store back: LMDB then goes by the other one, of the commit before.
        in_meta = min(damage.pages(*one)) < 2
        if how == "raised" or what == "SIGALRM" or kind in ("silent", "unclear") or (kind == "older" and not in_meta):
            wrong.append((one, how, what))
    told = ", ".join(f"{number} {kind}" for kind, number in sorted(kinds.items()))
    print(f"damage: seed {seed}, {len(results)} damages to {len(data)} bytes, {told}")
    assert not wrong, "\n".join(map(str, wrong[:20]))
    assert len(results) == len(damages)
    assert kinds["refused"]
    assert kinds["named"]


def test_damage_is_refused_or_named_or_harmless_and_never_read_as_true(tmp_path, seed):
    data = damage.make(tmp_path, seed(1))

    judged(tmp_path, seed(1), data, damage.some(data, seed(1), 150))


@pytest.mark.long
@pytest.mark.timeout(600)
def test_damage_in_thousands_of_places_is_never_read_as_true(tmp_path, seed):
    data = damage.make(tmp_path, seed(2))

    judged(tmp_path, seed(2), data, damage.all_of_meta() + damage.every_page(data) + damage.some(data, seed(2), 2500))
