"""A refused line is looked up in the file that it is of: in one walk, a few megabytes a step."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest

from userpilot_async.imports._physical_lines import REST
from userpilot_async.imports._sources import FileSource

pytestmark = pytest.mark.anyio


def source_of(path: Path, *, raw: bool = True) -> FileSource:
    journal = SimpleNamespace(progress=SimpleNamespace(all_read=True, line=0))
    return FileSource(path, cast(Any, None), cast(Any, journal), 1, raw=raw)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Lines 1 to 99, of which each tenth is blank."""
    path = tmp_path / "rows.ndjson"
    path.write_text("".join("\n" if number % 10 == 0 else f'{{"n": {number}}}\n' for number in range(1, 100)))
    return path


async def test_lines_in_order_are_found_in_one_walk(path):
    source = source_of(path)
    found = [await source.raw(1)]
    walk = source._again
    found += [await source.raw(line) for line in (7, 7, 8, 55, 99)]

    assert [f'{{"n": {line}}}' for line in (1, 7, 7, 8, 55, 99)] == found
    assert walk is source._again
    await source.aclose()


async def test_lines_in_any_order_are_found_or_are_not_there(path):
    source = source_of(path)
    found = {line: await source.raw(line) for line in (50, 99, 1, 10, 9, 100, 40, 98, 500, 2)}
    await source.aclose()

    there = {line: f'{{"n": {line}}}' for line in (99, 1, 9, 98, 2)}
    assert {**dict.fromkeys((50, 10, 100, 40, 500)), **there} == found


async def test_a_walk_that_was_broken_off_is_none_of_the_next(tmp_path):
    path = tmp_path / "large.ndjson"
    path.write_bytes(b'{"event_type": "track"}\n' + (b'{"n": "' + b"x" * 100_000 + b'"}\n') * 100 + b'{"last": 1}\n')
    source = source_of(path)
    assert (False, None) == source._walk_to(102)

    assert '{"event_type": "track"}' == await source.raw(1)
    assert '{"last": 1}' == await source.raw(102)
    await source.aclose()


async def test_of_another_tools_export_no_line_is_known(path):
    assert None is await source_of(path, raw=False).raw(1)


async def test_a_step_reads_a_few_megabytes(tmp_path):
    """So that whoever is told to stop need not wait for the end of a large file."""
    path = tmp_path / "large.ndjson"
    path.write_bytes(b'{"event_type": "track"}\n' + (b'{"n": "' + b"x" * 100_000 + b'"}\n') * 100 + b'{"last": 1}\n')
    source = source_of(path)
    steps, read = [], 0
    while not (steps and steps[-1][0]):
        steps.append(source._walk_to(102))
        assert source._again is not None
        assert source._again.bytes_read - read < 2 * REST
        read = source._again.bytes_read
    await source.aclose()

    assert '{"last": 1}' == steps[-1][1]
    assert 2 <= len(steps)
