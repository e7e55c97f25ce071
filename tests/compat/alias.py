"""`prefect` as another name for `pluperfect`: how a program that was written for the one is run on the other, unchanged."""

from __future__ import annotations

import importlib
import sys
from contextlib import contextmanager
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec


class Alias(MetaPathFinder, Loader):
    """Finds ``old.x.y`` as the very module ``new.x.y``; a module that ``new`` lacks is not found."""

    def __init__(self, old="prefect", new="pluperfect"):
        self.old, self.new = old, new
        self._specs = {}

    def _real(self, name):
        return self.new + name.removeprefix(self.old)

    def find_spec(self, fullname, path=None, target=None):
        if fullname != self.old and not fullname.startswith(f"{self.old}."):
            return None
        if find_spec(self._real(fullname)) is None:
            return None
        return ModuleSpec(fullname, self)

    def create_module(self, spec):
        module = importlib.import_module(self._real(spec.name))
        self._specs[spec.name] = module.__spec__
        return module

    def exec_module(self, module):
        # The import system has put the alias's spec on the module; its relative imports need its own.
        module.__spec__ = self._specs.pop(module.__spec__.name)


@contextmanager
def aliased(old="prefect", new="pluperfect"):
    """Have ``old`` mean ``new`` inside, and whatever it was before again after."""
    before = {name: sys.modules.pop(name) for name in [*sys.modules] if name == old or name.startswith(f"{old}.")}
    finder = Alias(old, new)
    sys.meta_path.insert(0, finder)
    try:
        yield
    finally:
        sys.meta_path.remove(finder)
        for name in [name for name in sys.modules if name == old or name.startswith(f"{old}.")]:
            del sys.modules[name]
        sys.modules.update(before)
