"""Waiting for what another thread or process brings about."""

from __future__ import annotations

import time


def until(true, *, seconds=20.0):
    """Wait until this is true; it fails where it is not after so long."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "this never came true"
        time.sleep(0.005)
