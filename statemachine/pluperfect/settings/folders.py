"""Where a user keeps what programs have: settings in one folder, data in another."""

from __future__ import annotations

import os
import sys
from typing import Final, Literal

__all__ = ["user_folder"]

_XDG: Final = {"config": ("XDG_CONFIG_HOME", "~/.config"), "data": ("XDG_DATA_HOME", "~/.local/share")}


def user_folder(what: Literal["config", "data"]) -> str:
    """The folder of this library for the user's settings or data, as platformdirs has it."""
    if sys.platform == "linux" and "ANDROID_DATA" not in os.environ:
        # The XDG base directories: the import of platformdirs takes longer than all that a small flow does.
        variable, otherwise = _XDG[what]
        base = os.environ.get(variable, "")
        return os.path.join(base if os.path.isabs(base) else os.path.expanduser(otherwise), "pluperfect")
    import platformdirs

    ask = platformdirs.user_config_dir if what == "config" else platformdirs.user_data_dir
    return ask("pluperfect", appauthor=False)
