"""What a process does not load to begin: the shortcuts say the same as the libraries that they do without."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from importlib.machinery import PathFinder

import platformdirs
import pytest

from pluperfect.manager import _nobody_announces
from pluperfect.settings.folders import user_folder


@pytest.mark.parametrize("given", [None, "", "  ", "/etc/xdg", "relative"])
@pytest.mark.parametrize("what", ["config", "data"])
def test_the_folders_of_a_user_are_where_the_platform_keeps_them(monkeypatch, what, given):
    monkeypatch.delenv(f"XDG_{what.upper()}_HOME", raising=False)
    if given is not None:
        monkeypatch.setenv(f"XDG_{what.upper()}_HOME", given)
    there = platformdirs.user_config_dir if what == "config" else platformdirs.user_data_dir
    assert user_folder(what) == there("pluperfect", appauthor=False)


@pytest.fixture(autouse=True)
def one_finder(monkeypatch):
    """As in a process of its own: other libraries of this one may have put in finders."""
    plain = [one for one in sys.meta_path if one is PathFinder or not hasattr(one, "find_distributions")]
    monkeypatch.setattr(sys, "meta_path", plain)


def distribution(folder, group, name="some-1.0.dist-info"):
    info = folder / name
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: some\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[{group}]\nsome = some:plugin\n")
    return str(folder)


def test_a_distribution_that_announces_a_plugin_is_seen_wherever_it_stands(monkeypatch, tmp_path):
    other = distribution(tmp_path / "other", "pytest11")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "nowhere"), other])
    assert _nobody_announces()
    for number, name in enumerate(("some-1.0.dist-info", "some.egg-info")):
        found = distribution(tmp_path / f"found-{number}", "pluperfect", name)
        monkeypatch.setattr(sys, "path", [other, found])
        assert not _nobody_announces()
    monkeypatch.chdir(found)
    monkeypatch.setattr(sys, "path", [""])
    assert not _nobody_announces()


def test_where_files_cannot_tell_the_distributions_are_asked(monkeypatch, tmp_path):
    archive = tmp_path / "lib.zip"
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("empty.py", "")
    monkeypatch.setattr(sys, "path", [str(archive)])
    assert not _nobody_announces()

    class Finder:
        find_spec = find_distributions = staticmethod(lambda *given, **named: None)

    monkeypatch.setattr(sys, "path", [])
    assert _nobody_announces()
    monkeypatch.setattr(sys, "meta_path", [*sys.meta_path, Finder])
    assert not _nobody_announces()


PROGRAM = """
import sys
before = {*sys.modules}
import pluperfect
from pluperfect import flow, task

@task
def double(x):
    return 2 * x

@flow
def main():
    return double(21)

with pluperfect.open(sys.argv[1]) as log:
    assert main() == 42
print(*sorted(({*sys.modules} - before) & {"asyncio", "importlib.metadata", "platformdirs", "pydantic", "concurrent.futures", "ctypes", "socket", "tempfile", "json", "shutil", "pickle"}))
"""


def test_a_program_without_coroutines_runners_and_plugins_loads_none_of_what_they_need(tmp_path):
    script = tmp_path / "main.py"
    script.write_text(PROGRAM)
    run = subprocess.run(
        [sys.executable, script, f"lmdb:{tmp_path / 'runs'}"], check=True, capture_output=True, text=True
    )
    loaded = run.stdout.split()
    assert [name for name in loaded if name != "platformdirs" or sys.platform == "linux"] == []
