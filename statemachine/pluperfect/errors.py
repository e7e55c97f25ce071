"""
Whose fault it was: one base class, and one subclass for each party that can err.

A message says what was wrong, where, and what to do about it. Errors of the user's own functions are
never wrapped: they arrive as they were raised.
"""

from __future__ import annotations

__all__ = [
    "BadCheckpoint",
    "BadExport",
    "CancelledRun",
    "ConfigurationError",
    "Conflict",
    "CrashedRun",
    "Divergence",
    "FailedRun",
    "Fenced",
    "IllegalTransition",
    "ImportRefused",
    "ImpureRule",
    "InDoubt",
    "InvalidNameError",
    "MappingLengthMismatch",
    "MappingMissingIterable",
    "MissingContextError",
    "MissingResult",
    "NotAStore",
    "ParameterBindError",
    "ParameterTypeError",
    "PausedRun",
    "PluginError",
    "PluperfectError",
    "PrefectException",
    "PrunedAway",
    "RedactedValue",
    "Refused",
    "ReservedArgumentError",
    "RuleError",
    "RunTimeout",
    "RunnerUnavailable",
    "SerializationError",
    "SideEffect",
    "SigningUnavailable",
    "StoreClosed",
    "StoreDamaged",
    "StoreError",
    "StoreForked",
    "StoreFull",
    "StoreUnwritable",
    "TerminationSignal",
    "UnfinishedRun",
    "UnknownRule",
    "UnknownRun",
    "UnknownStore",
    "UnpackableValue",
    "UntrustedValue",
    "UpstreamFailed",
    "UpstreamTaskError",
    "WorkerDied",
]


class PluperfectError(Exception):
    """The base of every error that this library raises on its own account."""


PrefectException = PluperfectError


# --- a rule, a plugin or the engine erred ---------------------------------------------------------------


class IllegalTransition(PluperfectError):
    """Somebody proposed a move that the table does not have; nothing was recorded."""


class PluginError(PluperfectError):
    """A plugin broke the contract of a hook; the message names the plugin and the hook."""


class RuleError(PluginError):
    """A rule raised, or answered with something that is no verdict; no transition was made."""


class ImpureRule(RuleError):
    """A rule answers from more than what it is given: a clock, chance, a file, the network, what it kept from before."""


class UnknownRule(PluperfectError, LookupError):
    """No rule is found under a name, or its module cannot be imported; the message says what there is."""


# --- nobody erred: a rule said no -----------------------------------------------------------------------


class Refused(PluperfectError):
    """
    A rule refused a proposal. The refusal is in the run's log, with the rule's name and reason.

    Attributes:
        run: The id of the run that was refused.
        by: The name of the rule's plugin.
        why: The reason that it gave.
    """

    def __init__(self, message: str, *, run: str = "", by: str = "", why: str = "") -> None:
        super().__init__(message)
        self.run: str = run
        self.by: str = by
        self.why: str = why


# --- another writer was first ---------------------------------------------------------------------------


class Conflict(PluperfectError):
    """
    An append expected a version that the run no longer has; nothing of it was written.

    Attributes:
        run: The id of the run.
        expected: The version that the append was decided on.
        actual: The version that the run has.
    """

    def __init__(self, message: str, *, run: str = "", expected: int = 0, actual: int = 0) -> None:
        super().__init__(message)
        self.run: str = run
        self.expected: int = expected
        self.actual: int = actual


class Fenced(Conflict):
    """
    Another process carries this tree of runs out; this writer has to stop.

    ``run`` is the root, ``expected`` the term of this writer (0: it had none yet), ``actual`` the term that holds.
    """


# --- the user's program differs from its record, or used us wrongly -------------------------------------


class Divergence(PluperfectError):
    """A recorded call was found at its place with other inputs; the message shows both calls."""


class SideEffect(PluperfectError):
    """
    Code reached outside of the process where only its answers were wanted: in a replay, or in a rule.

    Attributes:
        act: What it tried to do: ``write the file 'x'``.
        place: Where: ``file.py:line`` of the innermost frame of the user's.
        event: Python's name of it: ``open``.
    """

    def __init__(self, message: str, *, act: str = "", place: str = "", event: str = "") -> None:
        super().__init__(message)
        self.act: str = act
        self.place: str = place
        self.event: str = event


class InvalidNameError(PluperfectError, ValueError):
    """A flow or task has a name that is empty or holds one of ``/ % & > <``."""


class ConfigurationError(PluperfectError, ValueError):
    """A setting has a value that it cannot have; the message says where it was set and what it may be."""


class SerializationError(PluperfectError):
    """A value cannot be written, or bytes cannot be read, by the serializer that was asked for."""


class TerminationSignal(PluperfectError):
    """
    The process was asked to end.

    Attributes:
        signal: The number of the signal.
    """

    def __init__(self, signal: int) -> None:
        super().__init__(f"signal {signal}")
        self.signal = signal


class RunnerUnavailable(PluperfectError, ImportError):
    """No plugin makes a task runner of this name, or it needs a package that is not installed; the message says which."""


class WorkerDied(PluperfectError):
    """The worker that made a call died in the middle of it; that is one attempt, and this its cause."""


class ParameterTypeError(PluperfectError):
    """Parameters of a flow do not fit their annotations; the message lists all of them."""


class MissingContextError(PluperfectError, RuntimeError):
    """Something that needs a running flow or task was used outside of one."""


class ParameterBindError(PluperfectError, TypeError):
    """The arguments do not fit the signature of the function."""


class ReservedArgumentError(PluperfectError, TypeError):
    """A function uses, as a parameter, a name that the call itself needs (``wait_for``, ``return_state``)."""


class MappingLengthMismatch(PluperfectError, ValueError):
    """The iterables given to ``map`` have different lengths."""


class MappingMissingIterable(PluperfectError, ValueError):
    """Nothing given to ``map`` can be iterated over."""


# --- a result is asked for that is not there ------------------------------------------------------------


class UnknownRun(PluperfectError, KeyError):
    """No run has this id; close ones are named."""

    def __str__(self) -> str:  # KeyError would show the repr of the message
        return str(self.args[0]) if self.args else ""


class PrunedAway(PluperfectError, IndexError):
    """The tree over the log as it was at this size cannot be told any more: all records around its end were pruned."""


class UnfinishedRun(PluperfectError):
    """The result of a run was asked for that has not ended."""


class MissingResult(PluperfectError):
    """The run completed, but its result is not on record; the message gives the reason."""


class RedactedValue(MissingResult):
    """The bytes of a recorded value are not in the log any more; their digest is."""


class UntrustedValue(MissingResult):
    """A value of an imported history could run code when it is decoded, and nobody has said that it may."""


class UnpackableValue(PluperfectError, ValueError):
    """A value cannot be encoded; the message names the path inside the value."""


class PausedRun(PluperfectError):
    """The run is paused: it goes on when somebody resumes it."""


class FailedRun(PluperfectError):
    """A run failed without an exception of its own, or with one that could not be recorded as an object."""


class CrashedRun(PluperfectError):
    """A run was ended by something that is no ``Exception``: an interrupt, an exit."""


class CancelledRun(PluperfectError):
    """A run was ended before its turn."""


class UpstreamTaskError(PluperfectError):
    """An argument of a call comes from a run that has no result."""


class UpstreamFailed(UpstreamTaskError):
    """The call was not made since a run that it depends on failed; that failure is the cause."""


class InDoubt(FailedRun):
    """The process died while this call was under way; whether it took effect is not known."""


class RunTimeout(FailedRun, TimeoutError):
    """A flow or task ran into its ``timeout_seconds``."""


# --- the store ------------------------------------------------------------------------------------------


class StoreError(PluperfectError):
    """The base of what can be wrong with a store."""


class UnknownStore(StoreError, ValueError):
    """No plugin opens stores with this address."""


class NotAStore(StoreError):
    """The path holds something that is no store of this library; it was left as it is."""


class StoreDamaged(StoreError):
    """The file is a store, but shorter than it says it is, or its parts contradict each other."""


class StoreFull(StoreError, OSError):
    """The disk is full. Reading goes on; writing resumes when there is room."""


class StoreUnwritable(StoreError, PermissionError):
    """The folder or the file may not be written by this user."""


class StoreClosed(StoreError):
    """The store was closed, or failed and stopped; open it again."""


class StoreForked(StoreError):
    """This process was forked while the parent was reading; the store cannot be used here."""


# --- evidence -------------------------------------------------------------------------------------------


class BadCheckpoint(PluperfectError, ValueError):
    """A text is no checkpoint, or no key, or was altered."""


class SigningUnavailable(PluperfectError, ImportError):
    """Signatures need a package that is not installed; the message has the command that installs it."""


class BadExport(PluperfectError, ValueError):
    """A file is no export, is cut short, or contradicts itself; nothing of it was imported."""


class ImportRefused(StoreError):
    """A run of an export has another history here; nothing of the export was imported."""
