from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from userpilot_async import InvalidCall
from userpilot_async.cli._source import KEPT, SHOWN, Rejections, Source, Unreadable

pytestmark = [pytest.mark.anyio, pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)]


async def lines_of(path: Path, **options: int) -> list[tuple[int, bytes]]:
    with Source(str(path), **options) as source:
        return [line async for line in source.lines()]


async def test_lines_are_numbered_from_one_and_the_last_needs_no_newline(tmp_path: Path) -> None:
    path = tmp_path / "calls.ndjson"
    path.write_bytes(b"one\n\nthree")

    assert [(1, b"one"), (2, b""), (3, b"three")] == await lines_of(path)


async def test_a_file_named_gz_is_unpacked(tmp_path: Path) -> None:
    lines = [f"line {number}".encode() * 40 for number in range(5_000)]
    path = tmp_path / "calls.ndjson.gz"
    path.write_bytes(gzip.compress(b"\n".join(lines)))

    assert list(enumerate(lines, 1)) == await lines_of(path)


async def test_a_gzip_file_cut_short_is_unreadable_and_not_just_over(tmp_path: Path) -> None:
    """The file's end would look like the end of the calls, and the rest would be lost in silence."""
    path = tmp_path / "calls.ndjson.gz"
    path.write_bytes(gzip.compress(b"one\ntwo\n")[:-6])

    with pytest.raises(Unreadable, match="breaks off"):
        await lines_of(path)


async def test_a_line_without_end_is_cut_off_instead_of_filling_the_memory(tmp_path: Path) -> None:
    path = tmp_path / "calls.ndjson"
    path.write_bytes(b"x" * 1_000_000 + b"\nnext\n")

    (first, long), second = await lines_of(path, max_line=100_000)

    assert first == 1
    assert 100_000 + 65_536 >= len(long)
    assert (2, b"next") == second


async def test_bad_lines_beyond_the_first_are_only_counted() -> None:
    said: list[str] = []
    rejections = Rejections(said.append)

    for number in range(1, KEPT + 101):
        rejections.add(number, InvalidCall("line", "is not JSON"))

    assert KEPT + 100 == rejections.count
    assert KEPT == len(rejections.kept)
    assert SHOWN + 1 == len(said)
    assert said[0] == "line 1: is not JSON"
