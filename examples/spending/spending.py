"""Tasks say what they cost. What costs more than a euro starts only when somebody approves."""

import logging

from pluperfect import Verdict, hookimpl
from pluperfect.hooks import Option


def cents(value):
    if not isinstance(value, int) or value < 0:
        raise ValueError(f"cents is a whole number, 0 or more, not {value!r}.")
    return value


class Spending:
    @hookimpl
    def options(self, kind):
        if kind != "task":
            return None
        return [
            Option("cents", 0, "what one attempt costs", cents, wakes=True),
            Option("approve", None, "asked with (task, run, state) whether to spend it"),
        ]

    @hookimpl
    def review(self, run, proposal):
        if not proposal.to.is_running():
            return None
        price = run.birth.options.get("cents", 0)
        if price <= 100:
            return None
        answers = proposal.facts.answers or {}
        if "approve" not in answers:
            return Verdict(ask="approve")
        if answers["approve"] is not True:
            return Verdict(refuse=f"{price} cents were not approved")
        return None

    @hookimpl
    def recorded(self, run, transition, definition):
        price = definition.options["cents"]
        if transition.to.is_running() and price:
            logging.getLogger("spending").info("%s spends %d cents", run.name, price)
