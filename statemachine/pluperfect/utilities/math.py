"""Random intervals that spread retries."""

from __future__ import annotations

import math
import random

__all__ = ["clamped_poisson_interval", "lower_clamp_multiple", "poisson_interval"]


def poisson_interval(average_interval: float, lower: float = 0, upper: float = 1) -> float:
    """
    An exponentially distributed interval.

    Args:
        average_interval: Its mean, in seconds.
        lower: The lowest quantile to draw from, 0 to 1.
        upper: The highest.
    """
    return -math.log(max(1 - random.uniform(lower, upper), 1e-10)) * average_interval  # noqa: S311 - nothing secret


def lower_clamp_multiple(k: float) -> float:
    """The lower clamp that keeps the median where an upper clamp at ``k`` times the mean would move it."""
    return math.log2(2**k / (2**k - 1)) if k < 50 else 0.0


def clamped_poisson_interval(average_interval: float, clamping_factor: float = 0.3) -> float:
    """
    An exponentially distributed interval, at most ``1 + clamping_factor`` times its mean, and long enough to keep the median.

    Args:
        average_interval: The mean, in seconds.
        clamping_factor: Above 0.

    Raises:
        ValueError: The factor is 0 or less.
    """
    if clamping_factor <= 0:
        raise ValueError("`clamping_factor` must be >= 0.")
    k = 1 + clamping_factor
    lower, upper = average_interval * lower_clamp_multiple(k), average_interval * k
    return max(lower, min(upper, poisson_interval(average_interval)))
