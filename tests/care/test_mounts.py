"""Network file systems are refused by their type, as the kernel lists them."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from pluperfect.errors import StoreError
from pluperfect.settings import settings
from pluperfect_store import mounts
from pluperfect_store.lmdb import LmdbLog

SAMPLE = r"""
22 27 0:21 / /proc rw,relatime - proc proc rw
27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard
40 27 0:44 / /mnt/team rw,relatime shared:12 - nfs4 server:/team rw,vers=4.2
41 27 0:45 / /mnt/my\040files rw - cifs //server/files rw
42 40 0:46 / /mnt/team/local rw master:2 propagate_from:1 - tmpfs tmpfs rw
43 27 0:47 / /over rw - ext4 /dev/vdb rw
44 27 0:48 / /over rw - fuse.sshfs me@server: rw
45 27 0:49 / /mnt/host rw - 9p host rw,trans=virtio
a line of another kind
"""


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/srv/runs", ("ext4", "/")),
        ("/", ("ext4", "/")),
        ("/mnt/team", ("nfs4", "/mnt/team")),
        ("/mnt/team/a/b", ("nfs4", "/mnt/team")),
        ("/mnt/teammate", ("ext4", "/")),
        ("/mnt/my files/runs", ("cifs", "/mnt/my files")),
        ("/mnt/team/local/runs", ("tmpfs", "/mnt/team/local")),
        ("/over/runs", ("fuse.sshfs", "/over")),
        ("/mnt/host/runs", ("9p", "/mnt/host")),
    ],
)
def test_the_file_system_of_a_path_is_the_nearest_mount_above_it(path, expected):
    assert mounts.file_system(SAMPLE, path) == expected
    assert mounts.file_system("", path) == ("", "")


def test_the_types_that_are_reached_over_a_network():
    far = "nfs nfs4 cifs smbfs smb2 smb3 9p fuse.sshfs fuse.rclone fuse.s3fs ceph lustre glusterfs afs fuse.glusterfs"
    near = "ext4 xfs btrfs tmpfs overlay zfs fuseblk fuse.ntfs-3g f2fs apfs nfsd virtiofs"

    assert [kind for kind in far.split() if not mounts.is_network(kind)] == []
    assert [kind for kind in near.split() if mounts.is_network(kind)] == []


def test_a_store_on_a_network_file_system_is_refused_unless_a_setting_allows_it(tmp_path, monkeypatch):
    """70. It is refused before anything is made there; the message says why, and what to do."""
    listed = tmp_path / "mountinfo"
    place = tmp_path / "far"
    listed.write_text(f"1 1 0:1 / / rw - ext4 x rw\n2 1 0:2 / {place} rw - nfs4 server:/x rw\n")
    monkeypatch.setattr(mounts, "_MOUNTINFO", listed)
    with pytest.raises(
        StoreError, match=r"network file system \(nfs4, mounted at .*break in silence.*disk of this machine"
    ):
        LmdbLog(place / "runs")
    assert not place.exists()
    with settings(allow_network_file_system=True):
        log = LmdbLog(place / "runs")
        assert any("network file system (nfs4)" in line for line in log.health().findings)
        log.close()


MOUNTED = """
import sys
from pluperfect_store import mounts
from pathlib import Path
print(*mounts.mount_of(Path(sys.argv[1]) / "runs" / "deep"))
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mount namespaces are Linux's")
def test_a_real_mount_is_found(tmp_path):
    """70. In a mount namespace of its own, a folder's file system is the one that was mounted there."""
    place = tmp_path / "my mount"
    place.mkdir()
    command = 'mount -t tmpfs none "$1" && exec "$2" -c "$3" "$1"'
    done = subprocess.run(
        ["unshare", "--mount", "--map-root-user", "sh", "-c", command, "sh", str(place), sys.executable, MOUNTED],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ},
    )
    if "unshare" in done.stderr or "mount:" in done.stderr:
        pytest.skip(f"this system lets nobody mount: {done.stderr.strip()}")

    assert done.stdout.strip() == f"tmpfs {place}"
