"""
The marks by which hooks are known, and the built-in plugins by name.

This room imports pluggy alone, so that the command line can list its commands without the engine.
"""

from __future__ import annotations

from typing import Final

import pluggy

__all__ = ["BUILTIN", "hookimpl", "hookspec"]

hookspec: Final = pluggy.HookspecMarker("pluperfect")
"""Marks the declarations of hooks in `Specs`; plugins have no need of it."""
hookimpl: Final = pluggy.HookimplMarker("pluperfect")
"""
Mark a function or method as the implementation of the hook with its name: ``@hookimpl``.

It names those of the hook's arguments that it wants, in any order, and is called with these.
"""

BUILTIN: Final = {
    "memory": "pluperfect_store.memory",
    "lmdb": "pluperfect_store.lmdb",
    "threads": "pluperfect.authoring.runners",
    "dask": "pluperfect_dask",
    "results": "pluperfect_plugins.results",
    "inspect": "pluperfect_plugins.inspect",
    "evidence": "pluperfect_plugins.evidence",
    "config": "pluperfect_plugins.config",
    "care": "pluperfect_plugins.care",
    "prints": "pluperfect_plugins.prints",
    "callbacks": "pluperfect_plugins.callbacks",
    "caching": "pluperfect_plugins.caching",
    "retries": "pluperfect_plugins.retries",
    "classic": "pluperfect_plugins.classic",
}
"""The built-in plugins by name, the last asked first. They are imported like anyone's."""
