"""Every hook is documented and tested; the manager keeps its promises to plugins and about them."""

from __future__ import annotations

import contextlib
import inspect
import re
import sys
import types
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import pluperfect
from pluperfect import Completed, Proposal, Verdict, flow, hookimpl, task
from pluperfect.authoring.validation import Validator
from pluperfect.errors import (
    ParameterTypeError,
    PluginError,
    RuleError,
    RunnerUnavailable,
    UnknownStore,
    UnpackableValue,
)
from pluperfect.hooks import HOOKS, CacheKey, Definition, Option, Specs, Unpacked
from pluperfect.manager import Hooks
from pluperfect.marks import BUILTIN
from pluperfect.states import FOREIGN, Packed, Running
from pluperfect.testing import FakeClock, kinds
from pluperfect.transitions import Run

HOOKS_MD = (Path(__file__).parents[1] / "specs" / "hooks.md").read_text()
RUN = Run(bytes(16), 2, Running())


def arguments_of(hook):
    code = getattr(Specs, hook).__code__
    return code.co_varnames[1 : code.co_argcount]


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_is_documented_and_tested(hook):
    """A hook without a heading that gives its arguments, or without a test, fails the suite."""
    assert f"## {hook}({', '.join(arguments_of(hook))})\n" in HOOKS_MD
    assert f"test_hook_{hook}" in globals()


def test_the_document_names_no_hook_that_is_not_there_and_every_built_in_plugin():
    assert re.findall(r"^## (\w+)\(", HOOKS_MD, re.MULTILINE) == list(HOOKS)
    assert set(BUILTIN) <= set(re.findall(r"`([\w-]+)`", HOOKS_MD))


def example_of(hook):
    """The example under a heading of the document, as a module."""
    section = re.search(rf"^## {hook}\(.*?(?=^## |\Z)", HOOKS_MD, re.MULTILINE | re.DOTALL)[0]
    module = types.ModuleType(f"example_{hook}")
    module.__file__ = "specs/hooks.md"
    for code in re.findall(r"^```python\n(.*?)^```$", section, re.MULTILINE | re.DOTALL):
        exec(compile(code, "specs/hooks.md", "exec"), module.__dict__)
    return module


@pytest.mark.parametrize("hook", HOOKS)
def test_every_hook_has_an_example_that_is_a_plugin_with_this_hook(hook):
    info = Hooks([example_of(hook)], entry_points=False).plugins[-1]

    assert info.name == f"example_{hook}"
    assert hook in info.hooks


def test_the_examples_do_what_their_sections_say():
    examples = {hook: example_of(hook) for hook in HOOKS}
    del examples["unpack"]  # it refuses to unpickle, which is shown below
    morning = datetime(2026, 11, 21, 9, 30, tzinfo=UTC).timestamp()
    clock = FakeClock(morning)
    calls = []

    @task(tags=["nightly"])
    def report(date):
        calls.append(date)
        return complex(1, 2)

    @task(tags=["heavy"])
    def train():
        return "trained"

    @flow(task_runner="inline")
    def whole():
        return report("today"), report.submit("today").result(), report.submit("tomorrow").result()

    with pluperfect.open("scratch:", plugins=examples.values(), entry_points=False, clock=clock) as log:
        assert whole() == (1 + 2j, 1 + 2j, 1 + 2j)
        assert calls == ["today", "tomorrow"]
        assert train() == "trained"
        assert clock.now() >= datetime(2026, 11, 21, 18, tzinfo=UTC).timestamp()
        assert log.runs(name="train")[0].history[-3].by == "example_review"
        with pytest.raises(TypeError, match="priority is a whole number"):
            task(priority="high")(lambda: 1)()
    assert set(examples["during"].took) >= {"whole", "report", "train"}
    assert [kind for name, kind in examples["recorded"].ended if name.startswith("train")] == ["Completed"]
    assert "count" in _commands(examples["commands"])

    money = examples["coerce_parameter"]
    hooks = Hooks([money], entry_points=False)
    pay = Validator(
        work.fn,
        inspect.Signature([inspect.Parameter("value", inspect.Parameter.KEYWORD_ONLY, annotation=money.Money)]),
        converters=hooks.converter,
    )
    assert pay((), {"value": "2.50 EUR"})[1]["value"].cents == 250
    with pytest.raises(ParameterTypeError, match="value: expected an amount like '2.50 EUR', given int 5"):
        pay((), {"value": 5})

    sealed = Hooks([example_of("unpack")], entry_points=False)
    assert sealed.unpack(sealed.pack([1])) == [1]
    with pytest.raises(Exception, match="histories of others"):
        sealed.unpack(sealed.pack(ValueError("x")))


def _commands(plugin):
    import click

    group = click.Group()
    group.add_lazy = lambda *_: None
    Hooks([plugin], entry_points=False).commands(group)
    return group.commands


class Quiet:
    """A plugin with one harmless hook."""

    @hookimpl
    def during(self, run):
        return None


def opened(*plugins, **options):
    return pluperfect.open("memory:", plugins=plugins, entry_points=False, **options)


@task
def work(value=1):
    return value


# --- one test for each hook


def test_hook_options():
    class Adds:
        @hookimpl
        def options(self, kind):
            return [Option("colour", "grey", check=str.lower)] if kind == "task" else None

    with opened(Adds()) as log:
        assert task(colour="BLUE")(lambda: 1)() == 1
        assert log.hooks.options("task")["colour"].default == "grey"
        assert "colour" not in log.hooks.options("flow")
        with pytest.raises(TypeError, match="colour"):
            flow(colour="BLUE")(lambda: 1)()


def test_hook_open_log():
    from pluperfect_store.memory import MemoryLog

    made = []

    class Opens:
        @hookimpl
        def open_log(self, uri):
            if uri.startswith("mine:"):
                made.append(uri)
                return MemoryLog()
            return None

    with pluperfect.open("mine:x", plugins=[Opens()], entry_points=False):
        assert work(3) == 3
    assert made == ["mine:x"]
    with pytest.raises(UnknownStore, match="nobody:x"):
        pluperfect.open("nobody:x", entry_points=False)


def test_hook_make_runner():
    class Inline:
        def submit(self, call):
            call()

        def close(self):
            closed.append(1)

    class Runs:
        @hookimpl
        def make_runner(self, name):
            return Inline() if name == "inline" else None

    closed = []

    @flow(task_runner="inline")
    def whole():
        return work.submit(5).result()

    with opened(Runs()):
        assert whole() == 5
        with pytest.raises(RunnerUnavailable, match="'nowhere'"):
            whole.with_options(task_runner="nowhere")()
    assert closed == [1]


def test_hook_cache_key():
    class ByFirst:
        @hookimpl
        def cache_key(self, run, arguments, flow_inputs):
            return CacheKey(f"{arguments['value']}/{flow_inputs.get('n')}")

    calls = []

    @task
    def counted(value):
        calls.append(value)
        return value

    @flow
    def whole(n):
        return counted(1)

    with opened(ByFirst()):
        for n in (1, 1, 2):
            whole(n)
    assert calls == [1, 1]


def test_hook_review():
    class Judges:
        @hookimpl
        def review(self, run, proposal):
            return Verdict(to=Completed(data=42), why="better") if proposal.to.is_completed() else None

    with opened(Judges()) as log:
        assert work() == 42
        assert log.runs()[0].result() == 42
        assert log.runs()[0].transitions[-1].by == "judges"


def test_hook_during():
    seen = []

    class Surrounds:
        @hookimpl
        def during(self, run, definition):
            @contextlib.contextmanager
            def around():
                seen.append(("in", run.state.kind, definition.name))
                yield
                seen.append("out")

            return around()

    with opened(Surrounds()):
        work()
    assert seen == [("in", "Running", "work"), "out"]


def test_hook_recorded(caplog):
    told = []

    class Listens:
        @hookimpl
        def recorded(self, run, transition):
            told.append((run.seq, transition.to.kind, log.log.position() >= transition.seq))
            if transition.to.kind == "Running":
                raise RuntimeError("deaf")

    with opened(Listens()) as log:
        assert work() == 1
    assert told == [(1, "Pending", True), (2, "Running", True), (3, "Completed", True)]
    assert "'listens' raised in recorded()" in caplog.text


def test_hook_pack():
    class Reverses:
        @hookimpl
        def pack(self, value):
            return Packed(FOREIGN, value[::-1].encode()) if isinstance(value, str) else None

        @hookimpl
        def unpack(self, packed):
            return Unpacked(bytes(packed.data).decode()[::-1]) if packed.code == FOREIGN else None

    with opened(Reverses()) as log:
        work("abc")
        state = log.runs()[0].state
        assert bytes(state.data.data) == b"cba"
        assert state.result() == "abc"


def test_hook_unpack():
    hooks = Hooks(entry_points=False)

    for value in (None, 1, [1, "x"], {"a": (1, 2)}):
        assert hooks.unpack(hooks.pack(value)) == value
    with pytest.raises(PluginError, match="codec 99"):
        hooks.unpack(Packed(99, b""))
    with pytest.raises(UnpackableValue, match="'results' switched off"):
        Hooks(entry_points=False, disabled=["results"]).pack(1)


def test_hook_coerce_parameter():
    class Doubles:
        @hookimpl
        def coerce_parameter(self, annotation):
            return (lambda value: value * 2) if annotation is int else None

    class Errs:
        @hookimpl
        def coerce_parameter(self, annotation):
            return 5 if annotation is str else None

    hooks = Hooks([Doubles(), Errs()], entry_points=False)

    def fn(a: int, b: list[int], c: bytes): ...

    validator = Validator(fn, inspect.signature(fn), converters=hooks.converter)
    assert validator((1, [2, 3], b""), {}) == ((2, [4, 6], b""), {})
    assert hooks.converter(bytes) is None
    with pytest.raises(PluginError, match="must return a callable that takes a value, or None"):
        hooks.converter(str)
    assert Hooks(entry_points=False).converter(int) is None


def test_hook_commands():
    import click

    class Says:
        @hookimpl
        def commands(self, cli):
            @cli.command("greet")
            def greet():
                click.echo("hello")

    assert "greet" in _commands(Says())


# --- the manager


class Votes:
    def __init__(self, name, verdict):
        self.name, self.verdict = name, verdict

    @hookimpl
    def review(self):
        return self.verdict


def test_the_last_registered_is_asked_first_and_users_before_built_in_ones():
    hooks = Hooks(
        [Votes("a", Verdict(refuse="a")), Votes("b", Verdict(refuse="b")), Votes("c", None)], entry_points=False
    )

    assert hooks.awake(None).review(RUN, Proposal(Completed(), 1.0), None)[1] == "b"
    assert [info.name for info in hooks.plugins][-3:] == ["a", "b", "c"]


def test_a_hook_that_nobody_implements_is_not_called_at_all():
    attending = Hooks(entry_points=False, disabled=list(BUILTIN)).awake(Definition("task", "work", fn=work))

    assert (attending.reviewers, attending.entering, attending.recorders, attending.cache_key) == ((), (), (), None)


def test_a_plugin_whose_options_are_not_set_is_not_asked():
    class Picky:
        @hookimpl
        def options(self, kind):
            return [Option("picky", None, wakes=True)]

        @hookimpl
        def review(self, run):
            return Verdict(refuse="asked")

    hooks = Hooks([Picky()], entry_points=False)
    plain, set_ = (Definition("task", "t", fn=work, options={"picky": value}) for value in (None, 1))

    assert "picky" not in [impl.plugin for impl in hooks.awake(plain).reviewers]
    assert "picky" in [impl.plugin for impl in hooks.awake(set_).reviewers]
    assert "picky" in [impl.plugin for impl in hooks.awake(None).reviewers]


def test_an_option_that_names_hooks_wakes_its_plugin_at_those_alone():
    class Keyed:
        @hookimpl
        def options(self, kind):
            return [Option("keyed", None, wakes=("cache_key",))]

        @hookimpl
        def review(self, run):
            return None

        @hookimpl
        def cache_key(self, run):
            return CacheKey("mine")

    hooks = Hooks([Keyed()], entry_points=False, disabled=["caching", "classic"])
    plain, set_ = (
        hooks.awake(Definition("task", "t", fn=work, options={"keyed": value, "cache_policy": None}))
        for value in (None, 1)
    )

    assert [(one.cache_key is None, "keyed" in [impl.plugin for impl in one.reviewers]) for one in (plain, set_)] == [
        (True, True),
        (False, True),
    ]


def misnamed():
    class Wrong:
        @hookimpl
        def reviw(self, run):
            """A slip."""

    return Wrong()


def misargued():
    class Wrong:
        @hookimpl
        def review(self, run, weather):
            """An argument that there is not."""

    return Wrong()


def wrapping():
    class Wrong:
        @hookimpl(wrapper=True)
        def review(self, run):
            return (yield)

    return Wrong()


def raising():
    class Wrong:
        @hookimpl
        def options(self, kind):
            raise RuntimeError("cannot say")

    return Wrong()


def rubbish():
    class Wrong:
        @hookimpl
        def options(self, kind):
            return ["colour"]

    return Wrong()


def taking():
    class Wrong:
        @hookimpl
        def options(self, kind):
            return [Option("retries")]

    return Wrong()


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        (misnamed(), "no hook 'reviw'. Did you mean 'review'"),
        (misargued(), "weather"),
        (wrapping(), "takes no wrappers"),
        (raising(), "raised RuntimeError in options.*cannot say"),
        (rubbish(), "must return a list of Option"),
        (taking(), "both add the flow option 'retries'"),
        (Quiet, "is a class; give an instance"),
        (object(), "implements no hook"),
    ],
)
def test_a_plugin_that_does_not_fit_is_named_with_what_is_wrong(plugin, words):
    with pytest.raises(PluginError, match=words):
        Hooks([plugin], entry_points=False)


def test_two_plugins_of_one_name_are_refused():
    with pytest.raises(PluginError, match="Two plugins are called 'quiet'"):
        Hooks([Quiet(), Quiet()], entry_points=False)


def test_a_name_that_nobody_has_cannot_be_switched_off():
    with pytest.raises(PluginError, match="No plugin is called retry.*Known: .*retries"):
        Hooks(disabled=["retry"], entry_points=False)


@pytest.mark.parametrize("answer", ["yes", 1, Completed()])
def test_a_rule_that_answers_rubbish_is_named(answer):
    hooks = Hooks([Votes("odd", answer)], entry_points=False)

    with pytest.raises(RuleError, match="'odd' answered"):
        hooks.awake(None).review(RUN, Proposal(Completed(), 1.0), None)


class OfTasks:
    @hookimpl
    def options(self, kind):
        return [Option("cents", 0, wakes=True)] if kind == "task" else None

    @hookimpl
    def review(self, run, proposal, definition):
        assert definition.options["cents"], "asked about a run that sets no option of this plugin"

    @hookimpl
    def recorded(self, run, transition, definition):
        assert definition.options["cents"]


def test_a_plugin_whose_options_wake_it_is_not_asked_about_the_kind_for_which_it_declares_none():
    @task(cents=5)
    def costs():
        return 1

    @task
    def free():
        return 2

    @flow
    def both():
        return costs() + free()

    with pluperfect.open("memory:", plugins=[OfTasks()]):
        assert both() == 3


class Tolerant:
    @hookimpl
    def review(self, run, proposal):
        if proposal.to.is_failed():
            return Verdict(to=Completed(name="Tolerated"), why="optional")
        return None


def test_a_rule_that_makes_a_failure_completed_without_a_result_gives_none():
    @task
    def bad():
        raise OSError("x")

    with pluperfect.open("memory:", plugins=[Tolerant()]) as log:
        assert bad() is None
        assert log.runs()[0].result() is None
        assert log.runs()[0].state.name == "Tolerated"


def test_a_run_that_is_not_born_says_where_its_spec_is():
    with pytest.raises(LookupError, match=r"proposal\.to\.spec"):
        Run(bytes(16)).birth  # noqa: B018


class Breaks:
    """A rule that raises where it is asked about a start."""

    @hookimpl
    def review(self, run, proposal):
        if proposal.to.is_running():
            raise ZeroDivisionError("by nothing")


def test_a_rule_that_raises_is_named_and_nothing_is_recorded():
    with opened(Breaks()) as log:
        with pytest.raises(RuleError, match="'breaks' raised ZeroDivisionError: by nothing.*Nothing was recorded"):
            work()
        assert all(
            kinds(run) == ["Pending"] for run in log.runs()
        )  # no start, whether or not the birth travelled ahead


def test_a_plugin_that_raises_in_during_is_named():
    class Trips:
        @hookimpl
        def during(self, run):
            raise ZeroDivisionError("by nothing")

    with opened(Trips()), pytest.raises(PluginError, match="'trips' raised ZeroDivisionError in during"):
        work()


@pytest.mark.parametrize("hook", ["review", "during", "recorded", "options"])
def test_hooks_whose_answers_need_an_author_take_no_wrappers(hook):
    wrapper = types.ModuleType("wrapper")
    exec(
        f"from pluperfect import hookimpl\n@hookimpl(wrapper=True)\ndef {hook}():\n    return (yield)\n",
        wrapper.__dict__,
    )

    with pytest.raises(PluginError, match=f"wraps '{hook}'"):
        Hooks([wrapper], entry_points=False)


def test_other_hooks_may_be_wrapped():
    class Counts:
        packed = 0

        @hookimpl(wrapper=True)
        def pack(self, value):
            self.packed += 1
            return (yield)

    counts = Counts()
    hooks = Hooks([counts], entry_points=False)

    assert hooks.unpack(hooks.pack([1, 2])) == [1, 2]
    assert counts.packed == 1


@pytest.mark.parametrize(("hook", "answer"), [("pack", b"bytes"), ("unpack", "no box")])
def test_a_codec_that_answers_rubbish_is_told_what_to_return(hook, answer):
    odd = types.ModuleType("odd")
    exec(f"from pluperfect import hookimpl\n@hookimpl\ndef {hook}():\n    return {answer!r}\n", odd.__dict__)
    hooks = Hooks([odd], entry_points=False)

    with pytest.raises(PluginError, match=f"{hook}\\(\\) returned"):
        hooks.pack(1) if hook == "pack" else hooks.unpack(hooks.pack(1))


@given(st.lists(st.sampled_from(["none", "refuse"]), max_size=6))
def test_the_first_verdict_in_the_order_of_asking_wins(votes):
    plugins = [Votes(f"v{i}", None if vote == "none" else Verdict(refuse=str(i))) for i, vote in enumerate(votes)]
    hooks = Hooks(plugins, disabled=["retries", "caching"], entry_points=False)
    verdict, by = hooks.awake(None).review(RUN, Proposal(Completed(), 1.0), None)

    last = max((i for i, vote in enumerate(votes) if vote == "refuse"), default=None)
    assert by == ("" if last is None else f"v{last}")
    assert (verdict and verdict.refuse) == (None if last is None else str(last))


def distribution(folder, name, module, body):
    (folder / f"{module}.py").write_text(body)
    info = folder / f"{name}-1.2.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.2\n")
    (info / "entry_points.txt").write_text(f"[pluperfect]\n{name} = {module}:Plugin\n")


def test_plugins_of_installed_distributions_are_found_and_a_broken_one_is_named_and_left_out(
    tmp_path, monkeypatch, caplog
):
    works = "from pluperfect import hookimpl\nclass Plugin:\n    @hookimpl\n    def during(self, run):\n        return None\n"
    distribution(tmp_path, "working", "working_plugin_xyz", works)
    distribution(tmp_path, "broken", "broken_plugin_xyz", "raise RuntimeError('broken on import')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    try:
        infos = {info.name: info for info in Hooks().plugins}
        assert (infos["working"].version, infos["working"].origin, infos["working"].hooks) == (
            "1.2",
            "entry point",
            ("during",),
        )
        assert "broken" not in infos
        assert "'broken'" in caplog.text
        assert "working" not in {info.name for info in Hooks(disabled=["working", "broken"]).plugins}
        monkeypatch.setenv("PLUPERFECT_DISABLE_PLUGINS", "1")
        assert "working" not in {info.name for info in Hooks().plugins}
    finally:
        for module in ("working_plugin_xyz", "broken_plugin_xyz"):
            sys.modules.pop(module, None)


def test_a_switched_off_retries_plugin_leaves_its_options_without_effect():
    @task(retries=3)
    def shaky():
        raise ConnectionError

    with opened(disabled=["retries"]) as log:
        with pytest.raises(ConnectionError):
            shaky()
        assert kinds(log.runs()[0]) == ["Pending", "Running", "Failed"]
