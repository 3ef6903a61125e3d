"""A year of Amplitude as it is exported, 8,760 hourly files: few uploads, in an archive or one by one.

`test_several_files.py` shows with a few files what is true of many.
"""

from __future__ import annotations

import gzip
import json
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from tests.scenes.imports.conftest import uploads
from userpilot_async.imports import import_file

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]

HOURS = 365 * 24
EVENTS = 6  # an hour: what matters here is the number of files


def hour(number: int) -> tuple[str, bytes]:
    """The name of an hour's file, as Amplitude gives it, and what is in it."""
    at = datetime(2024, 1, 1) + timedelta(hours=number)
    lines = [
        {
            "event_type": "opened", "user_id": f"u{(number * EVENTS + n) % 500}",
            "event_time": str(at + timedelta(minutes=n)), "$insert_id": f"{number}-{n}", "amplitude_id": n,
            "event_properties": {"mark": number * EVENTS + n},
        }
        for n in range(EVENTS)
    ]  # fmt: skip
    content = "".join(f"{json.dumps(line)}\n" for line in lines).encode()
    return f"100000/100000_{at:%Y-%m-%d}_{at.hour}#{0}.json.gz", gzip.compress(content, 1)


def as_archive(folder: Path) -> Path:
    with zipfile.ZipFile(folder / "export.zip", "w") as archive:
        for number in range(HOURS):
            archive.writestr(*hour(number))
    return folder / "export.zip"


def as_files(folder: Path) -> list[Path]:
    (folder / "100000").mkdir()
    paths = []
    for number in range(HOURS):
        name, content = hour(number)
        paths.append(folder / name)
        paths[-1].write_bytes(content)
    return paths


# Its first steps take a thread more than ten seconds, which the clock of trio takes for a deadlock.
@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
@pytest.mark.night
@pytest.mark.parametrize("packed", [as_archive, as_files])
async def test_a_year_of_hourly_files_goes_in_few_uploads(
    new_api, emulator, tmp_path, packed: Callable[[Path], Path | list[Path]]
) -> None:
    async with new_api() as api:
        report = await import_file(api, packed(tmp_path), converted_from="amplitude")
    emulator.advance()

    assert (HOURS * EVENTS, 0, True) == (report.read, report.refused, report.complete)
    assert 50 > len(uploads(emulator))
    assert sorted(range(HOURS * EVENTS)) == sorted(one.metadata["mark"] for one in emulator.store.events)
