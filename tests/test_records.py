"""The document of the bytes: every example decodes, encodes again byte for byte, and prints as it says."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pluperfect import records, states, transitions
from pluperfect.errors import StoreDamaged
from pluperfect.states import KINDS, codec_of

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


def test_what_is_not_known_passes_through():
    record = msgspec.msgpack.encode([bytes(16), 1, 5, 0, "dist/later", 7, bytes(32), {"any": ["thing"]}, {"x": 1}])

    assert records.decode(record) is None
    assert records.open_record(record).type == "dist/later"
    newer = msgspec.msgpack.encode([bytes(16), 1, 5, 0, "transition", 2, bytes(32), ["of", "later"], {}])
    assert records.decode(newer) is None


def test_a_record_of_a_later_release_with_more_fields_at_the_end_is_read():
    _, _, data, _ = EXAMPLES[1]
    raw = msgspec.msgpack.decode(data)
    raw[7][0].append("a later field")
    raw.append("another")

    assert records.decode(msgspec.msgpack.encode(raw)).to.kind == "Running"


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

    assert records.leaf(bytes(damaged)) != leaf
