"""The pages that hold what one call cost when it was counted last."""

from __future__ import annotations

import json

ROOM = 1.1
"""How many times as much it may cost now."""


def recorded(page, build, work, now=None):
    """What a work cost with this build of Python, or None where that was never counted; ``now`` takes its place, and is written."""
    known = json.loads(page.read_text())
    if now is not None:
        known.setdefault(build, {})[work] = now
        page.write_text(json.dumps(known, indent=1, sort_keys=True) + "\n")
    return known.get(build, {}).get(work)
