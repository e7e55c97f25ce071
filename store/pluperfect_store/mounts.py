"""
Which file system a folder is on.

Over a network LMDB's memory map and locks hold for one machine at most, and a store breaks in silence; so such a
folder is refused before anything is opened in it.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

from pluperfect.errors import StoreError
from pluperfect.settings import get_current_settings

__all__ = ["file_system", "is_network", "mount_of", "refuse_network"]

_MOUNTINFO: Final = Path("/proc/self/mountinfo")

_NETWORK: Final = frozenset(
    "9p afs beegfs ceph cifs coda davfs glusterfs gpfs lustre ncpfs orangefs pvfs2".split()
)  # besides nfs, nfs4 and the like, and smb3 and the like
_IN_USERSPACE: Final = frozenset(
    "ceph ceph-fuse cifs curlftpfs davfs davfs2 gcsfuse glusterfs goofys juicefs mount-s3 rclone s3backer s3fs smbnetfs sshfs".split()
)


def file_system(mountinfo: str, path: str) -> tuple[str, str]:
    """
    The type of the file system that a path is on, and where it is mounted; two empty texts where that cannot be told.

    Args:
        mountinfo: The text of ``/proc/self/mountinfo``.
        path: Absolute, without links.
    """
    best = ("", "")
    for line in mountinfo.splitlines():
        mount, dash, rest = line.partition(" - ")
        fields = mount.split(" ")
        if not dash or len(fields) < 6:
            continue
        place = fields[4]
        if "\\" in place:
            place = re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), place)
        inside = path == place or path.startswith(place.rstrip("/") + "/")
        if inside and len(place) >= len(best[1]):  # of mounts on one place the last is seen
            best = (rest.split(" ", 1)[0], place)
    return best


def is_network(kind: str) -> bool:
    """Whether file systems of this type are reached over a network."""
    base, dot, name = kind.partition(".")
    if dot and base == "fuse":
        return name in _IN_USERSPACE or name.startswith("nfs")
    return kind in _NETWORK or kind.startswith("smb") or kind.rstrip("0123456789") == "nfs"


def mount_of(folder: Path) -> tuple[str, str]:
    """The type of a folder's file system, and where that is mounted."""
    try:
        text = _MOUNTINFO.read_text(errors="surrogateescape")
    except OSError:
        return "", ""
    return file_system(text, os.path.realpath(folder))


def refuse_network(folder: Path) -> None:
    """
    Make sure that a folder is not on a network file system.

    Raises:
        StoreError: It is, and no setting allows it.
    """
    kind, mount = mount_of(folder)
    if is_network(kind) and not get_current_settings().allow_network_file_system:
        raise StoreError(
            f"{folder} is on a network file system ({kind}, mounted at {mount}), where the locks and the memory map of a store"
            " do not hold between machines: it would break in silence. Choose a folder on a disk of this machine. If one"
            " machine alone ever uses it, set PLUPERFECT_ALLOW_NETWORK_FILE_SYSTEM=true."
        )
