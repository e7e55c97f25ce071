"""``pluperfect config`` and ``pluperfect profile``: what they write is what is read, and nothing else changes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from pluperfect import settings as room
from pluperfect.authoring.cli import main
from pluperfect.errors import ConfigurationError
from pluperfect.settings import SETTINGS, current, origins, refresh
from pluperfect_plugins import configuring
from pluperfect_plugins.tomlfile import TomlFile, written


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A folder for the configuration, another to work in, and nothing set."""
    for name in list(os.environ):
        if name.startswith("PLUPERFECT_"):
            monkeypatch.delenv(name)
    (tmp_path / "work").mkdir()
    monkeypatch.setenv("PLUPERFECT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work")
    room._warned.clear()
    refresh()
    yield tmp_path / "home"
    refresh()


def cli(*words, code=0):
    result = CliRunner().invoke(main, words)
    assert result.exit_code == code, (result.output, result.exception)
    return result.output


def put(file, text):
    file.parent.mkdir(exist_ok=True)
    file.write_text(text)


def view(*words):
    return json.loads(cli("config", "view", "--json", "--hide-sources", *words))


# --- the commands as Prefect's users write them


def test_a_retry_is_set_as_in_prefect(home):
    done = subprocess.run(
        [sys.executable, "-m", "pluperfect", *"config set PREFECT_TASK_DEFAULT_RETRIES=2".split()],
        capture_output=True,
        text=True,
        check=True,
    )

    assert "Set PLUPERFECT_TASKS_DEFAULT_RETRIES to 2" in done.stdout
    assert current().tasks_default_retries == 2


def test_a_list_of_delays_with_blanks_needs_no_quotes(home):
    words = "config set PREFECT_TASK_DEFAULT_RETRY_DELAY_SECONDS = [1, 10, 100]".split(" ")
    subprocess.run([sys.executable, "-m", "pluperfect", *words], capture_output=True, check=True)

    assert current().tasks_default_retry_delay_seconds == [1, 10, 100]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["TASKS_DEFAULT_RETRIES=2", "FLOWS_DEFAULT_RETRIES=3"], {"TASKS_DEFAULT_RETRIES": 2, "FLOWS_DEFAULT_RETRIES": 3}),
        (["task_default_retries", "=", "2", "STORE", "=", "a", "b"], {"TASKS_DEFAULT_RETRIES": 2, "STORE": "a b"}),
        (["TASK_DEFAULT_RETRIES", "=2", "STORE=x"], {"TASKS_DEFAULT_RETRIES": 2, "STORE": "x"}),
        (["FLOW_DEFAULT_RETRY_DELAY_SECONDS=[1,", "2]", "LOGGING_COLORS=no"],
         {"FLOWS_DEFAULT_RETRY_DELAY_SECONDS": [1, 2], "LOGGING_COLORS": False}),
        (["STORE=lmdb:a=b"], {"STORE": "lmdb:a=b"}),
    ],
)  # fmt: skip
def test_several_assignments_may_stand_in_one_command(words, expected, home):
    cli("config", "set", *words)

    assert view() == {"PLUPERFECT_HOME": str(home)} | {f"PLUPERFECT_{name}": value for name, value in expected.items()}


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["TASK_DEFAULT_RETRYS=2"], "There is no setting TASK_DEFAULT_RETRYS. Did you mean TASK_DEFAULT_RETRIES?"),
        (["PREFECT_API_URL=x"], "There is no setting PREFECT_API_URL."),
        (["TASK_DEFAULT_RETRIES=-1"], "It must be a whole number, 0 or more."),
        (["TASK_DEFAULT_RETRIES", "=", "-1"], "It must be a whole number, 0 or more."),
        (["TASK_DEFAULT_RETRIES"], "'TASK_DEFAULT_RETRIES' is no assignment: write NAME=VALUE"),
        (["PROFILE=x"], "`pluperfect profile use NAME`"),
        (["FLOWS_DEFAULT_RETRIES=1", "TASK_DEFAULT_RETRIES=x"], "It must be a whole number, 0 or more."),
    ],
)
def test_what_is_wrong_is_refused_with_what_is_allowed_and_nothing_is_written(words, told, home):
    assert told in cli("config", "set", *words, code=2)
    assert not (home / "settings.toml").exists()


def test_a_value_that_utf_8_does_not_have_is_not_written(home):
    assert "cannot be written" in cli("config", "set", "STORE=\udce4", code=1)
    assert list(home.iterdir()) == []


def test_set_warns_where_a_stronger_source_sets_the_same(home, monkeypatch):
    monkeypatch.setenv("PLUPERFECT_TASK_DEFAULT_RETRIES", "5")
    assert "is also set by the environment variable PLUPERFECT_TASK_DEFAULT_RETRIES, which wins" in cli(
        "config", "set", "TASKS_DEFAULT_RETRIES=2"
    )
    Path("pluperfect.toml").write_text("store = 'x'\n")
    assert "pluperfect.toml:1, which wins" in cli("config", "set", "STORE=y")
    assert "Warning" not in cli("config", "set", "LOGGING_COLORS=no")


# --- what is written

TEXT = """\
# Mine.
tasks_default_retries = 1  # not too many = "#"

  store   ="lmdb:#1"#here
[tasks]
# delays
default_retry_delay_seconds = [
    1, 2,
]  # seconds
runner = { thread_pool_max_workers = 3, process_pool_max_workers = 2 }

# about logging
[logging]
level = 'DEBUG'
"""


def test_comments_order_and_blanks_stay(home):
    put(home / "settings.toml", TEXT)
    cli(
        "config",
        "set",
        "TASK_DEFAULT_RETRIES=7",
        "STORE=memory:",
        "TASK_DEFAULT_RETRY_DELAY_SECONDS=3",
        "LOGGING_LEVEL=info",
    )

    expected = (
        TEXT.replace("retries = 1", "retries = 7")
        .replace('="lmdb:#1"', '="memory:"')
        .replace("[\n    1, 2,\n]", "3")
        .replace("'DEBUG'", '"INFO"')
    )
    assert (home / "settings.toml").read_text() == expected

    cli("config", "unset", "STORE", "LOGGING_LEVEL")
    assert (home / "settings.toml").read_text() == expected.replace('  store   ="memory:"#here\n', "").replace(
        'level = "INFO"\n', ""
    )


def test_a_setting_in_an_inline_table_is_set_and_its_neighbours_stay(home):
    put(home / "settings.toml", TEXT)
    cli("config", "set", "TASKS_RUNNER_THREAD_POOL_MAX_WORKERS=9")

    assert current().tasks_runner_thread_pool_max_workers == 9
    assert current().tasks_runner_process_pool_max_workers == 2
    assert "# about logging\n[logging]" in (home / "settings.toml").read_text()


def test_a_new_setting_stands_behind_the_others_and_before_the_first_table(home):
    put(home / "settings.toml", "store = 'x'\n# behind\n\n# about\n[tasks]\ndefault_retries = 1\n")
    cli("config", "set", "LOGGING_COLORS=false")
    assert (
        (home / "settings.toml")
        .read_text()
        .startswith("store = 'x'\nlogging_colors = false\n# behind\n\n# about\n[tasks]")
    )
    put(home / "settings.toml", "[tasks]\ndefault_retries = 1\n")
    cli("config", "set", "LOGGING_COLORS=false")
    assert current().logging_colors is False
    assert current().tasks_default_retries == 1
    put(home / "settings.toml", "# only a comment")
    cli("config", "set", "LOGGING_COLORS=false")
    assert (home / "settings.toml").read_text() == "# only a comment\nlogging_colors = false\n"


def test_one_spelling_is_left_of_two(home):
    put(home / "settings.toml", "TASK_DEFAULT_RETRIES = 1\n[tasks]\ndefault_retries = 2\n")
    cli("config", "set", "TASKS_DEFAULT_RETRIES=3")

    assert tomllib.loads((home / "settings.toml").read_text()) == {"TASK_DEFAULT_RETRIES": 3, "tasks": {}}
    cli("config", "unset", "TASKS_DEFAULT_RETRIES")
    assert current().tasks_default_retries == 0


def test_line_ends_rights_and_links_stay(home, tmp_path):
    real = tmp_path / "dotfiles.toml"
    real.write_bytes(b"# mine\r\nstore = 'x' # y\r\n")
    real.chmod(0o640)
    home.mkdir()
    (home / "settings.toml").symlink_to(real)
    cli("config", "set", "STORE=z", "LOGGING_COLORS=no")

    assert real.read_bytes() == b'# mine\r\nstore = "z" # y\r\nlogging_colors = false\r\n'
    assert real.stat().st_mode & 0o777 == 0o640
    assert (home / "settings.toml").is_symlink()


def test_a_file_that_is_no_toml_is_left_alone(home):
    put(home / "settings.toml", "store = 'x'\nstore = \n")

    assert "settings.toml:2 is no TOML" in cli("config", "set", "STORE=y", code=1)
    assert (home / "settings.toml").read_text() == "store = 'x'\nstore = \n"


def test_a_wrong_value_elsewhere_can_be_mended_by_set_and_unset(home):
    put(home / "settings.toml", "tasks_default_retries = -1\nlogging_level = 3\n")
    assert "It must be" in cli("config", "view", code=1)
    cli("config", "set", "TASKS_DEFAULT_RETRIES=1")
    cli("config", "unset", "LOGGING_LEVEL")
    assert current().tasks_default_retries == 1


def test_the_file_is_replaced_in_one_step_by_one_in_its_folder(home, monkeypatch):
    put(home / "settings.toml", "store = 'x'\n")
    seen = []
    audited = [True]

    def hook(event, args):
        if audited and event == "os.rename" and str(home) in str(args[1]):
            seen.append((Path(args[0]).parent, Path(args[1]), Path(args[1]).read_text(), Path(args[0]).read_text()))

    sys.addaudithook(hook)
    cli("config", "set", "STORE=y")
    audited.clear()

    assert seen == [(home, home / "settings.toml", "store = 'x'\n", 'store = "y"\n')]


def test_a_write_that_fails_leaves_the_old_file_and_no_other(home, monkeypatch):
    put(home / "settings.toml", "store = 'x'\n")

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert "No space left on device" in cli("config", "set", "STORE=y", code=1)
    assert [(file.name, file.read_text()) for file in home.iterdir()] == [("settings.toml", "store = 'x'\n")]


KILLED = """
import os, sys
from pluperfect.authoring.cli import main
real = os.fsync
def killed(handle):
    real(handle)
    os.kill(os.getpid(), 9)
os.fsync = killed
main(["config", "set", "STORE=y"])
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL")
def test_a_kill_in_the_middle_leaves_the_old_file(home):
    put(home / "settings.toml", "store = 'x'\n")
    assert subprocess.run([sys.executable, "-c", KILLED], check=False).returncode == -9

    assert (home / "settings.toml").read_text() == "store = 'x'\n"
    cli("config", "set", "STORE=z")
    assert current().store == "z"


texts = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12).map(str.strip)
numbers = st.integers(0, 2**63 - 1) | st.floats(0, allow_nan=False, allow_infinity=False)
names = st.lists(texts, max_size=3)
LEGAL = {
    "retries": st.integers(0, 2**63 - 1),
    "delay_seconds": numbers | st.lists(numbers, max_size=4),
    "max_workers": st.none() | st.integers(1, 2**63 - 1),
    "tasks_default_persist_result": st.none() | st.booleans(),
    "results_default_serializer": st.none() | texts.filter(bool),
    "store": st.none() | texts.filter(bool),
    "home": texts.filter(bool),
    "logging_level": st.sampled_from(["DEBUG", "INFO", "WARNING", "ERROR", "CRITICAL"]),
    "logging_extra_loggers": st.none() | names,
    "logging_to_console": st.sampled_from(["auto", "always", "never"]),
}


def legal(field):
    """The values that a setting takes."""
    return next((values for name, values in LEGAL.items() if field.endswith(name)), st.booleans())


CHANGES = st.sampled_from(sorted(set(SETTINGS) - {"profile"})).flatmap(
    lambda field: st.tuples(st.just(field), st.sampled_from(["PLUPERFECT_", "PREFECT_", ""]), legal(field))
)


@settings(max_examples=60, deadline=None)
@given(st.lists(CHANGES, min_size=1, max_size=4), st.booleans(), st.sampled_from(["", TEXT]))
def test_what_set_writes_view_reads_back(changes, in_profile, before):
    expected = {}
    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryDirectory() as folder:
        # The folder of the configuration is the platform's here, so that HOME can be set in a file too.
        patch.delenv("PLUPERFECT_HOME", raising=False)
        patch.setattr(origins, "config_folder", lambda: folder)
        patch.setattr(configuring, "config_folder", lambda: folder)
        if in_profile:
            cli("profile", "create", "it's")
            cli("profile", "use", "it's")
        else:
            Path(folder, "settings.toml").write_text(before)
        for field, prefix, value in changes:
            text = "" if value is None else value if isinstance(value, str) else json.dumps(value)
            cli("config", "set", f"{prefix}{field.upper()}={text}")
            expected[f"PLUPERFECT_{field.upper()}"] = value
        shown = view("--show-defaults")
        assert {name: shown[name] for name in expected} == expected
        assert {name: getattr(current(), SETTINGS[name[11:].lower()].field) for name in expected} == expected
        for field, _, _ in changes:
            cli("config", "unset", field)
        assert set(view()) & set(expected) == set()


@given(st.none() | st.booleans() | texts | numbers | st.lists(numbers | texts))
def test_a_value_as_toml_is_read_as_itself(value):
    assert tomllib.loads(f"x = {written(value)}")["x"] == ("" if value is None else value)


# --- view and validate


def test_view_shows_what_is_set_with_its_source_and_with_show_defaults_all(home):
    cli("config", "set", "LOGGING_EXTRA_LOGGERS=a,b")

    assert f'PLUPERFECT_LOGGING_EXTRA_LOGGERS=["a", "b"]  (from {home / "settings.toml"}:1)' in cli("config", "view")
    assert "(from" not in cli("config", "view", "--hide-sources")
    assert "LOGGING_COLORS" not in cli("config", "view")
    assert "PLUPERFECT_LOGGING_COLORS=true  (from default)" in cli("config", "view", "--show-defaults")
    assert set(view("--show-defaults")) == {setting.name for setting in SETTINGS.values()}
    shown = json.loads(cli("config", "view", "--json"))
    assert shown["PLUPERFECT_LOGGING_EXTRA_LOGGERS"] == {"value": ["a", "b"], "source": f"{home / 'settings.toml'}:1"}


def test_a_secret_is_shown_as_stars(monkeypatch):
    monkeypatch.setattr(
        "pluperfect_plugins.configuring.sources", lambda: {"PLUPERFECT_X": (room.Secret("hunter2"), "somewhere")}
    )

    assert cli("config", "view") == "PLUPERFECT_X=********  (from somewhere)\n"
    assert view() == {"PLUPERFECT_X": "********"}


def test_validate_finds_what_is_unknown_wrong_double_or_no_toml_in_every_source(home, monkeypatch, tmp_path):
    assert "Every source is in order" in cli("config", "validate")
    put(home / "settings.toml", "store = 'x'\nstor = 'x'\n[tasks]\ndefault_retries = -1\n")
    put(home / "profiles.toml", "activ = 1\n[profiles.idle]\nTASK_DEFAULT_RETRIES = 'x'\n")
    Path("pluperfect.toml").write_text("store = \n")
    Path("pyproject.toml").write_text("[tool.pluperfect]\nflow_default_retries = 1\nflows_default_retries = 1\n")
    monkeypatch.setenv("PLUPERFECT_TASK_RETRIES", "1")
    monkeypatch.setenv("PLUPERFECT_TASKS_REFRESH_CACHE", "perhaps")
    monkeypatch.setenv("PLUPERFECT__RUNTIME__X", "1")
    refresh()

    found = json.loads(cli("config", "validate", "--json", code=1))
    work = tmp_path / "work"
    for told in (
        f"{home / 'settings.toml'}:2: There is no setting stor. Did you mean store?",
        f"PLUPERFECT_TASKS_DEFAULT_RETRIES is -1 in {home / 'settings.toml'}:4.",
        f"{home / 'profiles.toml'}:1: activ means nothing",
        f"PLUPERFECT_TASKS_DEFAULT_RETRIES is 'x' in {home / 'profiles.toml'}:3 (profile idle).",
        f"{work / 'pluperfect.toml'}:1 is no TOML",
        f"{work / 'pyproject.toml'}:3: PLUPERFECT_FLOWS_DEFAULT_RETRIES is set twice",
        "the environment variable PLUPERFECT_TASK_RETRIES: There is no setting",
        "PLUPERFECT_TASKS_REFRESH_CACHE is 'perhaps' in the environment variable",
    ):
        assert sum(told in line for line in found) == 1, (told, found)
    assert len(found) == 8
    assert "8 found." in cli("config", "validate", code=1)


# --- profiles


def listed():
    return {row["name"]: row["active"] for row in json.loads(cli("profile", "ls", "--json"))}


def test_a_profile_is_made_used_set_inspected_renamed_and_deleted(home):
    assert listed() == {"default": True}
    cli("profile", "create", "a")
    cli("profile", "use", "a")
    cli("config", "set", "TASK_DEFAULT_RETRIES=2")
    assert not (home / "settings.toml").exists()
    assert json.loads(cli("profile", "inspect", "--json")) == {"PLUPERFECT_TASKS_DEFAULT_RETRIES": 2}
    cli("profile", "create", "b", "--from", "a")
    cli("profile", "rename", "a", "c d")
    assert listed() == {"b": False, "c d": True, "default": False}
    assert current().tasks_default_retries == 2
    cli("profile", "use", "default")
    assert current().tasks_default_retries == 0
    cli("profile", "delete", "c d")
    assert listed() == {"b": False, "default": True}
    assert cli("profile", "inspect", "b") == "PLUPERFECT_TASKS_DEFAULT_RETRIES=2\n"
    assert "sets nothing" in cli("profile", "inspect")
    cli("config", "set", "STORE=x")
    assert (home / "settings.toml").read_text() == 'store = "x"\n'


def test_an_edit_of_profiles_keeps_comments_and_what_belongs_to_others(home):
    text = "# mine\nactive = 'a' # now\n\n[profiles.a]\nSTORE = 'x'\n\n# of b\n[profiles.b] # two\n# in b\n[profiles.b.tasks]\ndefault_retries = 1\n\n# of c\n[profiles.c]\n"
    put(home / "profiles.toml", text)
    cli("profile", "rename", "b", "d")
    assert (home / "profiles.toml").read_text() == text.replace("profiles.b", "profiles.d")
    cli("config", "set", "LOGGING_COLORS=no")
    now = text.replace("profiles.b", "profiles.d").replace("'x'\n", "'x'\nPLUPERFECT_LOGGING_COLORS = false\n")
    assert (home / "profiles.toml").read_text() == now
    cli("profile", "delete", "d")
    assert (home / "profiles.toml").read_text() == now[: now.index("[profiles.d]")] + now[now.index("\n# of c") :]
    cli("profile", "use", "c")
    assert (home / "profiles.toml").read_text().startswith('# mine\nactive = "c" # now\n')


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["use", "stagin"], "Did you mean 'staging'"),
        (["use", "zzz"], "`pluperfect profile create zzz` makes it"),
        (["create", "staging"], "already"),
        (["create", "default"], "already"),
        (["create", " "], "no name for a profile"),
        (["create", "x", "--from", "stagin"], "Did you mean 'staging'"),
        (["rename", "staging", "default"], "already"),
        (["rename", "default", "x"], "built in"),
        (["delete", "default"], "built in"),
        (["delete", "staging"], "is active"),
        (["inspect", "stagin"], "Did you mean 'staging'"),
    ],
)
def test_a_wrong_use_of_profiles_exits_with_2_and_says_what_is_meant(words, told, home):
    text = "active = 'staging'\n[profiles.staging]\n"
    put(home / "profiles.toml", text)

    assert told in cli("profile", *words, code=2)
    assert (home / "profiles.toml").read_text() == text


def test_an_edit_that_lines_do_not_allow_is_refused_and_nothing_is_written(home):
    text = "active = 'x'\nprofiles = { x = { STORE = 'a' }, y = {} }\n"
    put(home / "profiles.toml", text)

    assert "edit it by hand" in cli("profile", "create", "z", code=1)
    assert "edit it by hand" in cli("profile", "rename", "y", "z", code=1)
    assert "by hand" in cli("config", "set", "LOGGING_COLORS=no", code=1)
    assert (home / "profiles.toml").read_text() == text
    file = TomlFile(str(home / "profiles.toml"))
    file.text += "x = \n"
    with pytest.raises(ConfigurationError, match="Nothing was written"):
        file.save()


def test_use_warns_where_the_variable_names_another_profile(home, monkeypatch):
    cli("profile", "create", "a")
    monkeypatch.setenv("PLUPERFECT_PROFILE", "default")

    assert "PLUPERFECT_PROFILE names 'default', which wins" in cli("profile", "use", "a")
    assert listed() == {"a": False, "default": True}
