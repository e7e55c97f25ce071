"""Power loss at any moment: every image that the disk could hold opens, and has all that was acknowledged."""

from __future__ import annotations

import itertools
import random
from collections import Counter

import pytest

import checkers
from crash import oracle, power
from crash.children import WORKERS, spread
from pluperfect_store.lmdb import LmdbLog


def judged(shim, folder, seed, rounds, wanted, control="sound"):
    """
    Judge so many images; counts by verdict, an example of each, and a line that says all.

    How many images a run of the workload has hangs on how many appends met in one commit. So it is run until there are
    enough, each time with the next seed, and the last run gives a sample of its images.
    """
    counts, examples, records = Counter(), {}, 0
    for each in itertools.count(seed):
        full, results = judged_run(shim, folder / f"{each}", each, rounds, wanted - counts.total(), control)
        records += len(full)
        for image, (how, what) in results:
            kind = (
                "died"
                if how == "died"
                else "refused"
                if how == "raised"
                else "sound"
                if what is None
                else what.split(":")[0]
            )
            counts[kind] += 1
            examples.setdefault(kind, (image, what))
        if counts.total() == wanted:
            break
    told = ", ".join(f"{number} {kind}" for kind, number in sorted(counts.items()))
    title = "power loss" if control == "sound" else f"control {control}"
    print(f"{title}: seed {seed}, {wanted} images of {records} records, {told}")
    return counts, examples


def judged_run(shim, folder, seed, rounds, most, control):
    """Run the workload once, and judge at most so many of its images: its records, and what became of each image."""
    folder.mkdir()
    path, runs = folder / "trace", folder / "runs"
    trace = power.record(shim, path, "workloads", "power", runs, seed, rounds, control)
    log = LmdbLog(runs)
    checkers.check(log)
    log.close()
    full = oracle.read(runs)
    images = power.plan(trace, full, seed)
    if len(images) > most:
        images = sorted(random.Random(seed).sample(images, most), key=lambda image: image.moment)
    results = spread(power.images, [(path, full, images[share::WORKERS]) for share in range(WORKERS)])
    assert len(results) == len(images) > 0
    return full, results


def test_any_image_that_power_loss_may_leave_is_sound_and_has_all_that_was_acknowledged(shim, tmp_path, seed):
    counts, examples = judged(shim, tmp_path, seed(1), 1, 150)

    assert set(counts) == {"sound"}, examples


@pytest.mark.long
@pytest.mark.timeout(600)
def test_thousands_of_images_that_power_loss_may_leave_are_sound_and_have_all_that_was_acknowledged(
    shim, tmp_path, seed
):
    counts, examples = judged(shim, tmp_path, seed(2), 2, 2600)

    assert set(counts) == {"sound"}, examples


def metasync_off_loses(shim, folder, seed, rounds, wanted):
    counts, examples = judged(shim, folder, seed, rounds, wanted, "metasync off")

    assert set(counts) == {"sound", "lost"}, examples


def sync_off_destroys(shim, folder, seed, rounds, wanted):
    counts, _ = judged(shim, folder, seed, rounds, wanted, "sync off")

    assert counts["died"] + counts["damaged"] + counts["refused"] > 0
    assert counts["lost"] > 0


def test_control_without_synced_meta_pages_acknowledged_records_get_lost(shim, tmp_path, seed):
    metasync_off_loses(shim, tmp_path, seed(1), 1, 60)


def test_control_without_syncs_files_get_damaged(shim, tmp_path, seed):
    sync_off_destroys(shim, tmp_path, seed(1), 1, 60)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_control_without_synced_meta_pages_acknowledged_records_get_lost_many_times(shim, tmp_path, seed):
    metasync_off_loses(shim, tmp_path, seed(2), 1, 400)


@pytest.mark.long
@pytest.mark.timeout(600)
def test_control_without_syncs_files_get_damaged_many_times(shim, tmp_path, seed):
    sync_off_destroys(shim, tmp_path, seed(2), 1, 400)
