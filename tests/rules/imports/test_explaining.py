"""A file is explained by examples of each kind of line, and by a table in which each line is."""

from __future__ import annotations

import json

import pytest

from userpilot_async.imports import _explaining
from userpilot_async.imports._carrying import MOST_KINDS, OTHERS
from userpilot_async.imports._conversion import Conversion
from userpilot_async.imports._explaining import MOST_EXAMPLES, explanation_of, explanations_of
from userpilot_async.imports._physical_lines import UnreadableFile


@pytest.fixture
def explained(tmp_path):
    def explained(*events, tool="posthog"):
        path = tmp_path / "x.ndjson"
        path.write_text("".join(f"{one if isinstance(one, str) else json.dumps(one)}\n" for one in events))
        return explanation_of(path, Conversion(tool))

    return explained


def event(name, **properties):
    return {"event": name, "distinct_id": "u1", "timestamp": "2024-12-01T08:55:43Z", "properties": properties}


def test_a_line_of_each_kind_and_a_table_of_all(explained):
    known = {"$set": {"plan": "pro"}}
    found = explained(
        event("a"), event("a", **{"$lib": "x"}), event("a", **known), event("$rageclick"), event("$pageview"), "x"
    )

    assert [1, 3, 4, 5, 6] == [example.line for example in found.examples]
    assert ["identify_user", "track"] == [row["event_type"] for row in found.examples[1].rows]
    assert [
        (2, "a", "track"),
        (1, "a", "identify_user + track"),
        (1, "$rageclick", "skipped: `$rageclick`: no page, not an event of a person"),
        (1, "$pageview", "refused: hostname is missing: a page_view row needs hostname and pathname, or url"),
        (1, "a line", "refused: line is not JSON"),
    ] == found.table
    assert (6, True) == (found.read, found.complete)


def test_examples_and_kinds_are_not_without_end_and_no_line_is_left_out(explained):
    found = explained(*(event(f"e{number}") for number in range(MOST_KINDS + 5)))

    assert MOST_EXAMPLES == len(found.examples)
    assert (5, OTHERS, "") == found.table[0]
    assert found.read == sum(count for count, *_ in found.table)


@pytest.mark.parametrize(("lines", "complete"), [(3, True), (4, False)])
def test_of_a_large_file_the_beginning_is_read_and_that_is_said(explained, monkeypatch, lines, complete):
    monkeypatch.setattr(_explaining, "MOST_LINES", 3)
    found = explained(*[event("a")] * lines)

    assert (3, complete, [(3, "a", "track")]) == (found.read, found.complete, found.table)


@pytest.mark.parametrize("anonymous", ["keep", "join"])
def test_of_several_files_empty_ones_have_nothing_to_explain_and_broken_ones_are_named(tmp_path, anonymous):
    paths = [tmp_path / name for name in ("a", "empty", "broken")]
    for path, content in zip(paths, [json.dumps(event("a")), "", "none"], strict=True):
        path.write_text(content)
    conversion = Conversion("posthog", anonymous=anonymous)

    assert [1, 0] == [one.read for one in explanations_of(paths[:2], conversion)]
    with pytest.raises(UnreadableFile, match="/broken: the first line is neither"):
        list(explanations_of(paths, conversion))
    with pytest.raises(UnreadableFile, match=r"^the file is empty"):
        list(explanations_of(paths[1:2], conversion))
