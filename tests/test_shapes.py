"""Values of users' classes, when many threads meet one class for the first time."""

from __future__ import annotations

import msgspec
import pytest

from pluperfect import shapes
from processes import program

__all__ = ["program"]

CLASSES = """
    sys.setswitchinterval(1e-6)
    import logging, types
    import msgspec
    from pluperfect import serializers, shapes
    from pluperfect.manager import Hooks
    shown = types.ModuleType("shown")
    sys.modules["shown"] = shown

    def classes():
        for number in range(300):
            inner = msgspec.defstruct(f"Inner{number}", [("a", int), ("b", "str | None"), ("c", "list[int]")], module="shown")
            setattr(shown, inner.__name__, inner)
            fields = [("one", inner.__name__), ("more", f"list[{inner.__name__}] | None"), ("names", "dict[str, int]")]
            outer = msgspec.defstruct(f"Outer{number}", fields, module="shown")
            setattr(shown, outer.__name__, outer)
            yield outer, outer(inner(1, None, []), None, {})

    def together(work):
        came = threading.Barrier(4)
        errors = []
        def go():
            came.wait()
            try:
                work()
            except BaseException as error:
                errors.append(error)
        threads = [threading.Thread(target=go) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not errors, errors
"""


WORKS = {
    "packed": "hooks.pack(value)",
    "converted": "shapes.convert({'one': {'a': 1, 'b': None, 'c': []}, 'more': None, 'names': {}}, kind)",
    "read as JSON": "serializers.JSONSerializer().loads(written)",
}


@pytest.mark.parametrize("work", WORKS.values(), ids=WORKS.keys())
def test_a_class_may_be_met_by_many_threads_at_once(program, tmp_path, work):
    """msgspec looks a class through at first; where two threads begin that at once, the process dies."""
    lead = f"""
    hooks = Hooks(entry_points=False)
    for kind, value in classes():
        written = serializers.JSONSerializer().dumps(value)
        together(lambda: {work})
    print("alive")
    """
    assert program(CLASSES + lead, tmp_path).end() == ["alive"]


def test_a_class_whose_annotations_name_nothing_yet_is_looked_at_again():
    """What failed is not remembered as looked at."""
    late = msgspec.defstruct("Late", [("inner", "NotThereYet")], namespace={"__module__": __name__})
    with pytest.raises(NameError):
        shapes.convert({"inner": {"a": 1}}, late)
    globals()["NotThereYet"] = msgspec.defstruct("NotThereYet", [("a", int)])
    try:
        assert shapes.convert({"inner": {"a": 1}}, late).inner.a == 1
        with pytest.raises(msgspec.ValidationError):
            shapes.convert({"inner": {"a": "one"}}, late)
    finally:
        del globals()["NotThereYet"]


def test_a_process_that_was_forked_while_a_thread_was_looking_looks_by_itself(program, tmp_path):
    """The child has no thread that would let go of the lock."""
    lead = """
    held, over = threading.Event(), threading.Event()

    def hold():
        with shapes._looking:
            held.set()
            over.wait()

    threading.Thread(target=hold, daemon=True).start()
    held.wait()
    if (child := os.fork()) == 0:
        os._exit(0 if shapes.convert({"a": 1}, msgspec.defstruct("Small", [("a", int)])).a == 1 else 1)
    for _ in range(2000):
        done, status = os.waitpid(child, os.WNOHANG)
        if done:
            break
        time.sleep(0.01)
    else:
        os.kill(child, 9)
    print(done == child and os.waitstatus_to_exitcode(status) == 0)
    """
    assert program(CLASSES + lead, tmp_path).end() == ["True"]
