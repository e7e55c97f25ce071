"""Retries: an attempt that failed becomes Retrying, while the budget of its iteration lasts."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, cast

from pluperfect.hooks import Definition, Option, hookimpl
from pluperfect.rules import Proposal, Verdict, draw
from pluperfect.states import Failed, Retrying, Running, State, TimedOut
from pluperfect.transitions import Run

__all__ = ["jittered", "options", "review"]

MOST: Final = 50
"""Delays in a list at most."""

_WORTH: Final = frozenset({"error", "returned"})
"""The causes of Failed that another attempt may mend."""

_WORTH_IN_FLOWS: Final = _WORTH | {"children"}
"""A flow that fails through its calls makes those that failed anew, and is answered with the others."""


def _count(value: Any) -> int:
    if value is None:  # as Prefect's own signature has it
        return 0
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"retries is a whole number, not {value!r}.")
    if value < 0:
        raise ValueError(f"retries must be 0 or more, not {value!r}.")
    return value


def _seconds(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"retry_delay_seconds is made of numbers of seconds, not {value!r}.")
    if not 0 <= value < math.inf:
        raise ValueError(f"retry_delay_seconds must be 0 or more, and finite, not {value!r}.")
    return float(value)


def _delay(value: Any) -> Any:
    if value is None or callable(value):
        return value
    if isinstance(value, Iterable) and not isinstance(value, str | bytes | Mapping):
        listed = [_seconds(item) for item in cast("Iterable[Any]", value)]
        if len(listed) > MOST:
            raise ValueError(
                f"Can not configure more than {MOST} retry delays; retry_delay_seconds lists {len(listed)}. The last one repeats."
            )
        return tuple(listed)
    return _seconds(value)


def _factor(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"retry_jitter_factor is a number or None, not {value!r}.")
    if not 0 <= value < math.inf:
        raise ValueError(f"`retry_jitter_factor` must be >= 0, and finite, not {value!r}.")
    return float(value)


def _condition(value: Any) -> Callable[..., Any] | None:
    if value is not None and not callable(value):
        raise TypeError(f"retry_condition_fn is called with (task, task_run, state); {value!r} is not callable.")
    return value


@hookimpl
def options(kind: str) -> Sequence[Option]:
    """The options of retrying; for flows and tasks alike."""
    return [
        Option("retries", 0, "attempts after the first", _count, wakes=True, setting=f"{kind}s_default_retries"),
        Option(
            "retry_delay_seconds",
            None,
            "a number, a list, or a callable that is given the retries",
            _delay,
            setting=f"{kind}s_default_retry_delay_seconds",
            complete=_asked_now,
            plain=_answered,
        ),
        Option("retry_jitter_factor", None, "how far a delay may be stretched", _factor),
        Option("retry_condition_fn", None, "asked with (task, task_run, state) whether to retry", _condition),
    ]


_asked: Final[dict[tuple[int, int], tuple[Any, Any]]] = {}


def delays(given: Any, retries: int) -> Any:
    """The delays as a number or a list: a callable is asked once for each number of retries."""
    if not callable(given):
        return given
    known = _asked.get((id(given), retries))
    if known is None or known[0] is not given:
        if len(_asked) > 4096:  # functions made by the thousand: begin anew rather than keep them all
            _asked.clear()
        known = _asked[id(given), retries] = (given, _delay(given(retries)))
    return known[1]


def _asked_now(value: Any, given: Mapping[str, Any]) -> Any:
    """Ask a callable where it is given, so that it is found out there if its delays are bad."""
    delays(value, int(given.get("retries") or 0))
    return value


def _answered(value: Any, options: Mapping[str, Any]) -> Any:
    """What a callable gave, which is what the rule goes by."""
    return delays(value, int(options.get("retries") or 0))


def base_delay(given: Any, retries: int, spent: int) -> float:
    """The delay before retry number ``spent + 1``, in seconds; the last of a list repeats."""
    found: float | Sequence[float] | None = delays(given, retries)
    if not found:
        return 0.0
    # A tuple as it was given, or the list that a record of its options has.
    return found[min(spent, len(found) - 1)] if isinstance(found, Sequence) else float(found)


def jittered(base: float, factor: float, chance: float) -> float:
    """
    A delay that spreads around ``base``: exponentially distributed within ``[base * log2(2**k / (2**k - 1)), base * k]``.

    The draw falls between the bounds; nothing is piled up on them, where retries would meet again.

    Args:
        base: In seconds.
        factor: k is 1 + factor.
        chance: In [0, 1), from `pluperfect.rules.draw`: the same attempt always waits as long.
    """
    k = 1.0 + factor
    least = base * math.log2(2.0**k / (2.0**k - 1.0)) if k < 50 else 0.0  # beyond that it is 0 but for rounding
    below, upto = -math.expm1(-least / base), -math.expm1(-k)
    share = min(below + chance * (upto - below), 1.0 - 2.0**-53)  # rounding must not reach certainty
    return min(max(-base * math.log1p(-share), least), base * k)


@hookimpl
def review(run: Run, proposal: Proposal, definition: Definition | None) -> Verdict | None:
    """Running -> Failed or TimedOut becomes Retrying, if there is budget and the condition does not object."""
    state: State = proposal.to
    if run.state is None:
        if definition is not None:
            # Where a callable gives bad delays, that is known now, and not when the first attempt has failed.
            delays(definition.options.get("retry_delay_seconds"), int(definition.options.get("retries") or 0))
        return None
    if not (type(state) is Failed or type(state) is TimedOut) or type(run.state) is not Running:
        return None
    chosen = run.birth.options if definition is None else definition.options
    retries = int(chosen.get("retries") or 0)
    worth = _WORTH_IN_FLOWS if run.birth.kind == "flow" else _WORTH
    if run.spent >= retries or (type(state) is Failed and state.cause not in worth):
        return None
    if chosen.get("retry_condition_fn") is not None or (
        definition is None and "retry_condition_fn" in (proposal.facts.answers or ())
    ):
        answers = proposal.facts.answers or {}
        if "retry_condition_fn" not in answers:
            return Verdict(ask="retry_condition_fn")
        answer: object = answers["retry_condition_fn"]
        if not answer or isinstance(answer, dict):  # {"raised": ...}: the condition raised, which is no
            return None
    base = base_delay(chosen.get("retry_delay_seconds"), retries, run.spent)
    factor, chance = chosen.get("retry_jitter_factor"), None
    delay = base
    if factor and base:
        chance = draw(run)
        delay = jittered(base, factor, chance)
    due = round(proposal.at + delay, 6)  # as a log keeps times, so that the rule says the same when it is asked again
    cause = "timeout" if type(state) is TimedOut else "returned" if state.cause == "children" else state.cause
    waiting = Retrying(
        message=state.message, cause=cause, due=due, delay=base, draw=chance, error=state.error
    )  # fmt: skip
    return Verdict(to=waiting, why=f"retry {run.spent + 1} of {retries}")
