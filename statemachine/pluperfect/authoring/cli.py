"""
The command line. Its commands are loaded when they are called, and those that read are a plugin's.

Exit codes: 0 all went well, 1 a run failed or a check found something, 2 the command was used wrongly.
"""

from __future__ import annotations

import difflib
import importlib
import json
import sys
from typing import TYPE_CHECKING, Any, Final

import click

from ..marks import BUILTIN

if TYPE_CHECKING:
    from .logs import OpenLog

__all__ = ["Desk", "LazyGroup", "main"]


_COMMANDING: Final = ("inspect", "config", "care")
"""The built-in plugins that add commands; they alone are loaded to list them."""


class Desk:
    """What the commands share: the log, opened when the first of them asks for it."""

    def __init__(self, store: str | None, disabled: tuple[str, ...]) -> None:
        self._store, self._disabled = store, disabled
        self._log: OpenLog | None = None

    @property
    def log(self) -> OpenLog:
        """The log that the command works on: ``--store``, else the default one."""
        if self._log is None:
            from .logs import open

            self._log = open(self._store, disabled=self._disabled)
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
@click.version_option(package_name="pluperfect", prog_name="pluperfect")
@click.pass_context
def main(ctx: click.Context, store: str | None, disabled: tuple[str, ...]) -> None:
    """Workflows you can prove, replay and take apart: read and resume what was recorded."""
    ctx.obj = Desk(store, disabled)


main.add_lazy("plugins", f"{__name__}:plugins_command", "List the plugins: name, version, origin, hooks.")
main.add_lazy("resume", f"{__name__}:resume_command", "Go on with a run whose process died.")
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
@click.argument("run")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_obj
def resume_command(desk: Desk, run: str, as_json: bool) -> None:
    """
    Go on with RUN, whose process died: finished calls are answered from the log.

    The flow's function is imported from where it was defined. Exits with 1 if the run fails.
    """
    from .resuming import resume

    log = desk.log
    with log:
        ended = resume(log, run)
        state, name = ended.state, repr(ended)
        if as_json:
            click.echo(json.dumps({"id": ended.id, "name": ended.name, "state": state.kind, "message": state.message}))
        else:
            click.echo(name)
    if not state.is_completed():
        if state.message and not as_json:
            click.echo(state.message, err=True)
        sys.exit(1)


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
