"""Building graphs and running them."""

from __future__ import annotations

import warnings
from datetime import timedelta

import pytest

import pluperfect.classic as prefect
from pluperfect.classic import Edge, Flow, Parameter, Task, task
from pluperfect.classic.engine.state import Failed, State, Success
from pluperfect.testing import kinds


@task
def one():
    return 1


@task
def add(x, y=10):
    return x + y


@task
def fails():
    raise ValueError("no")


def test_calling_a_task_in_a_flow_adds_a_copy_bound_to_its_arguments(log):
    with Flow("sums") as flow:
        a = one()
        b = add(a, 2)
        c = add(b)
    assert len({a, b, c, one, add}) == 5
    assert flow.tasks == {a, b, c}
    assert Edge(a, b, "x") in flow.edges
    assert flow.constants[b]["y"][0] == 2
    state = flow.run()
    assert {found.name for found in state.result} == {"one", "add"}
    assert [state.result[t].result for t in (a, b, c)] == [1, 3, 13]


def test_a_task_outside_of_a_flow_is_not_called():
    with pytest.raises(ValueError, match="No flow is active"):
        one()
    assert one.run() == 1


def test_a_run_is_one_flow_run_with_one_task_run_for_each_task(log):
    with Flow("recorded") as flow:
        add(one(), y=Parameter("y"))
    flow.run(y=5)

    (root,) = log.runs(roots=True)
    assert (root.name, root.folded.birth.name, root.parameters) == (root.name, "recorded", {"y": 5})
    assert [child.folded.birth.name for child in root.children] == ["one", "add"]
    assert kinds(root.children[1]) == ["Pending", "Running", "Completed"]
    assert root.children[1].folded.birth.upstream == (bytes.fromhex(root.children[0].id.replace("-", "")),)
    assert root.children[1].parameters == {"x": 1, "y": 5}


def test_cycles_are_found_when_the_flow_is_run_or_validated(log):
    with Flow("cycle") as flow:
        a, b = one(), one()
        a.set_downstream(b)
        b.set_downstream(a)
    with pytest.raises(ValueError, match="cycle, among: one, one"):
        flow.run()
    with pytest.raises(ValueError, match="cycle"):
        flow.validate()
    with pytest.raises(ValueError, match="cycle"), Flow("early", validate=True) as early:
        early.chain(a, b, a)


def test_a_task_that_is_made_and_never_used_warns():
    class Lonely(Task):
        def run(self):
            pass

    def build():
        with Flow("unused"):
            Lonely()

    with pytest.warns(UserWarning, match="never became part of it: Lonely"):
        build()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Flow("used"):

            @task
            def inner():
                pass

            inner()


def test_run_inside_of_the_block_is_an_error(log):
    with Flow("inside") as flow:
        one()
        with pytest.raises(RuntimeError, match="inside of `with Flow"):
            flow.run()


@pytest.mark.parametrize("option", ["schedule", "run_config", "storage", "environment"])
def test_what_does_not_exist_here_is_refused(option):
    with pytest.raises(TypeError, match=f"{option}=, which does not exist here"):
        Flow("refused", **{option: object()})


def test_a_flow_needs_a_name():
    with pytest.raises(TypeError):
        Flow()
    with pytest.raises(ValueError, match="needs a name"):
        Flow("")


# --- parameters


def parametrised():
    with Flow("parameters") as flow:
        flow.found = add(Parameter("x"), Parameter("y", default=5))
    return flow


def test_parameters_come_by_dict_or_keyword_or_default(log):
    flow = parametrised()
    assert flow.run(x=1).result[flow.found].result == 6
    assert flow.run({"x": 1, "y": 2}).result[flow.found].result == 3
    assert flow.run(parameters={"x": 1}, y=3).result[flow.found].result == 4


def test_missing_and_unknown_parameters_are_errors_before_the_run(log):
    flow = parametrised()
    with pytest.raises(ValueError, match="was not given its parameter 'x'"):
        flow.run()
    with pytest.raises(ValueError, match="has no parameter 'z'"):
        flow.run(parameters={"x": 1, "z": 1})
    with pytest.raises(TypeError, match="got 'z', neither an argument nor a parameter"):
        flow.run(x=1, z=1)
    with pytest.raises(ValueError, match="given twice"):
        flow.run({"x": 1}, x=2)
    assert log.runs() == []


def test_parameter_names_are_of_their_own_and_required_can_be_said():
    with Flow("twice") as flow:
        add(Parameter("x"), 1)
        with pytest.raises(ValueError, match="parameter 'x' already"):
            add(Parameter("x"), 2)
    assert Parameter("x", default=1, required=True).required
    assert not Parameter("x", default=None).required
    with Flow("p"), pytest.raises(ValueError, match="given from outside"):
        Parameter("x").set_upstream(one())


def test_parameter_names_need_not_be_identifiers(log):
    with Flow("odd") as flow:
        found = add(Parameter("my number"), 1)
    for _ in range(2):
        state = flow.run({"my number": 4}, idempotency_key="odd")
        assert [one.result for one in state.result.values()] == [4, 5]
        assert state.result[found].result == 5


# --- how a run ends


def test_reference_tasks_are_the_last_ones_by_default(log):
    with Flow("good") as flow:
        one()
    assert flow.run().message == "All reference tasks succeeded."

    with Flow("bad") as flow:
        lost = fails()
        add(1, 2)
    state = flow.run()
    assert (type(state), state.message) == (Failed, "Some reference tasks failed.")
    assert isinstance(state.result, dict)
    assert isinstance(state.error, ValueError)
    assert isinstance(state.result[lost].result, ValueError)
    assert log.runs(name="bad")[0].state.cause == "children"


def test_reference_tasks_can_be_set(log):
    with Flow("set") as flow:
        good = one()
        fails()
    flow.set_reference_tasks([good])
    assert flow.run().is_successful()
    assert Flow("given", tasks=[good], reference_tasks=[good]).reference_tasks() == {good}
    with pytest.raises(ValueError, match="it is not in it"):
        flow.set_reference_tasks([one])


def test_failures_fail_what_comes_after_by_its_trigger(log):
    with Flow("downstream") as flow:
        lost = fails()
        after = add(lost, 1)
    state = flow.run()
    assert type(state.result[after]).__name__ == "TriggerFailed"
    assert set(state.result) == {lost, after}


# --- the graph


def test_dependencies_can_be_said_in_all_ways(log):
    order = []

    def noting(name):
        @task(name=name)
        def note():
            order.append(name)

        return note

    a, b, c, d, e = map(noting, "abcde")
    flow = Flow("graph")
    b.set_upstream(a, flow=flow)
    b.set_downstream(c, flow=flow)
    flow.chain(c, d)
    e.set_dependencies(flow=flow, upstream_tasks=[d])
    flow.run()
    assert order == list("abcde")
    assert flow.upstream_tasks(c) == {b}
    assert flow.downstream_tasks(c) == {d}
    assert (flow.root_tasks(), flow.terminal_tasks()) == ({a}, {e})
    assert flow.sorted_tasks(root_tasks=[d]) == (d, e)
    with Flow("bars") as bars:
        a | b | c
    assert bars.sorted_tasks() == (a, b, c)


def test_tasks_are_found_by_name_slug_tags_and_type():
    with Flow("find") as flow:
        with prefect.tags("blue"):
            a = one()
        b = one(task_args={"name": "two", "tags": ["red"]})
        p = Parameter("p")
        add(a, p)
    assert flow.get_tasks(name="one") == [a]
    assert flow.get_tasks(tags=["blue"]) == [a]
    assert flow.get_tasks(tags=["red"]) == [b]
    assert flow.get_tasks(slug="two-1") == [b]
    assert flow.get_tasks(task_type=Parameter) == [p]
    assert flow.slugs[a] == "one-1"


def test_replace_copy_and_update(log):
    with Flow("first") as first:
        a = one()
        b = add(a, Parameter("y"))
    ten = Task.copy(one)
    ten.run = lambda: 10
    first.replace(a, ten)
    assert first.run(y=1).result[b].result == 11

    second = first.copy()
    with second:
        c = add(b, 100)
    assert c not in first.tasks
    assert second.run(y=1).result[c].result == 111

    with Flow("third") as third:
        d = add(Parameter("y"), 0)
    third.update(second, merge_parameters=True)
    state = third.run(y=2)
    assert (state.result[c].result, state.result[d].result) == (112, 2)


def test_operators_and_items_are_tasks(log):
    @task
    def pair():
        return {"a": [1, 2]}

    with Flow("operators") as flow:
        x, y = Parameter("x"), Parameter("y")
        found = {
            "add": x + y, "sub": x - 1, "rsub": 10 - x, "mul": x * y, "div": x / y, "floor": x // y, "mod": x % y,
            "pow": x**2, "gt": x > y, "le": x <= y, "eq": x.is_equal(7), "ne": x.not_equal(7), "not": x.not_(),
            "or": x.or_(0), "and": x & y, "item": pair()["a"][1],
        }  # fmt: skip
    state = flow.run(x=7, y=2)
    assert {name: state.result[made].result for name, made in found.items()} == {
        "add": 9, "sub": 6, "rsub": 3, "mul": 14, "div": 3.5, "floor": 3, "mod": 1, "pow": 49, "gt": True, "le": False,
        "eq": True, "ne": False, "not": False, "or": 7, "and": 2, "item": 2,
    }  # fmt: skip


def test_tasks_inside_of_containers_are_gathered(log):
    @task
    def same(x):
        return x

    with Flow("containers") as flow:
        a, b = one(), add(1, 1)
        found = same([a, {"b": b, "c": (a, 3)}, [1, 2]])
    assert flow.run().result[found].result == [1, {"b": 2, "c": (1, 3)}, [1, 2]]


def test_nout_unpacks_and_without_it_there_is_a_clear_error(log):
    @task(nout=2)
    def two():
        return 1, 2

    with Flow("unpacked") as flow:
        a, b = two()
        with pytest.raises(TypeError, match="give `nout=`"):
            _x, _y = one()
    state = flow.run()
    assert (state.result[a].result, state.result[b].result) == (1, 2)


def test_a_task_is_a_subclass_too(log):
    class Scaled(Task):
        def __init__(self, factor, **kwargs):
            self.factor = factor
            super().__init__(**kwargs)

        def run(self, x):
            return x * self.factor

    with Flow("classes") as flow:
        found = Scaled(3, name="times three")(x=4)
    assert flow.run().result[found].result == 12


def test_pipe_and_upstream_tasks(log):
    with Flow("pipe") as flow:
        found = one().pipe(add, y=5)
        last = one(upstream_tasks=[found])
    assert flow.run().result[found].result == 6
    assert flow.upstream_tasks(last) == {found}


# --- options


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        ({"max_retries": 2}, ValueError, "needs retry_delay"),
        ({"retry_delay": timedelta(1)}, ValueError, "needs max_retries"),
        ({"max_retries": -1}, ValueError, "whole number"),
        ({"max_retries": 1, "retry_delay": 5}, TypeError, "timedelta"),
        ({"retry_on": ValueError}, ValueError, "needs max_retries"),
        ({"timeout": 0}, TypeError, "more than 0"),
        ({"trigger": 5}, TypeError, "not callable"),
        ({"tags": "one"}, TypeError, "list of strings"),
        ({"state_handlers": print}, TypeError, "list of callables"),
        ({"on_failure": 5}, TypeError, "not callable"),
        ({"cache_for": 5}, TypeError, "timedelta"),
        ({"nout": -1}, ValueError, "whole number"),
    ],
)
def test_bad_options_are_refused_where_they_are_given(options, error, says):
    with pytest.raises(error, match=says):
        task(**options)(lambda: 1)


def test_functions_whose_arguments_cannot_be_edges_are_refused():
    with pytest.raises(ValueError, match=r"no \*things"):
        task(lambda *things: 1)
    with pytest.raises(ValueError, match="'mapped' has another meaning"):
        task(lambda mapped: 1)


def test_functions_that_do_not_give_a_value_when_they_are_called_are_refused():
    async def later():
        return 1

    def items():
        yield 1

    for wrong in (later, items):
        with pytest.raises(TypeError, match="neither async nor a generator"):
            task(wrong)


def test_retries_are_of_the_run_itself_and_downstream_waits(log, clock):
    calls = []

    @task(max_retries=2, retry_delay=timedelta(seconds=30))
    def shaky():
        calls.append(prefect.context.task_run_count)
        if len(calls) < 3:
            raise ConnectionError("shaky")
        return 5

    with Flow("retries") as flow:
        found = add(shaky(), 1)
    assert flow.run().result[found].result == 6
    assert calls == [1, 2, 3]
    assert clock.slept == [30.0, 30.0]


def test_retry_on_names_what_is_worth_it(log):
    @task(max_retries=2, retry_delay=timedelta(0), retry_on=ConnectionError)
    def picky(kind):
        raise kind

    with Flow("choosy") as flow:
        picky(ValueError)
        picky([ConnectionError, OSError][0])
    flow.run()
    assert sorted(run.folded.attempt for run in log.runs(name="picky")) == [1, 3]


def test_timeouts_end_an_attempt(log):
    import time

    @task(timeout=0.05)
    def slow():
        time.sleep(5)

    with Flow("slow") as flow:
        found = slow()
    assert type(flow.run().result[found]).__name__ == "TimedOut"


def test_log_stdout_sends_prints_to_the_log_of_the_run(log, caplog):
    @task(log_stdout=True)
    def prints():
        print("hello")

    with Flow("prints") as flow:
        prints()
    with caplog.at_level("INFO", "pluperfect"):
        flow.run()
    assert "hello" in [record.getMessage() for record in caplog.records]


def test_names_and_tags_of_runs(log):
    @task(task_run_name="sum of {x} in {flow_name}", tags=["t"])
    def named(x):
        return x

    @task(task_run_name=lambda x, map_index, **_: f"{x}-{map_index}")
    def called(x):
        return x

    with Flow("names") as flow:
        named(4)
        called.map([7, 8])
    flow.run()
    run = log.runs(name="named")[0]
    assert (run.name, run.folded.birth.tags) == ("sum of 4 in names", ("t",))
    children = [run.name for run in log.runs(name="called") if run.folded.birth.map_index is not None]
    assert sorted(children) == ["7-0", "8-1"]


def test_a_name_that_cannot_be_made_fails_the_task(log):
    @task(task_run_name="{nothing}")
    def named():
        return 1

    with Flow("names") as flow:
        found = named()
    assert isinstance(flow.run().result[found].result, KeyError)


def test_states_are_told_by_class_and_predicate():
    state = Success("good", result=1)
    assert (state.is_successful(), state.is_finished(), state.is_failed()) == (True, True, False)
    assert repr(state) == '<Success: "good">'
    assert Success(result=1) == Success(result=1) != Success(result=2)
    assert isinstance(state, State)
    assert state.error is None


def test_the_same_flow_runs_twice_and_once_under_a_key(log):
    calls = []

    @task
    def counted(x):
        calls.append(x)
        return x

    with Flow("keyed") as flow:
        found = counted(Parameter("x"))
    flow.run(x=1)
    flow.run(x=1)
    assert len(calls) == 2
    first = flow.run(x=3, idempotency_key="k")
    again = flow.run(x=3, idempotency_key="k")
    assert (first.result[found].result, again.result[found].result, calls) == (3, 3, [1, 1, 3])
    assert len(again.result) == 2


def test_flows_run_inside_of_tasks(log):
    with Flow("inner") as inner:
        x = add(Parameter("a"), 1)

    @task
    def runs(a):
        return inner.run(a=a).result[x].result

    with Flow("outer") as outer:
        found = runs(4)
    assert outer.run().result[found].result == 5
    assert log.runs(name="inner")[0].parent.folded.birth.name == "runs"


def test_what_breaks_a_run_from_outside_of_its_tasks_is_its_error_beside_the_states_of_its_tasks(log):
    def terminal(flow, state, references):
        raise LookupError("in the terminal handler")

    with Flow("broken", terminal_state_handler=terminal) as flow:
        found = one()
    state = flow.run()
    assert (state.is_failed(), state.result[found].result) == (True, 1)
    assert isinstance(state.error, LookupError)


def test_a_terminal_handler_that_gives_no_finished_state_is_an_error(log):
    with Flow("broken", terminal_state_handler=lambda *_: "fine") as flow:
        one()
    state = flow.run()
    assert "finished state or None, not 'fine'" in str(state.error)


def test_a_plain_task_only_stands_between_others(log):
    with Flow("plain") as flow:
        between = Task(name="between")(upstream_tasks=[one()])
        last = add(1, 2, upstream_tasks=[between])
    state = flow.run()
    assert (state.result[between].result, state.result[last].result) == (None, 3)


@pytest.mark.parametrize(
    ("wrong", "error", "says"),
    [
        (lambda: one(task_args={"max_retries": 2}), ValueError, "needs retry_delay"),
        (lambda: one(task_args={"colour": "red"}), AttributeError, "no attribute 'colour'"),
        (lambda: add(), TypeError, "add: missing a required argument: 'x'"),
        (lambda: add(1, z=2), TypeError, "unexpected keyword argument 'z'"),
        (lambda: one().set_upstream(add(1), key="not a name"), ValueError, "name of an argument"),
        (lambda: add(1).set_upstream(one(), key="x"), ValueError, "has a value for 'x' already"),
        (lambda: prefect.context.flow.add_task(5), TypeError, "made of tasks"),
        (lambda: one().set_dependencies(downstream_tasks=[5]), TypeError, "is a task, not 5"),
        (lambda: one().__len__(), TypeError, "Give `nout=`"),
        (lambda: prefect.tags(5).__enter__(), TypeError, "A tag is a string"),
        (lambda: prefect.context.flow.replace(one, one), ValueError, "is not in flow"),
    ],
)
def test_what_cannot_be_built_is_refused_where_it_is_said(wrong, error, says):
    with pytest.raises(error, match=says), Flow("wrong"):
        wrong()


def test_states_to_begin_with_are_those_of_tasks_of_the_flow(log):
    with Flow("strange") as flow:
        one()
    with pytest.raises(ValueError, match="which is not in flow 'strange'"):
        flow.run(task_states={one: Success(result=1)})
