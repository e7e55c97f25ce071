"""Settings: where they come from, who wins, and what is said of those that are wrong."""

from __future__ import annotations

import contextvars
import itertools
import logging
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import Annotated

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pluperfect
from pluperfect import settings as room
from pluperfect.authoring.logs import default_uri
from pluperfect.errors import ConfigurationError
from pluperfect.settings import (
    SETTINGS,
    About,
    Kind,
    Profile,
    Secret,
    current,
    describe,
    get_current_settings,
    layers,
    lookup,
    profiles,
    refresh,
    sources,
    statements,
    temporary_settings,
)
from pluperfect.settings import settings as with_settings

RETRIES, DELAY = "TASKS_DEFAULT_RETRIES", "TASKS_DEFAULT_RETRY_DELAY_SECONDS"


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A folder for the configuration, another to work in, and nothing set."""
    for name in list(os.environ):
        if name.startswith("PLUPERFECT_"):
            monkeypatch.delenv(name)
    (tmp_path / "home").mkdir()
    (tmp_path / "work" / "deep").mkdir(parents=True)
    monkeypatch.setenv("PLUPERFECT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path / "work" / "deep")
    room._warned.clear()
    refresh()
    yield tmp_path / "home"
    refresh()


@pytest.fixture
def write(tmp_path):
    def write(name, text):
        (tmp_path / name).write_text(text)
        refresh()

    return write


# --- sources, the first that wins first

SOURCES = {
    "environment": lambda write, env, n: env.setenv(f"PLUPERFECT_{RETRIES}", str(n)),
    "pluperfect.toml": lambda write, env, n: write("work/pluperfect.toml", f"tasks_default_retries = {n}\n"),
    "pyproject.toml": lambda write, env, n: write(
        "work/pyproject.toml", f"[project]\nname = 'x'\n\n[tool.pluperfect]\ntasks_default_retries = {n}\n"
    ),
    "profile": lambda write, env, n: write(
        "home/profiles.toml", f'active = "x"\n\n[profiles.x]\nPLUPERFECT_TASKS_DEFAULT_RETRIES = "{n}"\n'
    ),
    "user file": lambda write, env, n: write("home/settings.toml", f"tasks_default_retries = {n}\n"),
}


@pytest.mark.parametrize("source", SOURCES)
def test_every_source_is_read(source, write, monkeypatch):
    SOURCES[source](write, monkeypatch, 3)

    assert current().tasks_default_retries == 3
    assert current().flows_default_retries == 0


@pytest.mark.parametrize(("first", "second"), [*itertools.pairwise(SOURCES)])
def test_of_two_neighbouring_sources_the_first_wins(first, second, write, monkeypatch):
    SOURCES[first](write, monkeypatch, 1)
    SOURCES[second](write, monkeypatch, 2)

    assert current().tasks_default_retries == 1


def test_temporary_settings_win_over_the_environment_and_the_user_file_over_the_default(write, monkeypatch):
    assert current().tasks_default_retries == 0
    SOURCES["user file"](write, monkeypatch, 5)
    assert current().tasks_default_retries == 5
    SOURCES["environment"](write, monkeypatch, 1)
    with temporary_settings({RETRIES: 7}):
        assert current().tasks_default_retries == 7
    assert current().tasks_default_retries == 1


def test_sources_name_the_variable_and_the_file_with_the_line(write, monkeypatch, tmp_path):
    monkeypatch.setenv("PLUPERFECT_STORE", "memory:")
    write("home/settings.toml", "# mine\n\nflow_default_retries = 1\n")
    write("home/profiles.toml", 'active = "x"\n[profiles.x]\nPREFECT_LOGGING_LEVEL = "debug"\n')
    write("work/pluperfect.toml", "[tasks.runner]\n\nthread_pool_max_workers = 4\n")
    write("work/pyproject.toml", "[tool.pluperfect.tasks]\ndefault_retries = 2\n")

    found = sources()

    assert found["PLUPERFECT_STORE"] == ("memory:", "the environment variable PLUPERFECT_STORE")
    assert found["PLUPERFECT_FLOWS_DEFAULT_RETRIES"] == (1, f"{tmp_path / 'home' / 'settings.toml'}:3")
    assert found["PLUPERFECT_LOGGING_LEVEL"] == ("DEBUG", f"{tmp_path / 'home' / 'profiles.toml'}:3 (profile x)")
    assert found["PLUPERFECT_TASKS_RUNNER_THREAD_POOL_MAX_WORKERS"] == (4, f"{tmp_path / 'work' / 'pluperfect.toml'}:3")
    assert found["PLUPERFECT_TASKS_DEFAULT_RETRIES"] == (2, f"{tmp_path / 'work' / 'pyproject.toml'}:2")
    assert found["PLUPERFECT_PROFILE"] == ("x", f"{tmp_path / 'home' / 'profiles.toml'}:1")
    assert found["PLUPERFECT_LOGGING_COLORS"] == (True, "default")
    with temporary_settings({RETRIES: 9}, set_defaults={"TASKS_REFRESH_CACHE": True}):
        assert sources()["PLUPERFECT_TASKS_DEFAULT_RETRIES"] == (9, "temporary_settings")
        assert sources()["PLUPERFECT_TASKS_REFRESH_CACHE"] == (True, "temporary_settings (set_defaults)")


def test_a_variable_of_prefect_is_not_read(monkeypatch):
    monkeypatch.setenv("PREFECT_TASKS_DEFAULT_RETRIES", "4")

    assert current().tasks_default_retries == 0


def test_an_empty_variable_is_not_set_and_one_with_a_double_underscore_is_ignored(monkeypatch, caplog):
    monkeypatch.setenv("PLUPERFECT_TASKS_DEFAULT_RETRIES", "")
    monkeypatch.setenv("PLUPERFECT__RUNTIME__FLOW_RUN__NAME", "x")

    assert current().tasks_default_retries == 0
    assert caplog.records == []


def test_the_nearest_project_file_counts_and_not_those_above_it(write):
    write("work/pluperfect.toml", "tasks_default_retries = 1\nflows_default_retries = 1\n")
    write("work/deep/pluperfect.toml", "tasks_default_retries = 2\n")

    assert (current().tasks_default_retries, current().flows_default_retries) == (2, 0)


def test_a_pyproject_that_does_not_name_us_is_not_our_business(write):
    write("work/pyproject.toml", "this is no TOML\n")
    assert current().tasks_default_retries == 0
    write("work/pyproject.toml", "[tool]\nother = 'pluperfect'\n")
    assert current().tasks_default_retries == 0


@pytest.mark.parametrize(
    "text",
    [
        "tasks_default_retries = 2",
        "TASKS_DEFAULT_RETRIES = 2",
        "PLUPERFECT_TASKS_DEFAULT_RETRIES = 2",
        "PREFECT_TASK_DEFAULT_RETRIES = '2'",
        "task_default_retries = 2",
        "tasks.default_retries = 2",
        "tasks = { default_retries = 2 }",
        "[tasks]\ndefault_retries = 2",
        "[tasks.default]\nretries = 2",
    ],
)
def test_a_file_may_spell_a_setting_flat_or_nested(text, write):
    write("work/pluperfect.toml", text)

    assert current().tasks_default_retries == 2


def test_of_two_spellings_in_one_source_the_name_wins_over_its_alias(write, monkeypatch):
    write("work/pluperfect.toml", "tasks_default_retries = 1\ntask_default_retries = 2\n")
    assert current().tasks_default_retries == 1
    monkeypatch.setenv("PLUPERFECT_TASK_DEFAULT_RETRIES", "4")
    monkeypatch.setenv("PLUPERFECT_TASKS_DEFAULT_RETRIES", "3")
    assert current().tasks_default_retries == 3


# --- profiles


def test_the_variable_chooses_the_profile_and_else_the_file(write, monkeypatch):
    write(
        "home/profiles.toml",
        'active = "a"\n[profiles.a]\nTASKS_DEFAULT_RETRIES = 1\n[profiles.b]\nPREFECT_TASK_DEFAULT_RETRIES = 2\n',
    )

    assert (current().profile, current().tasks_default_retries) == ("a", 1)
    monkeypatch.setenv("PLUPERFECT_PROFILE", "b")
    assert (current().profile, current().tasks_default_retries) == ("b", 2)
    monkeypatch.setenv("PLUPERFECT_PROFILE", "default")
    assert (current().profile, current().tasks_default_retries) == ("default", 0)
    assert profiles().by_name["b"] == Profile("b", {"PREFECT_TASK_DEFAULT_RETRIES": 2})


def test_a_profile_that_is_not_there_is_an_error_with_the_place_and_a_near_one(write, monkeypatch):
    write("home/profiles.toml", "[profiles.staging]\n")
    monkeypatch.setenv("PLUPERFECT_PROFILE", "stagin")

    with pytest.raises(ConfigurationError, match=r"PLUPERFECT_PROFILE names .*profiles.toml. Did you mean 'staging'"):
        current()


def test_a_profile_is_not_chosen_by_a_file_of_settings_nor_by_a_block(write, caplog):
    write("work/pluperfect.toml", "profile = 'x'\n")

    assert current().profile == "default"
    assert "PROFILE is read from the environment alone" in caplog.text
    with pytest.raises(ConfigurationError, match="environment alone"), temporary_settings({"PROFILE": "x"}):
        pass


@pytest.mark.parametrize("text", ["active = 3", "profiles = 3", "[profiles]\nx = 3"])
def test_a_file_of_profiles_with_another_shape_is_an_error_with_its_line(text, write):
    write("home/profiles.toml", f"\n{text}\n")

    with pytest.raises(ConfigurationError, match=r"profiles\.toml:[23]\. It must be"):
        current()


# --- values

VALUES = [
    (RETRIES, "2", 2),
    (RETRIES, " 2 ", 2),
    (DELAY, "[1, 10, 100]", [1, 10, 100]),
    (DELAY, "2.5", 2.5),
    (DELAY, "0", 0),
    ("TASKS_REFRESH_CACHE", "yes", True),
    ("TASKS_REFRESH_CACHE", "TRUE", True),
    ("RESULTS_PERSIST_BY_DEFAULT", "0", False),
    ("TASKS_DEFAULT_PERSIST_RESULT", "none", None),
    ("TASKS_DEFAULT_PERSIST_RESULT", "off", False),
    ("TASKS_RUNNER_THREAD_POOL_MAX_WORKERS", "8", 8),
    ("TASKS_RUNNER_THREAD_POOL_MAX_WORKERS", "None", None),
    ("LOGGING_LEVEL", "debug", "DEBUG"),
    ("LOGGING_EXTRA_LOGGERS", "a, b.c,", ["a", "b.c"]),
    ("LOGGING_EXTRA_LOGGERS", '["a", "b,c"]', ["a", "b,c"]),
    ("LOGGING_TO_CONSOLE", "Never", "never"),
    ("STORE", "lmdb:here", "lmdb:here"),
    ("RESULTS_DEFAULT_SERIALIZER", "none", "none"),
]


@pytest.mark.parametrize(("name", "text", "value"), VALUES)
def test_a_variable_is_read_as_its_setting_means_it(name, text, value, monkeypatch):
    monkeypatch.setenv(f"PLUPERFECT_{name}", text)

    assert lookup(name).value() == value


WRONG = [
    (RETRIES, "-1"),
    (RETRIES, "two"),
    (RETRIES, "1.5"),
    (DELAY, "[1, -10]"),
    (DELAY, "[1, "),
    (DELAY, "nan"),
    (DELAY, "inf"),
    (DELAY, "[1e999]"),
    (DELAY, "1, 2"),
    ("TASKS_REFRESH_CACHE", "perhaps"),
    ("RESULTS_PERSIST_BY_DEFAULT", "none"),
    ("TASKS_RUNNER_PROCESS_POOL_MAX_WORKERS", "0"),
    ("LOGGING_LEVEL", "LOUD"),
    ("LOGGING_EXTRA_LOGGERS", "[1]"),
    ("LOGGING_TO_CONSOLE", "sometimes"),
]


@pytest.mark.parametrize(("name", "text"), WRONG)
def test_a_value_that_is_not_allowed_is_refused_with_its_name_its_source_and_what_is_allowed(name, text, monkeypatch):
    monkeypatch.setenv(f"PLUPERFECT_{name}", text)

    with pytest.raises(ConfigurationError) as refused:
        current()
    assert f"PLUPERFECT_{name} is {text!r} in the environment variable PLUPERFECT_{name}." in str(refused.value)
    assert SETTINGS[name.lower()].allowed in str(refused.value)
    assert isinstance(refused.value, ValueError)


@pytest.mark.parametrize("text", ["-1", "true", "'x'", "[1]", "2026-01-01"])
def test_a_wrong_value_in_a_file_is_refused_with_its_line(text, write):
    write("work/pluperfect.toml", f"# ours\n[tasks]\n\ndefault_retries = {text}\n")

    with pytest.raises(
        ConfigurationError, match=r"TASKS_DEFAULT_RETRIES is .* in .*pluperfect\.toml:4\. It must be a whole"
    ):
        current()


@pytest.mark.parametrize(
    ("file", "text", "line"),
    [
        ("work/pluperfect.toml", "a = 1\nb = \n", 2),
        ("work/pyproject.toml", "# pluperfect\n\n[tool\n", 3),
        ("home/profiles.toml", 'active = "x\n', 1),
        ("home/settings.toml", "a = 1\na = 2\n", 2),
        ("home/settings.toml", "a = [1,\n2", 2),
    ],
)
def test_a_file_that_is_no_toml_is_an_error_with_its_line(file, text, line, write, tmp_path):
    write(file, text)

    with pytest.raises(ConfigurationError) as refused:
        current()
    assert f"{tmp_path / file}:{line} is no TOML" in str(refused.value)


def test_a_file_that_is_not_text_is_an_error_with_its_name(write, tmp_path):
    (tmp_path / "home" / "settings.toml").write_bytes(b"\xff\xfe")

    with pytest.raises(ConfigurationError, match=r"settings\.toml cannot be read"):
        current()


def test_an_error_is_told_again_until_it_is_mended(monkeypatch):
    monkeypatch.setenv("PLUPERFECT_TASKS_DEFAULT_RETRIES", "x")
    for _ in range(2):
        with pytest.raises(ConfigurationError):
            current()
    monkeypatch.setenv("PLUPERFECT_TASKS_DEFAULT_RETRIES", "1")
    assert current().tasks_default_retries == 1


def test_an_unknown_name_is_one_warning_that_names_a_near_one(write, monkeypatch, caplog):
    monkeypatch.setenv("PLUPERFECT_TASK_RETRIES", "1")
    write("work/pluperfect.toml", "tasks_default_retrys = 2\n")
    for _ in range(3):
        assert current().tasks_default_retries == 0
        refresh()

    told = [record for record in caplog.records if record.name == "pluperfect.settings"]
    assert [record.levelno for record in told] == [logging.WARNING] * 2
    assert "no setting PLUPERFECT_TASK_RETRIES. Did you mean PLUPERFECT_TASK_DEFAULT_RETRIES?" in told[0].getMessage()
    assert "no setting tasks_default_retrys. Did you mean tasks_default_retries?" in told[1].getMessage()
    assert "pluperfect.toml:1" in told[1].getMessage()


# --- names


def test_every_setting_is_importable_under_both_prefixes_and_its_aliases():
    from pluperfect.settings import PLUPERFECT_TASKS_DEFAULT_RETRIES, PREFECT_TASKS_DEFAULT_RETRIES

    assert PLUPERFECT_TASKS_DEFAULT_RETRIES is PREFECT_TASKS_DEFAULT_RETRIES
    assert PLUPERFECT_TASKS_DEFAULT_RETRIES.name == str(PLUPERFECT_TASKS_DEFAULT_RETRIES) == f"PLUPERFECT_{RETRIES}"
    assert PLUPERFECT_TASKS_DEFAULT_RETRIES.value() == PLUPERFECT_TASKS_DEFAULT_RETRIES.default() == 0
    for setting in SETTINGS.values():
        for name in (setting.field.upper(), *setting.aliases):
            assert getattr(room, f"PLUPERFECT_{name}") is getattr(room, f"PREFECT_{name}") is setting
        assert setting.about
        assert setting.allowed
    assert pluperfect.settings is room


def test_a_name_that_no_setting_has_is_an_attribute_error_with_a_near_one():
    with pytest.raises(AttributeError, match="Did you mean PREFECT_TASKS_DEFAULT_RETRIES"):
        _ = room.PREFECT_TASKS_DEFAULT_RETRY
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = room.nothing
    assert "PLUPERFECT_STORE" in dir(room)


# --- temporary settings


@pytest.mark.parametrize(
    "name",
    [
        "PLUPERFECT_TASKS_DEFAULT_RETRIES",
        "PREFECT_TASKS_DEFAULT_RETRIES",
        "PREFECT_TASK_DEFAULT_RETRIES",
        "TASKS_DEFAULT_RETRIES",
        "tasks_default_retries",
        room.PREFECT_TASK_DEFAULT_RETRIES,
    ],
)
def test_a_block_takes_a_setting_or_its_name_in_any_spelling(name):
    with temporary_settings({name: "3"}) as held:
        assert held is current()
        assert current().tasks_default_retries == 3
    assert current().tasks_default_retries == 0


def test_blocks_inherit_and_can_set_defaults_and_restore_them(write):
    write("home/settings.toml", "tasks_default_retries = 5\n")
    with temporary_settings({"STORE": "memory:"}, set_defaults={RETRIES: 8, "FLOWS_DEFAULT_RETRIES": 8}):
        assert (current().tasks_default_retries, current().flows_default_retries) == (5, 8)
        with temporary_settings(restore_defaults=[RETRIES, "STORE", "FLOWS_DEFAULT_RETRIES"]):
            assert (current().tasks_default_retries, current().flows_default_retries) == (0, 0)
            assert current().store is None
        with with_settings(logging_level="error"):
            assert (current().store, current().logging_level) == ("memory:", "ERROR")
        write("home/settings.toml", "tasks_default_retries = 6\nflows_default_retries = 6\n")
        assert (current().tasks_default_retries, current().flows_default_retries) == (6, 6)


def test_a_block_with_a_wrong_name_or_value_is_not_entered():
    with pytest.raises(ConfigurationError, match="Did you mean task_default_retries"):
        with with_settings(task_default_retry=1):
            pytest.fail("entered")
    with pytest.raises(ConfigurationError, match="in temporary_settings"):
        with temporary_settings({RETRIES: -1}):
            pytest.fail("entered")
    assert current().tasks_default_retries == 0


def test_threads_that_are_started_with_a_copied_context_see_the_block_and_others_do_not():
    seen = {}

    def look(name):
        seen[name] = current().tasks_default_retries

    with temporary_settings({RETRIES: 4}):
        copied = contextvars.copy_context()
        threads = [
            threading.Thread(target=copied.run, args=(look, "copied")),
            threading.Thread(target=look, args=("bare",)),
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert seen == {"copied": 4, "bare": 0}


# --- the cache


def test_while_nothing_changes_the_same_object_is_given_and_no_file_is_looked_at(monkeypatch):
    held = get_current_settings()
    monkeypatch.setattr(room, "_look", lambda: pytest.fail("looked"))
    monkeypatch.setattr(room.time, "monotonic", lambda: 0.0)

    assert get_current_settings() is held


def test_a_changed_file_is_seen_when_its_time_has_come(tmp_path, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(room.time, "monotonic", lambda: now[0])
    refresh()
    file = tmp_path / "home" / "settings.toml"
    held = current()
    file.write_text("tasks_default_retries = 1\n")
    now[0] = 0.9
    assert current() is held
    now[0] = 1.0
    assert current().tasks_default_retries == 1
    file.unlink()
    now[0] = 2.0
    assert current() == held


def test_an_unchanged_file_is_not_read_again(tmp_path, write, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(room.time, "monotonic", lambda: now[0])
    write("home/settings.toml", "tasks_default_retries = 1\n")
    held = current()
    monkeypatch.setattr(room, "read_toml", lambda *_: pytest.fail("read"))
    now[0] = 5.0
    assert current() is held


def test_another_working_directory_is_seen_at_once(write, monkeypatch, tmp_path):
    write("home/settings.toml", "tasks_default_retries = 1\n")
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "pluperfect.toml").write_text("tasks_default_retries = 2\n")
    assert current().tasks_default_retries == 1
    monkeypatch.chdir(tmp_path / "other")
    assert current().tasks_default_retries == 2


def test_many_threads_read_one_truth_while_the_environment_changes(monkeypatch):
    stop, wrong = threading.Event(), []

    def read():
        while not stop.is_set():
            held = current()
            if held.tasks_default_retries not in range(50):
                wrong.append(held)

    threads = [threading.Thread(target=read) for _ in range(4)]
    for thread in threads:
        thread.start()
    for n in range(50):
        monkeypatch.setenv("PLUPERFECT_TASKS_DEFAULT_RETRIES", str(n))
        assert current().tasks_default_retries == n
    stop.set()
    for thread in threads:
        thread.join()
    assert wrong == []


# --- secrets


class Vault(msgspec.Struct, frozen=True):
    token: Annotated[Secret[str], Kind("a text", str), About("what nobody should see")] = Secret("")
    tries: Annotated[Secret[int], Kind("a whole number", str)] = Secret(0)


def test_a_secret_is_shown_as_stars_and_gives_its_value_when_asked():
    token, tries = describe(Vault).values()
    vault = Vault(token.read("hunter2", "x"), tries.read("3", "x"))

    assert token.secret
    assert (vault.token.get_secret_value(), vault.tries.get_secret_value()) == ("hunter2", 3)
    assert str(vault.token) == "********"
    assert "hunter2" not in f"{vault!r} {vault.token!r} {vault.token}"
    assert vault.token == Secret("hunter2") != Secret("other")
    assert token.read(vault.token, "x") == vault.token
    with pytest.raises(ConfigurationError) as refused:
        tries.read("hunter2", "the vault")
    assert "hunter2" not in str(refused.value)
    assert refused.value.__suppress_context__
    assert "PLUPERFECT_TRIES is ******** in the vault" in str(refused.value)


# --- where settings are used


def test_the_default_log_is_the_store_and_else_in_the_home(monkeypatch, tmp_path, write):
    assert default_uri() == f"lmdb:{tmp_path / 'home' / 'runs'}"
    write("home/settings.toml", 'store = "there"\n')
    assert default_uri() == "lmdb:there"
    with temporary_settings({"STORE": "memory:"}):
        assert default_uri() == "memory:"
    with temporary_settings({"HOME": "~/x"}, restore_defaults=["STORE"]):
        assert default_uri() == f"lmdb:{os.path.join(os.path.expanduser('~'), 'x', 'runs')}"


def test_without_a_home_the_folders_are_the_platforms(monkeypatch, tmp_path):
    monkeypatch.delenv("PLUPERFECT_HOME")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    if not sys.platform.startswith("linux"):
        pytest.skip("the variables are those of XDG")
    (tmp_path / "config" / "pluperfect").mkdir(parents=True)
    (tmp_path / "config" / "pluperfect" / "settings.toml").write_text("tasks_default_retries = 3\n")

    assert current().tasks_default_retries == 3
    assert default_uri() == f"lmdb:{tmp_path / 'data' / 'pluperfect' / 'runs'}"


def test_the_room_loads_no_wing_and_nothing_heavy():
    code = (
        "import sys, pluperfect.settings as s\n"
        "heavy = {'asyncio', 'click', 'rich', 'lmdb', 'platformdirs', 'pydantic', 'tomllib', 'pathlib'} & set(sys.modules)\n"
        "wings = [m for m in sys.modules if m.startswith(('pluperfect.authoring', 'pluperfect_'))]\n"
        "assert not heavy - {'pathlib'}, heavy\n"
        "assert not wings, wings\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


# --- statements of a TOML text

keys = st.text("ab-_", min_size=1, max_size=3)
plain = st.one_of(
    st.integers(-9, 9), st.booleans(), st.text("ab #='\"[]\n\\", max_size=5), st.lists(st.integers(0, 9), max_size=3)
)


def as_toml(value):
    import json

    return json.dumps(value)


@given(st.dictionaries(keys, st.dictionaries(keys, plain, max_size=3), max_size=3))
def test_statements_set_together_what_the_whole_text_sets(tables):
    import tomllib

    text = "".join(
        f"# a comment = [\n\n[{table}]  # behind\n"
        + "".join(f"{key} = {as_toml(value)}\n" for key, value in held.items())
        for table, held in tables.items()
    )
    found = [leaf for statement in statements(text) for leaf in statement.leaves.items()]

    assert dict(found) == dict(room.leaves(tomllib.loads(text)))


def test_a_statement_may_span_lines_and_each_line_belongs_to_one():
    text = 'a = [\n  1, # one\n  2,\n]\n# b\n[t]\nb = """\nx = 1\n"""\n[[u]]\nc.d = {e = 1}\n'
    found = list(statements(text))

    assert [s.end for s in found[:-1]] == [s.start for s in found[1:]]
    assert {path: s.start for s in found for path in s.leaves} == {("a",): 0, ("t", "b"): 6, ("u", "c", "d", "e"): 10}


def test_layers_are_told_in_their_order(write, monkeypatch):
    for n, source in enumerate(SOURCES):
        SOURCES[source](write, monkeypatch, n)

    assert [layer.kind for layer in layers()] == ["environment", "project", "pyproject", "profile", "user"]


def test_the_page_names_every_setting_with_what_it_allows():
    page = (Path(__file__).parents[1] / "docs" / "settings.md").read_text()

    for setting in SETTINGS.values():
        row = next(line for line in page.splitlines() if line.startswith(f"| `{setting.field.upper()}`"))
        assert row.endswith(f"| {setting.allowed} |")
        assert all(f"(`{alias}`)" in row for alias in setting.aliases)
        assert setting.about in row
