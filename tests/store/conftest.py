from __future__ import annotations

from processes import program

__all__ = ["program"]
