"""
The command line. Its commands are loaded when they are called, and those that read are a plugin's.

Exit codes: 0 all went well, 1 a run failed or a check found something, 2 the command was used wrongly.
"""

from __future__ import annotations

import difflib
import importlib
import json
import os
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from ..marks import BUILTIN

if TYPE_CHECKING:
    from .logs import OpenLog

__all__ = ["Desk", "LazyGroup", "main"]


_COMMANDING: Final = ("inspect", "evidence", "config", "care")
"""The built-in plugins that add commands; they alone are loaded to list them."""


class Desk:
    """What the commands share: the log, opened when the first of them asks for it."""

    def __init__(self, store: str | None, disabled: tuple[str, ...], *, trust_imported: bool = False) -> None:
        self._store, self._disabled, self._trust_imported = store, disabled, trust_imported
        self._log: OpenLog | None = None

    @property
    def uri(self) -> str:
        """The address of the log, which is not opened for that."""
        from .logs import address

        return address(self._store)

    @property
    def disabled(self) -> tuple[str, ...]:
        """The plugins that are left out."""
        return self._disabled

    @property
    def log(self) -> OpenLog:
        """The log that the command works on: ``--store``, else the default one. It has to be there."""
        scheme, _, path = self.uri.partition(":")
        if self._log is None and scheme == "lmdb" and not os.path.exists(path):  # noqa: PTH110
            # A slip of the pen would leave an empty store behind, and say of it that all is well.
            command = " ".join(click.get_current_context().command_path.split()[1:])
            raise click.UsageError(
                f"There is no store in {path}. A flow that runs makes one. Name another: pluperfect --store PATH {command},"
                " or set PLUPERFECT_STORE."
            )
        return self.made

    @property
    def made(self) -> OpenLog:
        """The same for commands that write into it: it is made where there is none."""
        if self._log is None:
            from .logs import open

            self._log = open(self._store, disabled=self._disabled, trust_imported=self._trust_imported)
        return self._log

    def close(self) -> None:
        """Let go of the log."""
        if self._log is not None:
            self._log.close()


class LazyGroup(click.Group):
    """A group whose commands are known by name and one line, and imported when they are called."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._lazy: dict[str, tuple[str, str]] = {}
        self._asked_builtin = self._asked_others = False

    def add_lazy(self, name: str, target: str, line: str) -> None:
        """Add a command by where it is (``module:attribute``) and what it does, in one line."""
        self._lazy[name] = (target, line)

    def _ask_builtin(self) -> None:
        if not self._asked_builtin:
            self._asked_builtin = True
            for name in _COMMANDING:
                importlib.import_module(BUILTIN[name]).commands(self)

    def _ask_others(self) -> None:
        """Let the plugins of installed distributions add theirs; without such plugins nothing is loaded."""
        if self._asked_others:
            return
        self._asked_others = True
        from importlib.metadata import entry_points

        if entry_points(group="pluperfect"):
            from ..manager import Hooks

            Hooks(disabled=_COMMANDING).commands(self)

    def list_commands(self, ctx: click.Context) -> list[str]:
        self._ask_builtin()
        self._ask_others()
        return sorted({*self._lazy, *super().list_commands(ctx)})

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        self._ask_builtin()
        if cmd_name not in self._lazy and cmd_name not in self.commands:
            self._ask_others()
        if cmd_name in self._lazy:
            module, _, attribute = self._lazy[cmd_name][0].partition(":")
            return getattr(importlib.import_module(module), attribute)
        return super().get_command(ctx, cmd_name)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        rows: list[tuple[str, str]] = []
        for name in self.list_commands(ctx):
            if name in self._lazy:
                rows.append((name, self._lazy[name][1]))
            else:
                command = super().get_command(ctx, name)
                rows.append((name, "" if command is None else command.get_short_help_str(80)))
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            near = difflib.get_close_matches(args[0], self.list_commands(ctx), 1)
            if near:
                raise click.UsageError(f"{error.format_message()} Did you mean {near[0]!r}?", ctx) from error
            raise

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. The library's errors become one line and an exit code; bugs keep their traceback."""
        from ..errors import PluperfectError, UnknownRun

        try:
            return super().invoke(ctx)
        except UnknownRun as error:
            raise click.UsageError(str(error), ctx) from error
        except PluperfectError as error:
            click.echo(f"Error: {error}", err=True)
            ctx.exit(1)
        finally:
            if isinstance(ctx.obj, Desk):
                ctx.obj.close()


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.option(
    "--store", metavar="URI", help="The store: lmdb:PATH or a path. Default: the setting STORE, else runs in HOME."
)
@click.option("--disable", "disabled", metavar="PLUGIN", multiple=True, help="Leave a plugin out; may be repeated.")
@click.option(
    "--trust-imported", is_flag=True, help="Decode values of imported histories although that may run their code."
)
@click.version_option(package_name="pluperfect", prog_name="pluperfect")
@click.pass_context
def main(ctx: click.Context, store: str | None, disabled: tuple[str, ...], trust_imported: bool) -> None:
    """Workflows you can prove, replay and take apart: read and resume what was recorded."""
    ctx.obj = Desk(store, disabled, trust_imported=trust_imported)


main.add_lazy("plugins", f"{__name__}:plugins_command", "List the plugins: name, version, origin, hooks.")
main.add_lazy("resume", f"{__name__}:resume_command", "Go on with a run whose process died.")
main.add_lazy("repair", f"{__name__}:repair_command", "List the calls that are in doubt, or say what became of one.")
main.add_lazy("rebuild", f"{__name__}:rebuild_command", "Project all views again from the log, or check them.")


@click.command("plugins")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def plugins_command(desk: Desk, as_json: bool) -> None:
    """List the plugins, in the order in which they are asked."""
    from ..manager import Hooks

    infos = list(reversed(Hooks(disabled=desk._disabled).plugins))
    if as_json:
        listed = [
            {"name": i.name, "version": i.version, "origin": i.origin, "hooks": list(i.hooks)} for i in infos
        ]  # fmt: skip
        click.echo(json.dumps(listed, indent=2))
        return
    width = max(len(info.name) for info in infos)
    for info in infos:
        click.echo(f"{info.name:<{width}}  {info.version:<8} {info.origin:<12} {', '.join(info.hooks)}")


@click.command("resume")
@click.argument("run", required=False)
@click.option("--all", "everything", is_flag=True, help="Go on with every flow that a dead process left behind.")
@click.option(
    "--limit",
    default=3,
    show_default=True,
    type=click.IntRange(1),
    help="With --all: leave a run that so many processes died of.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def resume_command(desk: Desk, run: str | None, everything: bool, limit: int, as_json: bool) -> None:
    """
    Go on with RUN, whose process died: finished calls are answered from the log.

    The flow's function is imported from where it was defined. Exits with 1 if a run fails, or cannot be resumed.
    """
    if (run is None) != everything:
        raise click.UsageError("Give a run, or --all for every run that a dead process left behind.")
    log = desk.log
    with log:
        if everything:
            _recover(log, limit, as_json=as_json)
        else:
            assert run is not None
            _resume(log, run, as_json=as_json)


def _resume(log: OpenLog, run: str, *, as_json: bool) -> None:
    from .resuming import resume

    ended = resume(log, run)
    state = ended.state
    if as_json:
        click.echo(json.dumps({"id": ended.id, "name": ended.name, "state": state.kind, "message": state.message}))
    else:
        click.echo(repr(ended))
    if not state.is_completed():
        if state.message and not as_json:
            click.echo(state.message, err=True)
        sys.exit(1)


def _recover(log: OpenLog, limit: int, *, as_json: bool) -> None:
    found = log.recover(limit=limit)
    rows = [
        {"id": one.run.id, "name": one.run.name, "outcome": one.outcome, "state": one.run.state.kind, "why": one.why}
        for one in found
    ]
    if as_json:
        click.echo(json.dumps(rows, indent=2))
    else:
        for one in found:
            click.echo(f"{one.outcome:<12} {one.run!r}{': ' if one.why else ''}{one.why}")
        if not found:
            click.echo("Nothing is left behind.")
    if not all(row["outcome"] in {"paused", "held"} or row["state"] == "Completed" for row in rows):
        sys.exit(1)


@click.command("repair")
@click.argument("run", required=False)
@click.argument("action", type=click.Choice(["retry", "fail", "skip", "result"]), required=False)
@click.option("--value", help="With result: what the call gave, as JSON.")
@click.option("--why", default="", help="For the record.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def repair_command(desk: Desk, run: str | None, action: Any, value: str | None, why: str, as_json: bool) -> None:
    """
    List the calls that are in doubt, or say what became of one.

    Without arguments: lists the calls that began, have no end on record, and whose process is gone. With RUN and an
    ACTION: retry (it is called again when its flow goes on), fail, skip (it completed without a result) or result.
    """
    log = desk.log
    with log:
        if run is None:
            doubts = log.in_doubt()
            if as_json:
                click.echo(json.dumps([{"id": one.id, "name": one.name} for one in doubts], indent=2))
            else:
                for one in doubts:
                    click.echo(f"{one.id}  {one!r}")
                if not doubts:
                    click.echo("Nothing is in doubt.")
            return
        if action is None:
            raise click.UsageError("Say what became of it: retry, fail, skip or result.")
        if (value is not None) != (action == "result"):
            raise click.UsageError("--value goes with result, and result needs it.")
        try:
            given = None if value is None else json.loads(value)
            done = log.repair(run, action, result=given, why=why)
        except ValueError as error:
            raise click.UsageError(str(error)) from error
        entry = done.history[-1]
        click.echo(json.dumps({"id": done.id, "state": done.state.kind}) if as_json else f"{done!r}\n{entry}")


@click.command("rebuild")
@click.option("--check", is_flag=True, help="Change nothing; exit with 1 if a view differs from the log.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def rebuild_command(desk: Desk, check: bool, as_json: bool) -> None:
    """Project all views again from the log; with --check, only compare them with it."""
    log = desk.log
    differences = log.compare()
    records = log.log.position() if check else log.rebuild()
    if as_json:
        click.echo(json.dumps({"records": records, "differences": differences, "rebuilt": not check}))
    else:
        for line in differences:
            click.echo(line)
        verb = "differ from the log" if check else "differed and were rebuilt"
        click.echo(
            f"{records} records; {len(differences)} rows {verb}."
            if differences
            else f"{records} records; every view agrees."
        )
    if check and differences:
        sys.exit(1)
