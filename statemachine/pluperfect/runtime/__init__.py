"""
What the code at hand runs in: ``from pluperfect.runtime import flow_run, task_run``.

Outside of a run every attribute is empty. A test can set one by the environment, for instance
``PLUPERFECT__RUNTIME__FLOW_RUN__NAME=fake``; the text is converted to what the attribute mostly is.
"""

from . import deployment, flow_run, task_run

__all__ = ["deployment", "flow_run", "task_run"]
