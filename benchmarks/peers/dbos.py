"""A recorded run of the program is recovered by DBOS with changed code: what does it say?"""

from __future__ import annotations

import asyncio
import json
import sqlite3
import subprocess
import sys
import tempfile
from typing import Any

sys.path = [path for path in sys.path if not path.endswith("peers")]  # this file has the name of what it measures


async def lead(source: str, file: str, recover: str) -> None:
    """Run the program under one id; or recover the run that is pending there."""
    from dbos import DBOS, SetWorkflowID

    config: Any = {"name": "mutants", "system_database_url": f"sqlite:///{file}", "application_version": "1"}
    DBOS(config={**config, "run_admin_server": False, "log_level": "CRITICAL"})
    names: dict[str, Any] = {"__name__": "mutants"}
    exec(source, names)
    steps = {}
    for name, function in list(names.items()):
        if callable(function) and name not in ("program", "__builtins__"):
            given = names["OPTIONS"].get(name, {})
            options = {"retries_allowed": True, "max_attempts": given["retries"] + 1} if given else {}
            steps[function] = DBOS.step(name=name, **options)(function)

    async def run(function: Any, *args: Any) -> Any:
        return await asyncio.to_thread(steps[function], *args)

    @DBOS.workflow(name="program")
    async def program(start: int) -> Any:
        return await names["program"](run, start)

    DBOS.launch()
    try:
        if not recover:
            with SetWorkflowID("one"):
                await program(1)
        else:
            handle = await DBOS.retrieve_workflow_async("one")
            print(await handle.get_result())
    finally:
        DBOS.destroy()


def child(source: str, file: str, recover: str = "") -> subprocess.CompletedProcess[str]:
    """The same in a process of its own, which has no other code of these names."""
    words = [sys.executable, __file__, file, recover]
    return subprocess.run(words, input=source, capture_output=True, text=True, timeout=120, check=False)


def verdict(program: str, source: str) -> str:
    """What DBOS raises; empty where it raises nothing."""
    with tempfile.TemporaryDirectory() as folder:
        file = f"{folder}/one.sqlite"
        done = child(program, file)
        assert not done.returncode, done.stderr
        with sqlite3.connect(file) as database:
            database.execute("update workflow_status set status = 'PENDING', output = null where workflow_uuid = 'one'")
        done = child(source, file, "recover")
        return done.stderr.strip().splitlines()[-1] if done.returncode else ""


if len(sys.argv) > 1:
    asyncio.run(lead(sys.stdin.read(), *sys.argv[1:]))
else:
    given = json.load(sys.stdin)
    print(json.dumps([verdict(given["program"], source) for source in given["sources"]]))
