"""What ``pluperfect rules try``, ``explain``, ``check`` and ``new`` do."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from pluperfect.errors import PluginError, UnknownRule
from pluperfect.histories import Histories
from pluperfect.manager import Hooks
from pluperfect.replay import Otherwise, Rejudgement
from pluperfect.rulebook import Rules, alone, find_rule
from pluperfect.states import KINDS, State
from pluperfect.transitions import TABLE, sentence

from .options import AS_JSON, moment

__all__ = ["rules"]

_RULE = "MODULE:NAME"


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def rules() -> None:
    """
    Try rules on what is on record, look at them, begin one.

    A rule is named as MODULE:NAME or FILE.py:NAME; NAME may be left out where there is but one.
    """


def _found(names: Sequence[str]) -> Hooks | None:
    try:
        return alone(*(find_rule(name) for name in names)) if names else None
    except (UnknownRule, PluginError) as error:
        raise click.UsageError(str(error)) from error


# --- try ------------------------------------------------------------------------------------------------


@rules.command("try")
@click.argument("rule", required=False, metavar=f"[{_RULE}]")
@click.option(
    "--since", metavar="WHEN", callback=moment, help="Only proposals since then: 2026-11-20, or so long ago: 12h, 7d."
)
@click.option("--state", help="Only runs in this state, for instance failed.")
@click.option("--name", help="Only runs of the flow or task with this name.")
@click.option("--among", is_flag=True, help="Ask the rules that are here too, where RULE has no opinion.")
@click.option("--limit", default=20, show_default=True, help="Show at most so many; all are counted.")
@click.option("--check", "strictly", is_flag=True, help="Exit with 1 if anything would have gone otherwise.")
@AS_JSON
@click.pass_obj
def try_rule(
    desk: Any,
    rule: str | None,
    since: float | None,
    state: str | None,
    name: str | None,
    among: bool,
    limit: int,
    strictly: bool,
    as_json: bool,
) -> None:
    """
    Judge every recorded proposal again, with RULE asked first, and list what would have gone otherwise.

    Without RULE the rules that are here are asked. Nothing is written. A rule that reads a clock, a file or chance, or
    answers otherwise the second time, is an error that names the line.
    """
    histories: Histories = desk.log
    found = None if rule is None else _tried(rule)
    try:
        judged = histories.rejudge(found, among=among, since=since, state=state, name=name)
    except (UnknownRule, PluginError) as error:
        raise click.UsageError(str(error)) from error
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--state") from error
    shown: list[Otherwise] = []
    for one in judged:
        if len(shown) < limit:
            shown.append(one)
    if as_json:
        click.echo(json.dumps(_as_json(judged, shown), indent=2, ensure_ascii=False))
    else:
        for one in shown:
            click.echo(str(one))
        if judged.differing > len(shown):
            click.echo(f"... and {judged.differing - len(shown):,} more: --limit shows them")
        click.echo(_told(judged))
    if strictly and (judged.differing or judged.missing or judged.unknown):
        sys.exit(1)


def _tried(name: str) -> Any:
    try:
        return find_rule(name)
    except UnknownRule as error:
        raise click.UsageError(str(error)) from error


def _told(judged: Rejudgement) -> str:
    lines: list[str] = []
    if judged.differing:
        lines.append(
            f"{judged.differing:,} of {judged.judged:,} proposals would have gone otherwise, in {judged.differing_runs:,} of"
            f" {judged.runs:,} runs."
        )
    else:
        lines.append(f"All {judged.judged:,} proposals of {judged.runs:,} runs would have gone as they went.")
    for plugin, count in judged.missing.items():
        lines.append(
            f"{count:,} entries were made by rule {plugin!r}, which is not here, so that they cannot be judged again."
            " Install it, or give it as RULE."
        )
    for kind, count in judged.unknown.items():
        lines.append(
            f"{count:,} records are of type {kind}, which nobody here knows: what follows them in their runs was passed over."
            " Install the plugin or the release that wrote them."
        )
    return "\n".join(lines)


def _as_json(judged: Rejudgement, shown: Sequence[Otherwise]) -> dict[str, Any]:
    return {
        "judged": judged.judged,
        "runs": judged.runs,
        "differing": judged.differing,
        "differing_runs": judged.differing_runs,
        "missing": dict(judged.missing),
        "unknown": dict(judged.unknown),
        "otherwise": [
            {
                "run": one.run,
                "name": one.name,
                "seq": one.seq,
                "at": one.recorded.at,
                "before": None if one.before is None else one.before.kind,
                "asked": sentence(one.asked),
                "recorded": one.was,
                "now": one.becomes,
                "by": one.by,
                "why": one.why,
                "first": one.first,
            }
            for one in shown
        ],
    }


# --- explain and check ----------------------------------------------------------------------------------


def _state(text: str) -> type[State] | None:
    kinds: dict[str, type[State] | None] = {kind.kind.lower(): kind for kind in KINDS}
    kinds["nothing"] = None
    if text.lower() not in kinds:
        raise click.UsageError(f"There is no state {text!r}. There are: nothing, {', '.join(k.kind for k in KINDS)}.")
    return kinds[text.lower()]


@rules.command("explain")
@click.argument("before", metavar="FROM")
@click.argument("to", metavar="TO")
@click.option("--rule", "names", multiple=True, metavar=_RULE, help="A rule to ask before those that are here.")
@AS_JSON
@click.pass_obj
def explain_row(desk: Any, before: str, to: str, names: tuple[str, ...], as_json: bool) -> None:
    """
    Show which rules speak to the move FROM TO, in the order in which they are asked, and who decides.

    The rules are asked about made-up runs in the state FROM (``nothing`` for a birth), of which TO is proposed.
    """
    from pluperfect.probing import PROPOSED, explain, makers

    was, then = _state(before), _state(to)
    if then is None or then not in TABLE[was]:
        may = ", ".join(sorted(kind.kind for kind in TABLE[was])) or "nothing, since it is final"
        raise click.UsageError(
            f"{before} -> {to} is not in the table, so that no rule is asked. From there a run may go to: {may}."
        )
    asked = Rules(_found(names), Hooks(disabled=desk.disabled))
    heard = explain(asked, was, then)
    made = {by: sorted(kind.kind for kind in kinds) for by, kinds in makers(asked, was, then).items()}
    if as_json:
        rows = [
            {"rule": s.rule, "probes": s.probes, "said": dict(s.said), "decided": s.decided, "raised": list(s.raised)}
            for s in heard
        ]
        click.echo(json.dumps({"rules": rows, "made_of": made, "proposed": (was, then) in PROPOSED}, indent=2))
        return
    row = f"{'nothing' if was is None else was.kind} -> {then.kind}"
    by_engine = "The engine proposes it" if (was, then) in PROPOSED else "The engine never proposes it"
    click.echo(
        f"{row}   {by_engine}; rules are asked in this order, each about {heard[0].probes if heard else 0:,} runs."
    )
    width = max((len(spoken.rule) for spoken in heard), default=0)
    for place, spoken in enumerate(heard, 1):
        said = [f"{what} ({count:,})" for what, count in sorted(spoken.said.items(), key=lambda item: -item[1])]
        said += [f"raises {what}" for what in spoken.raised]
        click.echo(f"{place:>3} {spoken.rule:<{width}}  {said[0] if said else 'no opinion'}")
        for more in said[1:4]:
            click.echo(f"{'':>3} {'':<{width}}  {more}")
        if len(said) > 4:
            click.echo(f"{'':>3} {'':<{width}}  ... and {len(said) - 4} more")
    decisive = [f"{spoken.rule} ({spoken.decided:,})" for spoken in heard if spoken.decided]
    click.echo(f"First to speak: {', '.join(decisive) or 'nobody: it is recorded as it was proposed'}.")
    for by, kinds in made.items():
        click.echo(f"Rule {by} makes it of a proposed {' or '.join(kinds)}.")


@rules.command("check")
@click.argument("names", nargs=-1, metavar=f"[{_RULE}]...")
@AS_JSON
@click.pass_obj
def check_rules(desk: Any, names: tuple[str, ...], as_json: bool) -> None:
    """
    Look for what is wrong with rules: with these, or with all that are here and the rows of the table.

    Each is asked about thousands of made-up runs: whether it raises, answers what cannot be recorded, is pure, ever speaks,
    or never before another has decided. Exits with 1 if something was found.
    """
    from pluperfect.probing import check

    first = _found(names)
    found = check(
        Rules(first, Hooks(disabled=desk.disabled)),
        None if first is None else [info.name for info in first.plugins],
    )
    if as_json:
        click.echo(
            json.dumps([{"rule": f.rule, "kind": f.kind, "text": f.text, "advice": f.advice} for f in found], indent=2)
        )
    else:
        for finding in found:
            click.echo(f"{finding.kind}: {finding}")
        if not found:
            click.echo("Nothing is wrong, as far as probes show it.")
    if found:
        sys.exit(1)


# --- new ------------------------------------------------------------------------------------------------


@rules.command("new")
@click.argument("name")
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=Path(),
    help="The folder in which the new one is made; the current one where left out.",
)
def new_rule(name: str, into: Path) -> None:
    """
    Begin a rule: a folder NAME with the rule, its tests, and the entry point that announces it.

    The tests pass as they are written. Nothing that is there already is touched.
    """
    from .skeleton import write

    try:
        made = write(name, into, [plugin.name for plugin in Hooks().plugins])
    except (ValueError, FileExistsError) as error:
        raise click.UsageError(str(error)) from error
    for file in made.files:
        click.echo(file.as_posix())
    click.echo("\nIts tests need pytest and hypothesis: python -m pip install pytest hypothesis")
    click.echo(f"Test it:     python -m pytest {made.folder.as_posix()}")
    click.echo(f"Try it:      pluperfect --store PATH rules try {(made.folder / made.module).as_posix()}.py")
    click.echo(f"Install it:  python -m pip install --editable {made.folder.as_posix()}")
