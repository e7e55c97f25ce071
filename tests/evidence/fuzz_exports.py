"""What atheris runs: any content, wrapped so that its length and digest fit, is refused with BadExport or is sound."""

from __future__ import annotations

import io
import sys
import zlib
from hashlib import sha256

import atheris

with atheris.instrument_imports():
    from pluperfect import exports
    from pluperfect.errors import BadCheckpoint, BadExport, StoreDamaged


def judge(data):
    head = b"pluperfect export 1\n" + len(data).to_bytes(8, "big") + sha256(data).digest()
    try:
        exports._read(io.BytesIO(head + zlib.compress(data, 1)), 1 << 20)
    except (BadExport, BadCheckpoint, StoreDamaged):
        pass


if __name__ == "__main__":
    atheris.Setup(sys.argv, judge)
    atheris.Fuzz()
