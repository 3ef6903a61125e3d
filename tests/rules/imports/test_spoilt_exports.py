"""Whatever the lines of an export look like: each is counted once, said by its kind, and its rows are valid.

The lines are real shapes, spoilt at random, some of them twice and in any order; with all ways to treat people who were
not known yet.
"""

from __future__ import annotations

import json
from collections import Counter

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.examples.exports import SHAPES, files, imported
from userpilot_async._calls.values import encode_json
from userpilot_async.emulator._import_rows import import_row_errors
from userpilot_async.imports import check_file
from userpilot_async.imports._anonymous import ANONYMOUS
from userpilot_async.imports._conversion import Conversion
from userpilot_async.imports._explaining import explanations_of
from userpilot_async.imports._rows import checked
from userpilot_async.imports.converters._convert import CONVERTERS

EVENTS = ("track", "page_view")


def assert_all_accounted_for(lines, found):
    """Read is what gave rows, what was skipped and what was refused; each of them is said."""
    counts, with_rows = found.counts, set(found.lines)
    assert len(lines) == counts.read == counts.with_rows + counts.skipped + counts.lines_refused
    assert counts.with_rows == len(with_rows)
    assert counts.skipped == sum(counts.skipped_by_kind.values())
    assert counts.lines_refused == len({line for line, *_ in found.refused} - with_rows)
    assert all(times <= counts.with_rows for times in counts.notes.values())
    assert all([*counts.notes.values(), *counts.notes, *counts.skipped_by_kind.values(), *counts.skipped_by_kind])


@pytest.mark.parametrize("tool", list(CONVERTERS))
@given(st.data())
def test_every_line_gives_rows_or_is_skipped_or_refused(tool, data):
    lines = data.draw(files(tool))
    for anonymous in ANONYMOUS:
        found = imported(tool, *lines, anonymous=anonymous)

        assert_all_accounted_for(lines, found)
        for row in found.rows:
            assert [] == import_row_errors(json.loads(encode_json(row).encode()))
            assert row == checked(row)


@pytest.mark.parametrize("tool", list(CONVERTERS))
@given(st.data())
def test_what_becomes_of_anonymous_people_changes_no_event_but_whose_it_is(tool, data):
    lines = data.draw(files(tool))

    def events(anonymous):
        found = imported(tool, *lines, anonymous=anonymous)
        rows = [row for row in found.rows if row["event_type"] in EVENTS]
        return Counter(encode_json({**row, "user_id": "", "inserted_at": ""}) for row in rows), found

    (kept, with_them), (joined, _), (others, without) = map(events, ANONYMOUS[:1] + ANONYMOUS[2:] + ANONYMOUS[1:2])

    assert kept == joined
    assert others <= kept
    assert with_them.counts.read == without.counts.read


@pytest.mark.parametrize("anonymous", ANONYMOUS)
@given(st.data())
def test_a_file_is_read_to_its_end_whatever_its_lines_are(anonymous, tmp_path_factory, data):
    """As text, some of it broken off or no JSON at all, through the check and the explanation that users call."""
    tool = data.draw(st.sampled_from(list(CONVERTERS)))
    lines = [json.dumps(line).encode() for line in data.draw(files(tool))]
    broken = st.sampled_from([b"{", b"[]", b"null", b"\xff{}", b'{"a": 1e999}', b"x" * 40, b'{"a": "\\ud83e"}'])
    lines = data.draw(st.permutations([*lines, *data.draw(st.lists(broken, max_size=2))]))
    path = tmp_path_factory.mktemp("export") / "x.ndjson"
    path.write_bytes(b"".join(line + b"\n" for line in [json.dumps(SHAPES[tool][0]).encode(), *lines]))
    conversion = Conversion(tool, anonymous=anonymous)

    report = anyio.run(lambda: check_file(path, converted_from=conversion))
    (explained,) = explanations_of([path], conversion)

    assert 1 + len(lines) == report.read == report.with_rows + report.skipped + report.lines_refused
    assert report.skipped == sum(report.skipped_by_kind.values())
    assert report.read == explained.read == sum(count for count, *_ in explained.table)
