"""Keys of calls: what goes in, what is left out, why there is none; and the rule that answers from a hit."""

from __future__ import annotations

import datetime
import functools
import linecache
import threading
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluperfect.cache_policies import (
    DEFAULT,
    FLOW_PARAMETERS,
    INPUTS,
    NO_CACHE,
    RUN_ID,
    TASK_SOURCE,
    CacheKeyFnPolicy,
    CachePolicy,
)
from pluperfect.hooks import Definition
from pluperfect.rules import Proposal
from pluperfect.states import Cached, Completed, Failed, Pending, Retrying, Running, Spec
from pluperfect.transitions import Facts, Run
from pluperfect_plugins.caching import cache_key, options, review, source_digest

CHECKS = {option.name: option.check for option in options("task")}


def run_of(parent=None):
    spec = Spec("task", "t", "t", "t-0", bytes(16), parent=parent)
    return Run(b"r" * 16, 1, Pending(spec=spec), spec)


def work(a=1, b=2):
    return a + b


def key_of(policy=None, arguments=None, *, flow_inputs=None, fn=work, parent=None, **given_options):
    checked = {name: CHECKS[name](value) if name in CHECKS else value for name, value in given_options.items()}
    definition = Definition("task", "work", fn=fn, options={"cache_policy": policy, **checked}, owner="the task")
    return cache_key(run_of(parent), definition, arguments or {}, flow_inputs or {})


def made(source):
    """The function f of a source text that no file holds, as in a REPL."""
    names = {}
    exec(source, names)
    return names["f"]


# --- parts


values = st.integers() | st.text() | st.lists(st.integers()) | st.dictionaries(st.text(), st.dates())


@given(st.dictionaries(st.text(min_size=1), values, min_size=1, max_size=4))
def test_equal_inputs_have_equal_keys_in_whatever_order_they_come(arguments):
    assert key_of(INPUTS, arguments) == key_of(INPUTS, dict(reversed(arguments.items())))


@given(values, values)
def test_keys_of_different_inputs_differ(one, other):
    same = key_of(INPUTS, {"a": one}).key == key_of(INPUTS, {"a": other}).key

    assert same == (one == other)


def test_each_part_is_recorded_by_name_so_that_a_miss_can_be_explained():
    one = key_of(DEFAULT + FLOW_PARAMETERS, {"a": 1, "b": 2}, flow_inputs={"n": 3})
    two = key_of(DEFAULT + FLOW_PARAMETERS, {"a": 1, "b": 5}, flow_inputs={"n": 3})

    assert set(one.parts) == {"input a", "input b", "source", "run", "flow parameter n"}
    assert {name for name in one.parts if one.parts[name] != two.parts[name]} == {"input b"}
    assert one.key != two.key


def test_an_excluded_input_does_not_count():
    policy = INPUTS - "b"

    assert key_of(policy, {"a": 1, "b": 2}) == key_of(policy, {"a": 1, "b": object()})


def test_without_inputs_there_is_no_key_of_inputs_alone_but_one_of_the_rest():
    assert key_of(INPUTS).key is None
    assert "no inputs" in key_of(INPUTS).why
    assert key_of(FLOW_PARAMETERS).key is None
    assert set(key_of(INPUTS + TASK_SOURCE).parts) == {"source"}


def test_the_run_is_the_flow_run_and_outside_of_flows_the_task_run_itself():
    assert key_of(RUN_ID, parent=b"p" * 16).parts == {"run": (b"p" * 16).hex()}
    assert key_of(RUN_ID).parts == {"run": (b"r" * 16).hex()}


def test_an_input_that_cannot_be_hashed_makes_no_key_and_is_named(caplog):
    key = key_of(INPUTS + TASK_SOURCE, {"a": 1, "conn": [threading.Lock()]})

    assert key.key is None
    assert "'conn'" in key.why
    assert "$[0] is a _thread.lock" in key.why
    assert "INPUTS - 'conn'" in caplog.text


def test_no_policy_no_key():
    assert key_of(None, {"a": 1}) is None
    assert key_of(NO_CACHE, {"a": 1}) is None


def test_a_policy_that_nobody_knows_makes_no_key():
    class Own(CachePolicy, frozen=True):
        pass

    assert "Own" in key_of(INPUTS + Own(), {"a": 1}).why


def test_without_a_stored_result_there_is_no_key_and_a_warning(caplog):
    def fresh():
        """A function that was not warned about yet."""

    for _ in range(2):
        assert "persist_result" in key_of(INPUTS, {"a": 1}, persist_result=False, fn=fresh).why
    assert caplog.text.count("persist_result=False") == 1


# --- the source


SOURCES = [
    "def f(): return 1",
    "def f(): return 2",
    "def f(): return '1'",
    "def f(x=1): return x",
    "def f(x=2): return x",
    "def f(*, x=1): return x",
    "def f(): return len",
    "def f(): return max",
    "f = lambda: 1",
    "f = lambda: 2",
    "def outer(x):\n    def f(): return x\n    return f\nf = outer(1)",
    "def outer(x):\n    def f(): return x\n    return f\nf = outer(2)",
    "def outer(x):\n    def f(): return x\n    return f\nf = outer(lambda: 1)",
    "def outer(x):\n    def f(): return x\n    return f\nf = outer(lambda: 2)",
    "def outer(x):\n    def f(): return x\n    return f\nf = outer(object())",
    "import functools\n@functools.lru_cache\ndef f(): return 1",
    "import functools\n@functools.lru_cache\ndef f(): return 2",
    "import functools\nf = functools.partial(print, 1)",
    "import functools\nf = functools.partial(print, 2)",
    "import functools\nf = functools.partial(max, 1)",
    "class C:\n    def __init__(self, x): self.x = x\n    def __call__(self): return self.x\nf = C(1)",
    "class C:\n    def __init__(self, x): self.x = x\n    def __call__(self): return self.x\nf = C(2)",
    "class C:\n    def __init__(self, x): self.x = x\n    def __call__(self): return -self.x\nf = C(1)",
]


def digest_of(fn):
    return source_digest(Definition("task", "t", fn=fn))


@pytest.mark.parametrize("shell", [False, True])
def test_functions_that_differ_in_code_constants_defaults_closure_or_what_they_wrap_have_other_sources(
    shell, monkeypatch
):
    if shell:  # as `python -c` leaves it from Python 3.13 on
        monkeypatch.setitem(linecache.cache, "<string>", (20, None, ["def f():\n", "    return 1\n"], "<string>"))
    digests = [digest_of(made(source)) for source in SOURCES]

    assert len(set(digests)) == len(SOURCES)


@pytest.mark.parametrize("source", SOURCES)
def test_a_function_that_is_made_again_has_the_same_source(source):
    assert digest_of(made(source)) == digest_of(made(source))


def test_lambdas_of_one_line_have_sources_of_their_own():
    one, two = (lambda: 1), (lambda: 2)

    assert digest_of(one) != digest_of(two)


def test_a_wrapper_counts_beside_what_it_wraps():
    def doubled(fn):
        @functools.wraps(fn)
        def wrapper():
            return 2 * fn()

        return wrapper

    def tripled(fn):
        @functools.wraps(fn)
        def wrapper():
            return 3 * fn()

        return wrapper

    assert len({digest_of(doubled(work)), digest_of(tripled(work)), digest_of(work)}) == 3


def test_a_function_that_closes_over_itself_has_a_source():
    def f():
        return f

    assert digest_of(f)


# --- keys of the user's own


def test_a_key_function_is_given_the_context_and_the_arguments_and_its_string_is_the_key():
    seen = []

    def fn(context, arguments):
        seen.append((context.task, context.task_run.id, dict(context.parameters), arguments))
        return "mine"

    assert key_of(None, {"a": 1}, cache_key_fn=fn).key == "mine"
    assert seen == [("the task", uuid.UUID(bytes=b"r" * 16), {"a": 1}, {"a": 1})]


def test_a_key_function_beats_a_policy_and_one_warning_says_so(caplog):
    def fresh():
        """A function that was not warned about yet."""

    for _ in range(2):
        assert key_of(INPUTS, {"a": 1}, cache_key_fn=lambda *_: "mine", fn=fresh).key == "mine"
    assert caplog.text.count("cache_key_fn counts") == 1


def test_a_key_function_that_gives_none_turns_caching_off_for_this_call():
    assert key_of(None, cache_key_fn=lambda *_: None).key is None


def test_a_key_function_that_raises_is_logged_and_the_call_is_made(caplog):
    def broken(context, arguments):
        raise ValueError("no idea")

    key = key_of(None, cache_key_fn=broken)

    assert key.key is None
    assert key.why == "cache_key_fn raised ValueError: no idea"
    assert "no idea" in caplog.text


@pytest.mark.parametrize("given_key", [3, b"x", "", ["a"]])
def test_a_key_function_that_gives_no_string_is_named_and_counts_as_no_key(given_key, caplog):
    key = key_of(None, cache_key_fn=lambda *_: given_key)

    assert key.key is None
    assert key.why == f"cache_key_fn gave {given_key!r}; it must give a string, or None for no caching"
    assert "cache_key_fn of work gave" in caplog.text


def test_a_key_function_can_be_one_part_of_several():
    policy = TASK_SOURCE + CacheKeyFnPolicy(lambda *_: "v1")

    assert key_of(policy).parts["cache_key_fn"] == "v1"
    assert set(key_of(TASK_SOURCE + CachePolicy.from_cache_key_fn(lambda *_: None)).parts) == {"source"}


# --- options


def test_expiration_and_refresh_travel_with_the_key():
    key = key_of(INPUTS, {"a": 1}, cache_expiration=datetime.timedelta(hours=1), refresh_cache=True)

    assert (key.expiration, key.refresh) == (3600.0, True)
    assert key.key == key_of(INPUTS, {"a": 1}).key


@pytest.mark.parametrize(
    ("name", "value", "error"),
    [
        ("cache_policy", "INPUTS", TypeError),
        ("cache_key_fn", "key", TypeError),
        ("cache_expiration", "1h", TypeError),
        ("cache_expiration", True, TypeError),
        ("cache_expiration", 0, ValueError),
        ("cache_expiration", -1, ValueError),
        ("cache_expiration", float("inf"), ValueError),
        ("cache_expiration", float("nan"), ValueError),
        ("refresh_cache", "yes", TypeError),
    ],
)
def test_bad_options_are_refused(name, value, error):
    with pytest.raises(error, match=name):
        CHECKS[name](value)


def test_flows_have_no_options_of_caching():
    assert options("flow") is None


# --- the rule


HIT = (b"s" * 16, 7)


def judged(to, *, state=None, **facts):
    run = run_of()
    return review(Run(run.id, 3, state or run.state, run.spec), Proposal(to, 1.0, Facts(**facts)), None)


def test_a_start_with_a_hit_becomes_cached_and_cites_its_source():
    verdict = judged(Running(), hit=HIT, key="k")

    assert verdict.to == Cached(source=HIT, key="k")


def test_a_hit_of_an_earlier_attempt_needs_no_key():
    assert judged(Running(), hit=HIT).to == Cached(source=HIT)


@pytest.mark.parametrize("state", [Retrying(), Running()])
def test_only_the_first_start_is_answered_from_a_hit(state):
    assert judged(Running(), state=state, hit=HIT) is None


@pytest.mark.parametrize("to", [Completed(), Failed()])
def test_only_a_start_is_answered_from_a_hit(to):
    assert judged(to, hit=HIT) is None


def test_a_miss_has_no_verdict():
    assert judged(Running(), key="k") is None
