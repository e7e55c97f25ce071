"""What ``pluperfect verify``, ``checkpoint``, ``export``, ``import`` and ``redact`` do."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from pluperfect.errors import BadCheckpoint, NotAStore, StoreDamaged
from pluperfect.evidence import Finding, Report
from pluperfect.histories import Histories, RecordedRun, id_text

from .options import AS_JSON, NewFile, asked_run

__all__ = ["checkpoint", "export", "import_file", "redact", "verify"]

_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)


# --- verify ---------------------------------------------------------------------------------------------


@click.command()
@click.argument("run", required=False)
@click.option("--against", type=_FILE, metavar="CHECKPOINT", help="Hold the log against a checkpoint kept elsewhere.")
@click.option("--key", type=_FILE, metavar="FILE.pub", help="The public key with which its signature is checked.")
@click.option("--here", is_flag=True, hidden=True)
@AS_JSON
@click.pass_obj
def verify(desk: Any, run: str | None, against: Path | None, key: Path | None, here: bool, as_json: bool) -> None:
    """
    Read the whole log, or RUN alone, and say everything that is not as it was written.

    Exits with 0 where all is sound, with 1 where something was found, with 2 where it was asked wrongly. Nothing is changed,
    and no value is decoded. The file is read in a process of its own: a damaged one may end it.
    """
    if key is not None and against is None:
        raise click.UsageError("--key checks the signature of a checkpoint: give one with --against.")
    scheme, _, path = desk.uri.partition(":")
    if not here and scheme == "lmdb":
        folder = Path(path).expanduser()
        if not (folder / "data.mdb").is_file():
            raise click.UsageError(f"There is no store in {folder}. Name one: pluperfect --store PATH verify.")
        found = _in_a_child(desk, f"lmdb+unchecked:{folder}", run, against, key)
    else:
        found = _look(desk, run, against, key)
    if as_json or here:
        click.echo(json.dumps(found, indent=2, ensure_ascii=False))
    else:
        for finding in found["findings"]:
            click.echo(str(Finding(**finding)))
        click.echo(_told(found, run, against, key))
    if found["findings"]:
        sys.exit(1)


def _look(desk: Any, run: str | None, against: Path | None, key: Path | None) -> dict[str, Any]:
    try:
        histories: Histories = desk.log
        report = histories.verify(
            run,
            against=None if against is None else against.read_text(encoding="utf-8"),
            key=None if key is None else key.read_text(encoding="utf-8"),
        )
    except (BadCheckpoint, NotAStore, UnicodeDecodeError) as error:
        raise click.UsageError(str(error)) from error
    except StoreDamaged as error:
        return _as_json(Report((Finding(str(error), ""),), 0, 0, 0, 0, 0, b""))
    return _as_json(report)


def _in_a_child(desk: Any, uri: str, run: str | None, against: Path | None, key: Path | None) -> dict[str, Any]:
    arguments = ["--store", uri]
    for name in desk.disabled:
        arguments += ["--disable", name]
    arguments += ["verify", "--here", *(("--against", str(against)) if against else ())]
    arguments += [*(("--key", str(key)) if key else ()), *(("--", run) if run else ())]
    program = "from pluperfect.authoring.cli import main; main()"
    done = subprocess.run(  # noqa: S603 - this very program
        [sys.executable, "-c", program, *arguments], capture_output=True, text=True, encoding="utf-8", check=False
    )
    if done.returncode in (0, 1) and done.stdout:
        return json.loads(done.stdout)
    if done.returncode == 2:
        raise click.UsageError(done.stderr.rpartition("Error: ")[2].strip())
    if done.returncode < 0:
        died = f"by {signal.Signals(-done.returncode).name}"
    else:
        died = f"with code {done.returncode}: {done.stderr.strip()[-500:]}"
    finding = Finding(
        f"the file is damaged so badly that reading it ended the process that read it, {died}.",
        "Restore the store from a backup.",
    )
    return _as_json(Report((finding,), 0, 0, 0, 0, 0, b""))


def _as_json(report: Report) -> dict[str, Any]:
    numbers = {name: getattr(report, name) for name in ("records", "runs", "pruned", "redacted", "size")}
    findings = [
        {name: getattr(finding, name) for name in finding.__struct_fields__} for finding in report.findings
    ]  # fmt: skip
    return {"sound": report.sound, **numbers, "root": report.root.hex(), "findings": findings}


def _told(found: dict[str, Any], run: str | None, against: Path | None, key: Path | None) -> str:
    count = len(found["findings"])
    words = [f"{found['records']} records of {found['runs']} run{'' if found['runs'] == 1 else 's'}"]
    if found["pruned"]:
        words.append(f"{found['pruned']} pruned")
    if found["redacted"]:
        words.append(f"{found['redacted']} value{'' if found['redacted'] == 1 else 's'} redacted")
    if against is not None:
        words.append("held against the checkpoint" + ("" if key else ", whose signature was not checked"))
    if run is None and found["root"]:
        words.append(f"root {found['root'][:8]}")
    return f"{', '.join(words)}: {f'{count} finding' + ('' if count == 1 else 's') if count else 'sound'}."


# --- checkpoint -----------------------------------------------------------------------------------------


@click.command()
@click.option("--sign", type=_FILE, metavar="KEY", help="Sign it with this private key.")
@click.option("-o", "--output", type=NewFile(), metavar="FILE", help="Write it there, and not to the terminal.")
@click.option("--new-key", type=NewFile(), metavar="FILE", help="Make a key instead: FILE, and FILE.pub for others.")
@click.option("--name", default="pluperfect", show_default=True, help="Whose the new key is.")
@click.pass_obj
def checkpoint(desk: Any, sign: Path | None, output: Path | None, new_key: Path | None, name: str) -> None:
    """
    Say which root the log has now. Keep it where nobody can write who can write the store.

    `pluperfect verify --against` it finds a store that was cut, or written anew.
    """
    if new_key is not None:
        _make_key(new_key, name)
        return
    histories: Histories = desk.log
    made = histories.checkpoint(key=None if sign is None else sign.read_text(encoding="utf-8").strip())
    if output is None:
        click.echo(made.text, nl=False)
    else:
        output.write_text(made.text, encoding="utf-8")
        click.echo(f"{output}: {made.size} records, root {made.root.hex()[:8]}.")


def _make_key(path: Path, name: str) -> None:
    from pluperfect.signing import new_key

    public_path = path.with_name(f"{path.name}.pub")
    for taken in (path, public_path):
        if taken.exists():
            raise click.UsageError(f"{taken} exists; keys are not overwritten. Give another FILE.")
    try:
        private, public = new_key(name)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--name") from error
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        file.write(f"{private}\n")
    public_path.write_text(f"{public}\n", encoding="utf-8")
    click.echo(f"{path} signs checkpoints: keep it to yourself. {public_path} checks them: give it to others.")


# --- export and import ----------------------------------------------------------------------------------


@click.command()
@click.argument("chosen", metavar="[RUN]...", nargs=-1)
@click.option("-o", "--output", type=NewFile(), metavar="FILE", required=True, help="The file to write.")
@click.option("--state", help="Also the runs in this state, for instance failed.")
@click.option("--name", help="Also the runs of the flow or task with this name.")
@click.option(
    "--since",
    type=click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S", "%Y-%m-%d %H:%M:%S"]),
    help="Of those, the ones that began at this time (UTC) or later.",
)
@click.option("--all", "everything", is_flag=True, help="All runs.")
@click.option("--checkpoint", "point", type=_FILE, metavar="FILE", help="Lead the proofs to this checkpoint's root.")
@click.option("--as-imported", is_flag=True, help="Write the file again that RUN was imported from.")
@AS_JSON
@click.pass_obj
def export(
    desk: Any,
    chosen: Sequence[str],
    output: Path,
    state: str | None,
    name: str | None,
    since: datetime | None,
    everything: bool,
    point: Path | None,
    as_imported: bool,
    as_json: bool,
) -> None:
    """
    Write each RUN, with the whole tree that it belongs to, into one file.

    The file has the records byte for byte, the values that they name, and the proof of every run.
    """
    histories: Histories = desk.log
    listing = everything or state is not None or name is not None or since is not None
    if not chosen and not listing:
        raise click.UsageError("Nothing is chosen: name runs, or give --state, --name, --since or --all.")
    runs: list[RecordedRun | str] = [*chosen]
    if listing:
        try:
            found = histories.runs(state=state, name=name, roots=name is None)
        except ValueError as error:
            raise click.BadParameter(str(error), param_hint="--state") from error
        began = 0.0 if since is None else since.replace(tzinfo=UTC).timestamp()
        runs += [run for run in found if run.folded.born >= began]
    try:
        header = histories.export(
            output,
            runs,
            checkpoint=None if point is None else point.read_text(encoding="utf-8"),
            as_imported=as_imported,
        )
    except BadCheckpoint as error:
        raise click.UsageError(str(error)) from error
    records = sum(len(told.positions) for told in header.runs)
    if as_json:
        ids = [id_text(told.run) for told in header.runs]
        click.echo(json.dumps({"runs": ids, "records": records, "size": header.size, "root": header.root.hex()}))
        return
    click.echo(f"{output}: {len(header.runs)} runs, {records} records, proved in the log of {header.size} records.")


@click.command("import")
@click.argument("file", type=_FILE)
@click.option("--limit", type=click.IntRange(1), metavar="MIB", help="How much it may unpack to; 256 where left out.")
@AS_JSON
@click.pass_obj
def import_file(desk: Any, file: Path, limit: int | None, as_json: bool) -> None:
    """
    Take the runs of FILE in: all of them, or none.

    What is here already is left. The runs are marked as imported: nothing in them is run, and they answer no cached call.
    """
    histories: Histories = desk.made
    done = histories.import_runs(file, limit=None if limit is None else limit << 20)
    kinds = {"new": done.new, "extended": done.extended, "left": done.left}
    if as_json:
        click.echo(json.dumps({kind: [id_text(run) for run in runs] for kind, runs in kinds.items()}))
        return
    click.echo(f"{len(done.new)} runs are new, {len(done.extended)} were extended, {len(done.left)} were here already.")


# --- redact ---------------------------------------------------------------------------------------------


@click.command()
@click.argument("run")
@click.argument("seq", type=int, required=False)
@click.option("--input", "given", metavar="NAME", help="The value of this input.")
@click.option("--result", is_flag=True, help="The result, or the exception, that the run ended with.")
@click.option("--everywhere", is_flag=True, help="Also where other runs hold the same bytes.")
@click.option("--by", default="", help="Who wants it; it goes on record.")
@click.option("--why", required=True, help="For which reason; it goes on record.")
@click.option("--yes", is_flag=True, help="Do not ask.")
@AS_JSON
@click.pass_obj
def redact(
    desk: Any,
    run: str,
    seq: int | None,
    given: str | None,
    result: bool,
    everywhere: bool,
    by: str,
    why: str,
    yes: bool,
    as_json: bool,
) -> None:
    """
    Take values of RUN away for ever: all of record SEQ, an input, or the result.

    Their digests stay, so that everything else is still proved. A large value is kept once, and is taken from all who name it.
    """
    if (seq is None) + (given is None) + (not result) != 2:
        raise click.UsageError("Say what to take away, one of: SEQ, --input NAME, --result.")
    histories: Histories = desk.log
    found = asked_run(histories, run)
    if not yes:
        click.confirm(f"Take a value of {found!r} away for ever?", abort=True)
    try:
        gone = histories.redact(
            found.id, seq=seq, input=given, result=result, everywhere=everywhere, by=by, why=why
        )  # fmt: skip
    except LookupError as error:
        raise click.UsageError(str(error)) from error
    shown = {
        "taken": [{"run": id_text(run), "seq": seq} for run, seq in gone.taken],
        "left": [{"run": id_text(run), "seq": seq} for run, seq in gone.left],
    }
    if as_json:
        click.echo(json.dumps({"digests": [digest.hex() for digest in gone.digests], **shown}))
        return
    for digest in gone.digests:
        click.echo(f"gone: SHA-256 {digest.hex()}")
    for place in shown["taken"]:
        click.echo(f"taken from run {place['run']}, record {place['seq']}")
    for place in shown["left"]:
        click.echo(
            f"the same bytes still stand in run {place['run']}, record {place['seq']}: --everywhere takes them too"
        )
