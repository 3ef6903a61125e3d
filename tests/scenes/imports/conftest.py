"""An emulator on the test's own clock, files to import into it, and what it has of them afterwards."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import anyio
import pytest

from tests.scenes.conftest import Cable, cable, emulator, new_api
from userpilot_async.emulator import Emulator

__all__ = ["cable", "emulator", "new_api"]  # fixtures

AT = "2024-12-01T08:55:43.220396"


def track(number: int, **fields: Any) -> dict[str, Any]:
    """An event that no other one is like."""
    row = {"event_type": "track", "user_id": f"u{number % 7}", "event_name": "opened", "inserted_at": AT}
    return {**row, "metadata": {"mark": number}, **fields}


def user(user_id: str, metadata: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    return {"event_type": "identify_user", "user_id": user_id, "inserted_at": AT, "metadata": metadata, **fields}


def company(company_id: str, metadata: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    row = {"event_type": "identify_company", "company_id": company_id, "inserted_at": AT}
    return {**row, "metadata": metadata, **fields}


@pytest.fixture
def written(tmp_path: Path) -> Callable[..., Path]:
    """Make a file of rows; a row that is a text is a line as it is."""

    def written(rows: Iterable[Mapping[str, Any] | str], name: str = "history.ndjson") -> Path:
        path = tmp_path / name
        path.write_text("".join(f"{row if isinstance(row, str) else json.dumps(row)}\n" for row in rows))
        return path

    return written


def marks(emulator: Emulator) -> list[int]:
    """Of the events, in the order in which they were worked off."""
    emulator.advance()
    return [event.metadata["mark"] for event in emulator.store.events]


def doubled(emulator: Emulator) -> dict[int, int]:
    """The marks that are there more than once."""
    return {mark: times for mark, times in Counter(marks(emulator)).items() if times > 1}


def uploads(emulator: Emulator, *, status: int | None = 200) -> list[tuple[str | None, int | None]]:
    """The files that were answered so: (name, rows)."""
    return [
        (one.filename, one.rows) for one in emulator.store.requests if one.family == "imports" and one.status == status
    ]


def rejected(path: Path) -> list[dict[str, Any]]:
    """The rejected file beside it."""
    file = path.with_name(path.name + ".rejected.ndjson")
    return [json.loads(line) for line in file.read_text().splitlines()]


class Killer(Cable):
    """A wire that tells of each request as it leaves, and again when its answer is there."""

    def __init__(self, emulator: Emulator) -> None:
        super().__init__(emulator)
        self.met: Callable[[str], object] = lambda when: None

    async def handle_async_request(self, request: Any) -> Any:
        self.met("leaves")
        await anyio.lowlevel.checkpoint()
        answer = await super().handle_async_request(request)
        self.met("answered")
        await anyio.lowlevel.checkpoint()
        return answer
