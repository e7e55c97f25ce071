from datetime import UTC, datetime

from pluperfect import Verdict, hookimpl


class NoFridays:
    """No deploys on Fridays."""

    @hookimpl
    def review(self, run, proposal):
        starts = proposal.to.is_running() and "deploy" in run.birth.tags
        if starts and datetime.fromtimestamp(proposal.at, UTC).strftime("%A") == "Friday":
            return Verdict(refuse="no deploys on Fridays")
        return None
