"""How a store is: what stands in it, who uses it, and what needs somebody's attention."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Container, Iterator
from pathlib import Path
from typing import Any, Final

from pluperfect.hooks import Health
from pluperfect.states import KINDS, Running

from .files import Files
from .layout import decode_head, decode_lease, decode_owner, number, state_prefix
from .leases import gone
from .ledger import Rows, end_of, under
from .mounts import is_network, mount_of
from .opening import OWN_LOCK
from .pruning import named_values
from .receiving import redacted_values
from .tree import Tree

__all__ = ["attention", "contents", "examined", "users_of"]

_NAMES: Final = {kind.code: kind.kind for kind in KINDS}
_SOME: Final = 10  # runs that are named; the others are counted
_LITTLE: Final = 256 << 20  # bytes of free space
_FULL: Final = 0.8  # of the map


def contents(rows: Rows, named: Container[bytes]) -> dict[str, Any]:
    """What stands in the tables; ``named`` are the values that records name."""
    states = Counter(_NAMES.get(key[0], f"state {key[0]}") for key in rows.keys("by_state"))
    fence = rows.get("meta", b"fence")
    records = sum(1 for _ in rows.keys("log"))
    blobs = [*rows.keys("blob")]
    return {
        "store_id": (rows.get("meta", b"store_id") or b"").hex(),
        "position": end_of(rows),
        "records": records,
        "pruned": Tree.decode(rows.get("meta", b"tree")).size - records,
        "runs": {kind.kind: states[kind.kind] for kind in KINDS if states[kind.kind]},
        "leases": sum(1 for _ in rows.keys("lease")),
        "owners": [*_owners(rows)],
        "fence": number(fence) if fence else 0,
        "in_doubt": [{"run": run.hex(), "root": root.hex(), "why": why} for run, root, why in _in_doubt(rows)],
        "values": len(blobs),
        "values_without_record": sum(digest not in named for digest in blobs),
    }


def attention(rows: Rows) -> list[str]:
    """What in the tables needs attention."""
    doubtful = [*_in_doubt(rows)]
    if not doubtful:
        return []
    roots = list(dict.fromkeys(root.hex() for _, root, _ in doubtful))
    more = f" and {len(roots) - _SOME} more" if len(roots) > _SOME else ""
    told = f"{len(doubtful)} runs are in doubt: they were running when their process ended, in the trees of"
    return [f"{told} {', '.join(roots[:_SOME])}{more}. `pluperfect resume RUN` goes on with a tree."]


def _owners(rows: Rows) -> Iterator[dict[str, Any]]:
    trees = Counter(decode_lease(lease).owner for _, lease in rows.scan("lease", b"", b""))
    for key, data in rows.scan("owner", b"", b""):
        owner = decode_owner(data)
        why = gone(key, owner)
        yield {"owner": key.hex(), "is": str(owner), "alive": not why, "why": why, "trees": trees[key]}


def _in_doubt(rows: Rows) -> Iterator[tuple[bytes, bytes, str]]:
    """The runs that are Running in a tree that nobody alive carries out: run, root, why nobody does."""
    known: dict[bytes, str] = {}
    for child in (False, True):
        for _, run in under(rows, "by_state", state_prefix(Running.code, child=child)):
            data = rows.get("head", run)
            root = (None if data is None else decode_head(data).root) or run
            if root not in known:
                known[root] = _abandoned(rows, root)
            if known[root]:
                yield run, root, known[root]


def _abandoned(rows: Rows, root: bytes) -> str:
    data = rows.get("lease", root)
    if data is None:
        return "nobody carries it out"
    id = decode_lease(data).owner
    owner = rows.get("owner", id)
    return "its owner closed the store" if owner is None else gone(id, decode_owner(owner))


def examined(folder: Path, rows: Rows, files: Files, told: dict[str, Any]) -> Health:
    """
    A store in a folder.

    Args:
        folder: The folder.
        rows: Its tables.
        files: Its large values.
        told: What LMDB says: ``map_bytes``, ``used_bytes``, ``readers``, ``stale_readers``, ``unwritable``.
    """
    kind, mount = mount_of(folder)
    stat = os.statvfs(folder)
    free = stat.f_bavail * stat.f_frsize
    named = named_values(rows.scan("log", b"", b""))
    kept = [*files.all()]
    missing = named.difference(rows.keys("blob"), (digest for digest, _ in kept), redacted_values(rows))
    facts = {
        "path": str(folder),
        "file_system": kind or "unknown",
        "mounted_at": mount,
        "free_bytes": free,
        **told,
        **contents(rows, named),
        "open_in": users_of(folder),
        "files": len(kept),
        "file_value_bytes": sum(path.stat().st_size for _, path in kept),
        "values_missing": len(missing),
        "files_without_record": sum(digest not in named for digest, _ in kept),
    }
    found = attention(rows)
    if missing:
        found.append(
            f"{len(missing)} values that records name are missing, and were not redacted: restore them from a backup, from its folder"
            " blobs or its store. `pluperfect verify` names the records."
        )
    if told["unwritable"]:
        found.append(told["unwritable"])
    if is_network(kind):
        found.append(
            f"{folder} is on a network file system ({kind}): one machine at a time may use it. Move it to a disk."
        )
    if free < _LITTLE:
        found.append(f"{folder} has {free} bytes of free space left. Free some; `pluperfect prune` takes old runs out.")
    if told["used_bytes"] > _FULL * told["map_bytes"]:
        found.append(
            f"{told['used_bytes']} of {told['map_bytes']} bytes of the map are used; it grows when it is full. Prune, or"
            " compact."
        )
    return Health(facts, found)


def users_of(folder: Path) -> list[int]:
    """The processes that have the store open, as far as this machine tells; this one among them."""
    try:
        node = (folder / OWN_LOCK).stat().st_ino
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return []
    # "7: FLOCK  ADVISORY  READ 4242 fe:00:1234 0 EOF"
    fields = [line.split() for line in lines]
    return sorted({int(f[4]) for f in fields if len(f) > 5 and f[1] == "FLOCK" and f[5].endswith(f":{node}")})
