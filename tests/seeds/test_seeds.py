"""
Each program of each seed, run as it stands there but for the import lines and the addresses of outside services.

The programs are kept word by word in ``programs/``, in the order and under the headings of their documents.
Where a document shows a fragment or leaves code out, what has to stand around it is said here.
"""

from __future__ import annotations

import ast
import contextlib
import http.server
import io
import json
import logging
import os
import re
import runpy
import subprocess
import sys
import threading
import urllib.parse
from collections import Counter
from pathlib import Path

import pytest

import pluperfect
from pluperfect.testing import FakeClock, kinds

PROGRAMS = Path(__file__).parent / "programs"


# --- the outside world --------------------------------------------------------------------------------------


class Service(http.server.BaseHTTPRequestHandler):
    """Fibonacci numbers, repositories with issues, and addresses that fail."""

    def do_POST(self):
        given = urllib.parse.parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
        n = int(given["nth"][0])
        self.server.asked[f"fib {n}"] += 1
        if n == self.server.broken and self.server.asked[f"fib {n}"] == 1:
            self.answer(500, "down")
            return
        a, b = 1, 1
        for _ in range(n - 1):
            a, b = b, a + b
        self.answer(200, a)

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        self.server.asked[url.path] += 1
        if url.path.startswith("/status/"):
            self.answer(int(url.path.rpartition("/")[2]), "status")
        elif url.path == "/endpoint":
            self.answer(503 if self.server.asked[url.path] < 3 else 200, {"ready": True})
        elif url.path.endswith("/issues"):
            page = int(urllib.parse.parse_qs(url.query)["page"][0])
            count = 100 if page < 7 else 1
            self.answer(200, [{"user": {"id": (page * 100 + i) // 2}} for i in range(count)])
        else:
            self.answer(200, {"stargazers_count": 12157, "forks_count": 1251, "open_issues_count": 601})

    def answer(self, code, body):
        data = json.dumps(body).encode()
        self.send_response(code)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_):
        pass


@pytest.fixture
def service():
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Service)
    server.asked, server.broken = Counter(), None
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


# --- the programs -------------------------------------------------------------------------------------------

LEFT_OUT = "   (rest of code follows)"


def program(name, service=None, *, before="", after="", instead=None):
    """The text of a program with its imports and addresses changed."""
    text = (PROGRAMS / f"{name}.py").read_text()
    if name.startswith("000"):
        text = text.replace("import prefect\n", "import pluperfect.classic as prefect\n")
        text = re.sub(r"\bfrom prefect\b", "from pluperfect.classic", text)
    else:
        text = re.sub(r"\bfrom prefect(_dask)?\b", r"from pluperfect\1", text)
    if service is not None:
        text = re.sub(
            r"https://(nemo\.api\.stdlib\.com/[^\"]+|api\.github\.com|api\.brittle-service\.com)", service.url, text
        )
        text = text.replace("https://httpbin.org", service.url).replace(
            "https://docs.prefect.io", f"{service.url}/status/500"
        )
    if instead is not None:
        assert LEFT_OUT in text
        text = text.replace(LEFT_OUT, instead)
    assert "https://" not in text
    return f"{before}{text}{after}"


class Ran:
    def __init__(self, names, out, log):
        self.names, self.out, self.log = names, out, log

    def runs(self, name=None):
        return self.log.runs(name=name)[::-1]

    def one(self, name):
        (found,) = self.log.runs(name=name)
        return found


@pytest.fixture
def run(tmp_path, service):
    """Run a program as a script, its delays on a clock that makes nobody wait; give what it printed and recorded."""
    with pluperfect.open(f"lmdb:{tmp_path / 'runs'}", clock=FakeClock()) as log:

        def run_program(name, **changes):
            script = tmp_path / f"{name}.py"
            script.write_text(program(name, service, **changes))
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                names = runpy.run_path(str(script), run_name="__main__")
            return Ran(names, printed.getvalue(), log)

        yield run_program
        assert log.compare() == []


@pytest.fixture
def lines(caplog):
    caplog.set_level(logging.INFO, "pluperfect")
    return lambda: [record.getMessage() for record in caplog.records]


def test_no_program_is_left_without_a_test():
    tree = ast.parse(Path(__file__).read_text())
    named = {node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)}
    assert {path.stem for path in PROGRAMS.glob("*.py")} <= named


# --- 000: loops of Prefect 1 ----------------------------------------------------------------------------------


def test_000_a_while_loop_in_one_task(run, service):
    after = """
from prefect import Flow, Parameter

with Flow("large fibonacci") as flow:
    M = Parameter("M")
    fib = compute_large_fibonacci(M)
print(flow.run(M=100).result[fib].result)
""".replace("from prefect", "from pluperfect.classic")
    assert run("000_1_a_while_loop_in_one_task", after=after).out == "89\n"
    assert sum(service.asked.values()) == 12


def test_000_the_loop_signal_and_two_runs_of_the_flow(run, service):
    ran = run("000_2_the_loop_signal_and_two_runs_of_the_flow")
    assert ran.out == "89\n987\n"
    first, second = ran.runs("compute_large_fibonacci")
    assert Counter(kinds(first)) == {"Pending": 1, "Running": 12, "Looped": 11, "Completed": 1}
    assert Counter(kinds(second)) == {"Pending": 1, "Running": 17, "Looped": 16, "Completed": 1}
    assert first.transitions[2].to.message == "Fib 1=1"
    assert sum(service.asked.values()) == 12 + 17


def test_000_an_interruption_of_the_connection_costs_one_attempt_of_one_iteration_and_two_seconds(run, service):
    service.broken = 7
    ran = run("000_2_the_loop_signal_and_two_runs_of_the_flow")
    assert ran.out == "89\n987\n"
    assert ran.log.clock.slept == [2]
    first, _ = ran.runs("compute_large_fibonacci")
    assert Counter(kinds(first))["Retrying"] == 1
    assert service.asked["fib 7"] == 3
    assert all(service.asked[f"fib {n}"] == 2 for n in (1, 2, 3, 4, 5, 6, 8))


def test_000_a_loop_in_every_child_of_a_map(run):
    assert run("000_3_a_loop_in_every_child_of_a_map").out == "[8, 89, 987, 987]\n"


def test_000_each_iteration_has_its_line_in_the_log(run, lines):
    run("000_2_the_loop_signal_and_two_runs_of_the_flow")
    assert sum("Fib " in line for line in lines()) == 11 + 16


# --- 001: notes on Prefect 3 ----------------------------------------------------------------------------------


def test_001_plain_flow(run):
    ran = run("001_1_plain_flow")
    assert ran.out == "Hello world\n"
    assert ran.one("test-flow").state.is_completed()


def test_001_flows_in_classes(run):
    ran = run("001_2_flows_in_classes")
    assert ran.out == "实例方法流水线\n类方法流水线\n静态方法流水线\n"
    assert [r.folded.birth.name for r in ran.runs()] == [
        "instance-methods-flow",
        "class-methods-flow",
        "static-methods-flow",
    ]


def test_001_nested_flows(run):
    ran = run("001_3_nested_flows")
    assert re.fullmatch(r"the number \d+ is (even|odd)\n", ran.out)
    outer = ran.one("even or odd")
    assert [child.folded.birth.name for child in outer.children] == ["generate_a_number", "even number"]
    number, even = (child.result() for child in outer.children)
    assert even == (number % 2 == 0)


def test_001_the_options_of_flows_do_what_the_table_says(run, tmp_path):
    from pluperfect import flow, task
    from pluperfect.errors import ParameterTypeError
    from pluperfect.task_runners import ThreadPoolTaskRunner

    with pluperfect.open("memory:", clock=FakeClock()) as log:
        seen = []

        @flow(
            description="described",
            name="named",
            retries=1,
            retry_delay_seconds=3,
            flow_run_name="run of {n}",
            task_runner=ThreadPoolTaskRunner(max_workers=1),
            timeout_seconds=60,
            validate_parameters=True,
            version="1.2",
        )
        def options(n: int):
            seen.append(n)
            if len(seen) == 1:
                raise ValueError("once")

        options("5")
        recorded = log.run("named")
        assert (recorded.name, recorded.folded.birth.version, options.description) == ("run of 5", "1.2", "described")
        assert seen == [5, 5]
        assert log.clock.slept == [3]
        with pytest.raises(ParameterTypeError):
            options("five")
        assert task(print).name == "print"


@pytest.mark.parametrize(("slip", "meant"), [("decription", "description"), ("timeout_second", "timeout_seconds")])
def test_001_the_slips_in_the_tables_are_named(slip, meant):
    from pluperfect import flow, task

    for decorator in (flow, task):
        with pytest.raises(TypeError, match=f"{slip}.*{meant}"):
            decorator(**{slip: 1})(print)


def test_001_assets(run):
    ran = run("001_4_assets")
    pipeline = ran.one("数据处理")
    assert pipeline.name == "数据处理运行中"
    (made,) = ran.log.assets()
    assert (made.key, made.succeeded, made.run) == ("s3://my-bucket/processed-data.csv", True, ran.one("process_data"))


def test_001_assets_that_depend_on_one_another_are_inferred_and_keys_change_by_with_options():
    from pluperfect import flow, task
    from pluperfect.assets import materialize

    @materialize("s3://bucket/raw.csv")
    def raw():
        return [1, 2]

    @task
    def clean(rows):
        return [row + 1 for row in rows]

    @materialize("s3://bucket/clean.csv")
    def store(rows):
        return None

    @flow
    def pipeline():
        rows = clean(raw())
        store(rows)
        store.with_options(assets=["s3://bucket/other.csv"])(rows)

    with pluperfect.open("memory:") as log:
        pipeline()
        assert {made.key: made.made.upstream for made in log.assets()} == {
            "s3://bucket/raw.csv": (),
            "s3://bucket/clean.csv": ("s3://bucket/raw.csv",),
            "s3://bucket/other.csv": ("s3://bucket/raw.csv",),
        }


def test_001_retries(run):
    ran = run("001_5_retries")
    outer = ran.one("retry-flow")
    assert kinds(outer) == "Pending Running Retrying Running Retrying Running Failed".split()
    assert [kinds(r) for r in ran.runs("retry_task_3")] == [
        "Pending Running Retrying Running Retrying Running Failed".split()
    ] * 3
    assert ran.log.clock.slept == [2, 4, 1, 2, 4, 1, 2, 4]
    assert outer.folded.birth.version == "1.0.0"


@pytest.mark.parametrize(("kind", "slept"), [(1, [5, 5]), (2, [2, 4])])
def test_001_the_other_retries_of_the_program(run, kind, slept):
    ran = run("001_5_retries", after=f"\ntry:\n    retry_flow({kind})\nexcept Exception:\n    pass\n")
    assert ran.log.clock.slept[8:] == [*slept, 1, *slept, 1, *slept]


def test_001_retry_condition(run, service):
    ran = run("001_6_retry_condition")
    assert ran.one("重试条件").state.is_failed()
    assert service.asked["/status/500"] == 2
    answers = [t.facts.answers for t in ran.one("api_call_task").transitions if t.facts.answers]
    assert answers == [{"retry_condition_fn": True}]


def test_001_jitter_stretches_the_delays(run):
    from pluperfect import task

    @task(retries=20, retry_delay_seconds=10, retry_jitter_factor=0.5)
    def jittery():
        raise ValueError

    with pluperfect.open("memory:", clock=FakeClock()) as log:
        with pytest.raises(ValueError):
            jittery()
        assert len(set(log.clock.slept)) == 20
        assert all(6.2 < slept <= 15 for slept in log.clock.slept)


def test_001_submit(run, lines):
    ran = run("001_7_submit")
    assert ran.out == ""
    assert {f"第{i}个任务{k}" for i in range(10) for k in (1, 2)} <= set(lines())
    assert [r.name for r in ran.one("并发测试任务流").children] == [f"测试并发-{i}" for i in range(10)]


def test_001_map_and_unmapped(run):
    assert run("001_8_map_and_unmapped").out == "[10, 11, 12]\n"


# --- 002: tasks of Prefect 3 ----------------------------------------------------------------------------------

LOG_LINE = re.compile(r"\d\d:\d\d:\d\d\.\d{3} \| (\w+ *) \| (.*?) - (.*)")


def test_002_a_flow_with_one_task_as_a_bare_script_shows_the_lines_of_the_document(service, tmp_path):
    script = tmp_path / "get_repo_info.py"
    script.write_text(program("002_01_a_flow_with_one_task", service))
    home = {**os.environ, "PLUPERFECT_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, env=home)
    assert done.stdout == ""
    found = [LOG_LINE.fullmatch(line).groups() for line in done.stderr.splitlines()]
    assert {level for level, _, _ in found} == {"INFO   "}
    name = re.fullmatch(r"Created flow run '(\w+-\w+)' for flow 'get-repo-info'", found[0][2])[1]
    flow = f"Flow run '{name}'"
    assert [(source, message) for _, source, message in found] == [
        ("pluperfect.engine", f"Created flow run '{name}' for flow 'get-repo-info'"),
        (flow, "Created task run 'get_url-0' for task 'get_url'"),
        (flow, "Executing 'get_url-0' immediately..."),
        ("Task run 'get_url-0'", "Finished in state Completed()"),
        (flow, "PrefectHQ/prefect repository statistics 🤓:"),
        (flow, "Stars 🌠 : 12157"),
        (flow, "Forks 🍴 : 1251"),
        (flow, "Finished in state Completed('All states completed.')"),
    ]


def test_002_the_task_key_is_a_hash_of_name_qualified_function_name_and_tags():
    from pluperfect import task

    def body():
        pass

    one = task(body)
    assert one.key == task(body).key
    assert len({one.key, task(name="other")(body).key, task(tags=["a"])(body).key}) == 3
    assert one.name == "body"


def test_002_sync_function(run):
    assert run("002_02_sync_function").out == "Hello, I'm a task\n"


def test_002_async_function(run):
    ran = run("002_03_async_function")
    assert ran.out == "Hello, I'm an async task\n"
    assert kinds(ran.one("print_message")) == ["Pending", "Running", "Completed"]


def test_002_methods(run):
    ran = run("002_04_methods")
    assert [r.folded.birth.name for r in ran.runs()] == ["my_instance_method", "my_class_method", "my_static_method"]


def test_002_generator(run):
    ran = run("002_05_generator")
    assert ran.out == "".join(f"{i}\n" for i in range(10))
    generator = ran.one("generator")
    assert generator.state.is_completed()
    consumers = ran.runs("consumer")
    assert len(consumers) == 10
    assert {r.folded.birth.upstream for r in consumers} == {(generator.folded.id,)}
    assert generator.folded.updated >= consumers[-1].folded.updated


def test_002_a_returned_generator(run):
    ran = run("002_06_a_returned_generator")
    assert ran.out == "Generator consumed!\n"
    assert ran.one("f").result() == [1, 2, 3]


def test_002_a_yielded_generator(run):
    after = "print(list(generator))\n"
    ran = run("002_07_a_yielded_generator", after=after)
    assert ran.out == "Generator consumed!\n[]\n"


def test_002_cached_requests(run, service):
    ran = run("002_08_cached_requests", after="\nget_repo_info()\n")
    assert "Average open issues per user 💌 : 2.00" in "".join(lines_of(ran))
    assert service.asked["/repos/PrefectHQ/prefect"] == 1
    assert service.asked["/repos/PrefectHQ/prefect/issues"] == 7
    assert Counter(r.state.kind for r in ran.runs("get_url")) == {"Completed": 8, "Cached": 8}
    ran.log.clock.advance(3600)
    ran.names["get_repo_info"]()
    assert service.asked["/repos/PrefectHQ/prefect"] == 2


def lines_of(ran):
    return [record.getMessage() for record in RECORDS]


RECORDS: list[logging.LogRecord] = []


@pytest.fixture(autouse=True)
def _records(caplog):
    caplog.set_level(logging.INFO, "pluperfect")
    RECORDS.clear()
    handler = logging.Handler()
    handler.emit = RECORDS.append
    logging.getLogger("pluperfect").addHandler(handler)
    yield
    logging.getLogger("pluperfect").removeHandler(handler)


def test_002_submitted_requests(run, service, tmp_path):
    """The document replaces one function of the program before by this part."""
    whole = (PROGRAMS / "002_08_cached_requests.py").read_text()
    part = program("002_09_submitted_requests_part", service)
    replaced = re.sub(r"def get_open_issues.*?\n\n\n", lambda _: f"{part}\n\n", whole, flags=re.DOTALL)
    assert replaced != whole
    script = tmp_path / "submitted.py"
    script.write_text(
        re.sub(r"\bfrom prefect\b", "from pluperfect", replaced).replace("https://api.github.com", service.url)
    )
    home = {**os.environ, "PLUPERFECT_HOME": str(tmp_path / "home")}
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, check=True, env=home)
    messages = [LOG_LINE.fullmatch(line).group(3) for line in done.stderr.splitlines()]
    assert [m for m in messages if m.startswith("Submitted")] == [
        f"Submitted task run 'get_url-{n}' for execution." for n in range(1, 8)
    ]
    assert sum(m == "Finished in state Completed()" for m in messages) == 8
    assert messages[-2:] == [
        "Average open issues per user 💌 : 2.00",
        "Finished in state Completed('All states completed.')",
    ]
    assert service.asked["/repos/PrefectHQ/prefect/issues"] == 7


def test_002_name_and_description(run):
    ran = run("002_10_name_and_description", before="from pluperfect import task\n", after="\nmy_task()\n")
    task = ran.names["my_task"]
    assert (task.name, task.description) == ("hello-task", "This task says hello.")
    assert ran.out == "Hello, I'm a task\n"


def test_002_run_name_template(run):
    ran = run("002_11_run_name_template")
    assert re.fullmatch(r"hello-marvin-on-(Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day", ran.one("My Example Task").name)


def test_002_run_name_callable(run):
    ran = run("002_12_run_name_callable")
    assert re.fullmatch(r"(Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day-is-a-lovely-day", ran.one("My Example Task").name)


def test_002_run_name_from_the_runtime(run):
    ran = run(
        "002_13_run_name_from_the_runtime",
        before="from pluperfect import task\n",  # the document forgets it
        after='\nmy_flow("any")\n',
    )
    assert ran.one("my-example-task").name == "my-flow-my-example-task-with-marvin-and-100"


def test_002_tags_option(run):
    ran = run("002_14_tags_option", before="from pluperfect import task\n", after="\nmy_task()\n")
    assert ran.one("hello-task").folded.birth.tags == ("test",)


def test_002_tags_context(run):
    ran = run("002_15_tags_context")
    assert ran.one("my_task").folded.birth.tags == ("test",)
    assert ran.one("my-flow").folded.birth.tags == ()
    assert ran.log.runs(tag="test") == [ran.one("my_task")]


def test_002_timeout(run, lines):
    ran = run("002_16_timeout", after="\ntry:\n    show_timeouts()\nexcept TimeoutError:\n    print('timed out')\n")
    assert ran.out == "timed out\n"
    assert "I will execute" in lines()
    assert "I will not execute" not in lines()
    assert kinds(ran.one("show_timeouts")) == ["Pending", "Running", "TimedOut"]


def test_002_retries(run, service):
    ran = run("002_17_retries")
    recorded = ran.one("get_data_task")
    assert kinds(recorded) == "Pending Running Retrying Running Retrying Running Completed".split()
    assert ran.log.clock.slept == [5, 5]
    assert service.asked["/endpoint"] == 3
    assert recorded.result() == {"ready": True}


FAILS = "    raise ValueError('always')\n\ntry:\n    {}()\nexcept ValueError:\n    pass"


def test_002_manual_backoff(run):
    ran = run("002_18_manual_backoff", instead=FAILS.format("some_task_with_manual_backoff_retries"))
    assert ran.log.clock.slept == [1, 10, 100]


@pytest.mark.parametrize(("status", "requests"), [(503, 2), (404, 1), (401, 1)])
def test_002_retry_condition(run, service, status, requests):
    after = f"\ntry:\n    get_data_flow(url='{service.url}/status/{status}')\nexcept Exception:\n    pass\n"
    with pytest.raises(Exception, match="503"):
        run("002_19_retry_condition")
    service.asked.clear()
    name = "002_19_retry_condition"
    text = program(name, service).replace('if __name__ == "__main__":', "if False:")
    exec(compile(text + after, name, "exec"), {"__name__": "seed"})
    assert service.asked[f"/status/{status}"] == requests


def test_002_exponential_backoff(run):
    ran = run("002_20_exponential_backoff", instead=FAILS.format("some_task_with_exponential_backoff_retries"))
    assert ran.log.clock.slept == [10, 20, 40]


def test_002_jitter(run):
    ran = run("002_21_jitter", instead=FAILS.format("some_task_with_exponential_backoff_retries"))
    slept = ran.log.clock.slept
    assert all(base * 0.41 < one <= 2 * base for base, one in zip([10, 20, 40], slept, strict=True))
    assert slept != [10, 20, 40]


def test_002_config_set_as_the_document_writes_it(tmp_path):
    home = {**os.environ, "PLUPERFECT_HOME": str(tmp_path / "home")}
    cli = [sys.executable, "-m", "pluperfect"]
    for line in (
        "config set PREFECT_TASK_DEFAULT_RETRIES=2",
        "config set PREFECT_TASK_DEFAULT_RETRY_DELAY_SECONDS = [1, 10, 100]",
    ):
        subprocess.run([*cli, *line.split()], check=True, env=home, capture_output=True, cwd=tmp_path)
    script = tmp_path / "settings.py"
    script.write_text(
        "import pluperfect\n"
        "from pluperfect.testing import FakeClock\n"
        "@pluperfect.task\n"
        "def plain(): raise ValueError\n"
        "@pluperfect.task(retries=1, retry_delay_seconds=7)\n"
        "def chosen(): raise ValueError\n"
        "@pluperfect.task(retries=0)\n"
        "def never(): raise ValueError\n"
        "for fails in (plain, chosen, never):\n"
        "    with pluperfect.open('memory:', clock=FakeClock()) as log:\n"
        "        try: fails()\n"
        "        except ValueError: print(log.clock.slept)\n"
    )
    done = subprocess.run(
        [sys.executable, str(script)], capture_output=True, text=True, check=True, env=home, cwd=tmp_path
    )
    assert done.stdout == "[1.0, 10.0]\n[7.0]\n[]\n"


# --- 003: the beta of Prefect 2, which shows no program: what it says, said in one each ------------------------------


def test_003_a_flow_is_retried_when_it_fails(run):
    from pluperfect import flow

    with pluperfect.open("memory:", clock=FakeClock()) as log:
        left = [ValueError(), None]

        @flow(retries=1)
        def fails_once():
            error = left.pop(0)
            if error:
                raise error
            return "done"

        assert fails_once() == "done"
        assert kinds(log.run("fails-once")) == "Pending Running Retrying Running Completed".split()


def test_003_the_dask_task_runner_runs_submitted_tasks_on_a_cluster_of_its_own():
    from pluperfect import flow
    from pluperfect_dask import DaskTaskRunner
    from runners import programs

    @flow(task_runner=DaskTaskRunner(cluster_kwargs={"n_workers": 1, "threads_per_worker": 2}))
    def on_dask():
        return programs.double.map([1, 2, 3]).result(), programs.where.submit().result()

    with pluperfect.open("memory:") as log:
        doubled, pid = on_dask()
        assert doubled == [2, 4, 6]
        assert pid != os.getpid()
        assert len(log.run("on-dask").children) == 4


def test_003_async_functions_run_concurrently_by_async_and_await():
    import asyncio

    from pluperfect import flow, task

    met = []

    @task
    async def meets(name, arrived, awaited):
        met.append(name)
        arrived.set()
        await awaited.wait()
        return name

    @flow
    async def meeting():
        a, b = asyncio.Event(), asyncio.Event()
        return await asyncio.gather(meets("one", a, b), meets("two", b, a))

    with pluperfect.open("memory:"):
        assert asyncio.run(meeting()) == ["one", "two"]


def test_003_a_flow_in_a_flow_is_a_run_of_its_own_under_its_parent_with_a_task_runner_of_its_own():
    from pluperfect import flow, task
    from pluperfect.task_runners import ConcurrentTaskRunner

    made = []

    class Watched(ConcurrentTaskRunner):
        def submit(self, call):
            made.append(self)
            super().submit(call)

        def close(self):
            super().close()
            made.append("closed")

    double = task(lambda x: 2 * x, name="double")

    @flow(task_runner=Watched)
    def inner():
        return double.submit(2).result()

    @flow(task_runner=Watched)
    def outer():
        first = double.submit(1)
        second = inner()
        return first.result() + second

    with pluperfect.open("memory:") as log:
        assert outer() == 6
        assert [r.kind for r in log.run("outer").children] == ["task", "flow"]
        assert [r.name for r in log.run("inner").children] == ["double-0"]
    assert made[2] == "closed"
    assert made[0] is not made[1]


def test_003_wait_for_orders_tasks_that_hand_nothing_to_one_another():
    from pluperfect import flow, task

    order = []
    gate = threading.Event()

    @task
    def first():
        gate.wait()
        order.append("first")

    @task
    def second():
        order.append("second")

    @flow
    def ordered():
        one = first.submit()
        two = second.submit(wait_for=[one])
        gate.set()
        two.wait()
        second(wait_for=[two])

    with pluperfect.open("memory:") as log:
        ordered()
        first_run, *seconds = log.run("ordered").children
        assert seconds[0].folded.birth.upstream == (first_run.folded.id,)
    assert order == ["first", "second", "second"]


def test_003_the_version_of_a_flow_is_by_default_a_hash_of_its_file_and_none_without_one():
    import hashlib

    from pluperfect import flow

    @flow
    def here():
        from pluperfect.runtime import flow_run

        return flow_run.flow_version

    names: dict = {}
    exec("def nowhere():\n    from pluperfect.runtime import flow_run\n    return flow_run.flow_version", names)
    with pluperfect.open("memory:"):
        assert here() == hashlib.md5(Path(__file__).read_bytes()).hexdigest()
        assert flow(names["nowhere"])() is None


def test_003_a_flow_past_its_timeout_is_stopped_at_the_next_task_call():
    import time

    from pluperfect import flow, task

    called = []
    noop = task(lambda: called.append(1), name="noop")

    @flow(timeout_seconds=0.05)
    def overrunning():
        until = time.monotonic() + 0.1
        while time.monotonic() < until:
            pass
        called.append("went on")
        noop()
        called.append("never")

    with pluperfect.open("memory:") as log:
        with pytest.raises(TimeoutError):
            overrunning()
        assert log.run("overrunning").state.is_timed_out()
    assert called == ["went on"]


def test_003_a_cached_task_completes_without_running_its_code():
    from pluperfect import task
    from pluperfect.tasks import task_input_hash

    calls = []

    @task(cache_key_fn=task_input_hash)
    def costly(x):
        calls.append(x)
        return x

    with pluperfect.open("memory:") as log:
        assert [costly(1), costly(1), costly(2)] == [1, 1, 2]
        assert [r.state.kind for r in log.runs(name="costly")][::-1] == ["Completed", "Cached", "Completed"]
    assert calls == [1, 2]
