"""The document of the bytes: every example decodes, encodes again byte for byte, and prints as it says."""

from __future__ import annotations

import pickle
import re
from hashlib import sha256
from pathlib import Path

import msgspec
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from msgspec.msgpack import Ext
from msgspec.structs import replace

from pluperfect import records, states, transitions
from pluperfect.errors import RedactedValue, StoreDamaged
from pluperfect.states import KINDS, Running, codec_of
from pluperfect_store.conformance import born, new_id, part
from pluperfect_store.memory import MemoryLog

DOCUMENT = (Path(__file__).parents[1] / "specs" / "records.md").read_text()
EXAMPLES = [
    (name, line.strip(), bytes.fromhex(code), bytes.fromhex(leaf))
    for name, line, code, leaf in re.findall(
        r"^### (.+)\n\n    (.+)\n\n```hex\n([0-9a-f\n]+)```\n\nLeaf `([0-9a-f]+)`", DOCUMENT, re.MULTILINE
    )
]


def rows(title):
    section = DOCUMENT.split(f"## {title}\n")[1].split("\n## ")[0]
    lines = [line for line in section.splitlines() if line.startswith("|") and not line.startswith("|---")]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in lines]


@pytest.mark.parametrize(("name", "line", "data", "leaf"), EXAMPLES, ids=[name for name, *_ in EXAMPLES])
def test_an_example_is_decoded_and_encoded_again_byte_for_byte(name, line, data, leaf):
    record = records.open_record(data)
    entry = records.decode(data)

    assert records.encode(record.run, entry, record.prev) == data
    assert records.leaf(data) == leaf
    assert str(entry).strip() == line


def test_the_examples_are_chained_and_show_every_state_and_both_rulings():
    prev = records.GENESIS
    for _, _, data, leaf in EXAMPLES:
        assert records.open_record(data).prev == prev
        prev = leaf
    assert [name for name, *_ in EXAMPLES] == [*(kind.kind for kind in KINDS), "Ruling, refused", "Ruling, delayed"]


def test_the_tables_are_those_of_the_code():
    envelope = [row[0] for row in rows("The envelope")[1:]]
    assert envelope == list(records.Record.__struct_fields__)
    listed = rows("States")
    for name, code, fields in (row for row in listed if len(row) == 3 and row[0] != "state"):
        kind = getattr(states, name)
        assert (kind.code, list(kind.__struct_fields__)) == (int(code), fields.split(", "))
    for name, fields in (row for row in listed if len(row) == 2 and row[0] != "part"):
        kind = getattr(states, name, None) or getattr(transitions, name)
        assert list(kind.__struct_fields__) == fields.split(", ")
    for code, codec, *_ in rows("Packed values")[1:]:
        assert codec_of(states.Packed(int(code), b"")) == codec


def row_of(record, values=()):
    return msgspec.msgpack.encode([msgspec.msgpack.encode(record), values])


def test_what_is_not_known_passes_through():
    row = row_of([bytes(16), 1, 5, 0, "dist/later", 7, bytes(32), {"any": ["thing"]}, {"x": 1}])

    assert records.decode(row) is None
    assert records.open_record(row).type == "dist/later"
    newer = row_of([bytes(16), 1, 5, 0, "transition", 2, bytes(32), ["of", "later"], {}])
    assert records.decode(newer) is None


def test_a_record_of_a_later_release_with_more_fields_at_the_end_is_read():
    _, _, data, _ = EXAMPLES[2]
    raw = msgspec.msgpack.decode(records.open_row(data).raw)
    raw[7][0].append("a later field")
    raw += [{}, "another"]

    assert records.decode(row_of(raw)).to.kind == "Retrying"


@pytest.mark.parametrize("short", [[[2]], [[2, "", 1]], [[2, "", 1, 1, "Running"], None, ""]], ids=str)
def test_what_an_array_leaves_out_at_its_end_has_its_default(short):
    whole = [[2, "", 1, 1, "Running"], None, "", "", None]
    envelope = [bytes(16), 2, 5, 0, "transition", 1, bytes(32)]

    assert records.decode(row_of([*envelope, short])) == records.decode(row_of([*envelope, whole, {}]))


@given(st.binary(max_size=60))
def test_bytes_that_are_no_record_are_a_clear_error(data):
    try:
        records.decode(data)
    except StoreDamaged as error:
        assert "no record" in str(error) or "its body is no" in str(error)


@given(st.data())
def test_a_damaged_record_never_decodes_to_the_same_leaf(data):
    _, _, record, leaf = data.draw(st.sampled_from(EXAMPLES))
    place = data.draw(st.integers(0, len(record) - 1))
    bit = data.draw(st.integers(0, 7))
    damaged = bytearray(record)
    damaged[place] ^= 1 << bit

    try:
        assert records.leaf(bytes(damaged)) != leaf
    except StoreDamaged:
        pass  # it is no row any more


def test_a_text_that_is_no_utf_8_is_damage():
    data = bytearray(EXAMPLES[0][2])
    data[data.index(b"transition")] ^= 0x80

    with pytest.raises(StoreDamaged, match="no record"):
        records.open_row(bytes(data))


def test_the_leaf_binds_the_record_and_the_digest_of_each_value():
    row = records.open_row(EXAMPLES[0][2])
    digests = [sha256(value).digest() for value in row.values]

    assert len(digests) == 1
    assert row.leaf == sha256(b"\0" + row.raw + b"".join(digests)).digest()


def test_a_value_can_be_taken_away_and_everything_else_stays_proved():
    _, line, data, leaf = EXAMPLES[5]
    row = records.open_row(data)
    taken = [msgspec.msgpack.Ext(1, sha256(v).digest() + len(v).to_bytes(8, "big")) for v in row.values]
    without = msgspec.msgpack.encode([row.raw, taken])
    entry = records.decode(without)

    assert taken
    assert records.leaf(without) == leaf
    assert str(entry).strip() == line
    assert (entry.to.data.size, entry.to.data.digest) == (len(row.values[0]), taken[0].data[:32])
    with pytest.raises(RedactedValue, match=f"SHA-256 {entry.to.data.digest.hex()}.*redacted"):
        entry.to.data.data  # noqa: B018
    assert records.decode(without, {entry.to.data.digest: row.values[0]}.get) == records.decode(data)


@given(st.binary(max_size=5_000))
def test_a_value_stands_in_its_row_up_to_a_size_and_beyond_that_its_digest_does(data):
    run, entry = bytes(16), transitions.Transition(1, 5.0, states.Completed(data=states.Packed(1, data)))
    row = records.open_row(records.encode(run, entry, records.GENESIS))

    assert row.digests == [sha256(data).digest()]
    assert (row.values == [data]) == (len(data) <= records.INLINE)
    assert row.entry({sha256(data).digest(): data}.get) == entry


def test_a_value_that_stands_twice_in_an_entry_is_kept_once():
    error = states.Error("E", "m", "", states.Packed(3, b"pickled"))
    asked = states.Failed("m", "error", error)
    entry = transitions.Transition(
        3, 5.0, states.Retrying("m", "error", 6.0, 1.0, None, error), asked, "retries", "1 of 2"
    )

    row = records.open_row(records.encode(bytes(16), entry, records.GENESIS))
    assert row.values == [b"pickled"]
    assert row.entry() == entry


def test_a_value_that_was_pickled_with_another_one_is_read_by_every_release():
    """A result that holds a state is pickled with the state's packed value; stores keep these bytes."""
    written = b"cpluperfect.values\n_again\n(K\x01C\x01\x05C\x00tR."
    assert pickle.loads(written) == states.Packed(1, b"\x05")
    assert b"_again" in pickle.dumps(states.Packed(1, b"\x05"))


def test_the_digest_of_a_large_value_is_computed_once_and_a_small_one_keeps_none():
    small, large = states.Packed(1, bytes(records.INLINE)), states.Packed(1, bytes(records.INLINE + 1))
    assert large.digest is large.digest
    assert small.digest is not small.digest
    assert small.digest == sha256(small.data).digest()


ANYTHING = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=3),
    st.binary(max_size=16),
    st.just(bytearray(b"x")),
    st.just({b"k": 1}),
    st.just({"k": {(1, 2): 3}}),
    st.just({"retries": 3}),
    st.just((b"r" * 16,)),
    st.just(("tag",)),
    st.just((1,)),
    st.just([]),
    st.builds(states.Packed, st.just(states.PLAIN), st.binary(max_size=4)),
    st.builds(lambda *fields: (states.Input(*fields),), *[st.one_of(st.none(), st.text(), st.just(b"d" * 16), st.just({(): 1}))] * 3),
    st.builds(lambda value: (states.Input("x", b"d" * 16, value),), st.builds(states.Packed, st.just(1), st.binary())),
)  # fmt: skip


@settings(suppress_health_check=[HealthCheck.too_slow])  # how quick the machine is, is no law
@given(st.dictionaries(st.sampled_from(states.Spec.__struct_fields__), ANYTHING, max_size=3))
@example({"inputs": (states.Input("x", bytes(16), Ext(1, b"\x09")),)})
@example({"inputs": (states.Input(b"x", bytes(16)),)})
@example({"options": {"retries": Ext(1, b"\x09")}})
@example({"options": {1: 2}})
@example({"tags": (1,)})
@example({"upstream": ("run",)})
def test_a_birth_that_is_taken_for_readable_without_a_second_look_is_read_again(fields):
    spec = states.Spec(**{"kind": "task", "name": "n", "key": "k", "run_name": "r", "root": bytes(16), **fields})
    birth = transitions.Transition(1, 0.0, states.Pending(spec=spec))
    try:
        body = records.body_of(birth)
    except (TypeError, OverflowError, UnicodeEncodeError, RecursionError):
        return  # it cannot even be written

    if body.sure:
        assert records.decode(records.encode(bytes(16), birth, records.GENESIS)) == birth


@given(st.integers(-200, 200), st.booleans())
@example(-1, True)
@example(-1, False)
def test_a_value_of_any_code_is_refused_or_read_again(code, ends):
    """Codes below zero are msgpack's own, and above 127 it knows none."""
    value, run, log = states.Packed(code, b"x"), new_id(), MemoryLog()
    birth = born(run)
    if ends:
        entries = [birth, Running(), states.Completed(data=value)]
    else:
        entries = [states.Pending(spec=replace(birth.spec, inputs=(states.Input("x", bytes(16), value),)))]
    whole = part(run, None, 0, *entries)
    try:
        log.append([whole], epoch=1).wait()
    except (TypeError, ValueError, OverflowError):
        assert code not in range(32)
        assert log.position() == 0
    else:
        assert [found.to for found in map(records.decode, log.records(run))] == [each.to for each in whole.entries]


def test_the_births_that_the_engine_makes_need_no_second_look():
    spec = states.Spec(
        "task", "n", "k", "n-0", bytes(16), bytes(16), 3, None, 0, (states.Input("x", bytes(16), states.Packed(1, b"1")),),
        bytes(16), "v1", ("a",), {"retries": 3, "log_prints": None}, "lazy", "", (bytes(16),), None, "m:1", None,
    )  # fmt: skip

    assert records.body_of(transitions.Transition(1, 0.0, states.Pending(spec=spec))).sure
