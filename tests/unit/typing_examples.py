"""How users write it, for a type checker to read; nothing here is run. `test_typing.py` has mypy check it strictly.

A line with `type: ignore` must be wrong: a checker that warns of ignores it does not need fails if it is accepted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import date, datetime, timezone
from decimal import Decimal
from enum import Enum
from typing import Any, Literal, Union
from uuid import uuid4

import httpx
from typing_extensions import assert_type

from userpilot_async import (
    DeadCall,
    DeliveryError,
    Identify,
    IdentifyCompany,
    InvalidCall,
    Job,
    JobFailed,
    JobStatus,
    MemoryOutbox,
    Outcome,
    Receipt,
    Rejected,
    Report,
    Settings,
    Statistics,
    Track,
    Unavailable,
    UserpilotAPI,
    UserpilotClient,
)


class Plan(str, Enum):
    FREE = "free"


class Sheet(Enum):
    ROWS = 3


# ── making a client ──


def make_clients(transport: httpx.AsyncBaseTransport, read_key: Callable[[], str], region: Literal["us", "eu"]) -> None:
    UserpilotClient()
    UserpilotClient("KEY", region=region)
    UserpilotClient(read_key, base_url="http://localhost:8080", transport=transport)
    UserpilotClient("KEY", outbox=MemoryOutbox())
    UserpilotClient("KEY", outbox="memory://", settings=Settings(when_full="raise", max_wait=None))
    UserpilotClient("KEY", settings=Settings(flush_interval=0, close_timeout=5))
    UserpilotAPI("KEY", region="eu", request_timeout=5, attempts=1)

    UserpilotClient(b"KEY")  # type: ignore[arg-type]
    UserpilotClient(lambda: b"KEY")  # type: ignore[arg-type]
    UserpilotClient("KEY", region="de")  # type: ignore[arg-type]
    UserpilotClient("KEY", "eu")  # type: ignore[call-arg]
    UserpilotClient("KEY", timeout=5)  # type: ignore[call-arg]
    UserpilotClient("KEY", transport=httpx.HTTPTransport())  # type: ignore[arg-type]
    UserpilotClient("KEY", outbox=[])  # type: ignore[arg-type]
    Settings(when_full="block")  # type: ignore[arg-type]
    Settings(on_invalid="ignore")  # type: ignore[arg-type]
    Settings(track_per_minute=None)  # type: ignore[arg-type]
    Settings(flush_interval="1s")  # type: ignore[arg-type]
    Settings(600)  # type: ignore[call-arg]
    settings = Settings()
    settings.burst = 10  # type: ignore[misc]


def take_dead_calls(dead: DeadCall) -> None:
    assert_type(dead.status, Literal["dead", "dropped"])
    assert_type(dead.reason, str)
    assert_type(dead.call, Union[Track, Identify, IdentifyCompany, None])
    assert_type(dead.error, Union[InvalidCall, None])
    assert_type(dead.arguments, Mapping[str, Any])


async def take_dead_calls_slowly(dead: DeadCall) -> None: ...


def take_strings(dead: str) -> None: ...


def make_clients_with_a_callback() -> None:
    letters: list[DeadCall] = []
    UserpilotClient("KEY", on_dead=take_dead_calls)
    UserpilotClient("KEY", on_dead=take_dead_calls_slowly)
    UserpilotClient("KEY", on_dead=letters.append)

    UserpilotClient("KEY", on_dead=take_strings)  # type: ignore[arg-type]


# ── calling it ──


async def use_the_client(user: dict[str, str], row: Mapping[str, int], loose: dict[str, Any]) -> None:
    async with UserpilotClient("KEY") as userpilot:
        assert_type(userpilot, UserpilotClient)
        assert_type(await userpilot.identify("u1", {"plan": "pro"}, company={"id": "acme", "seats": 3}), Receipt)
        assert_type(await userpilot.identify_company("acme", {"seats": 3, "trial": None}), Receipt)
        assert_type(await userpilot.track("u1", "exported", {"rows": 3, "ok": True, "share": 0.5}), Receipt)
        assert_type(userpilot.track_nowait("u1", "exported"), Receipt)
        assert_type(userpilot.identify_nowait("u1"), Receipt)
        assert_type(userpilot.identify_company_nowait("acme"), Receipt)
        await userpilot.track("u1", "exported", user)
        await userpilot.track("u1", "exported", row)
        await userpilot.track("u1", "exported", loose)
        await userpilot.track("u1", "exported", occurred_at=datetime.now(timezone.utc))
        await userpilot.identify("u1", {"born": date(2000, 1, 1), "paid": Decimal("9.90"), "key": uuid4()})
        await userpilot.identify("u1", {"plan": Plan.FREE, "rows": Sheet.ROWS, "seen": datetime.now(timezone.utc)})
        await userpilot.identify(Plan.FREE)
        assert_type(await userpilot.enqueue(Track("u1", "exported", {"rows": 3})), Receipt)

        await userpilot.track("u1")  # type: ignore[call-arg]
        await userpilot.track(1, "exported")  # type: ignore[arg-type]
        await userpilot.track(None, "exported")  # type: ignore[arg-type]
        await userpilot.track("u1", "exported", {"tags": ["a"]})  # type: ignore[dict-item]
        await userpilot.track("u1", "exported", {"raw": b"a"})  # type: ignore[dict-item]
        await userpilot.track("u1", "exported", {1: "a"})  # type: ignore[dict-item]
        await userpilot.track("u1", "exported", ["rows"])  # type: ignore[arg-type]
        await userpilot.track("u1", "exported", {}, datetime.now(timezone.utc))  # type: ignore[call-arg]
        await userpilot.track("u1", "exported", occurred_at="2026-01-01")  # type: ignore[arg-type]
        await userpilot.identify("u1", company="acme")  # type: ignore[arg-type]
        await userpilot.identify("u1", {}, {"id": "acme"})  # type: ignore[call-arg]
        await userpilot.identify_company("acme", company={"id": "acme"})  # type: ignore[call-arg]
        await userpilot.enqueue({"type": "track"})  # type: ignore[arg-type]
        userpilot.track_nowait("u1", "exported", timeout=1)  # type: ignore[call-arg]


async def follow_a_call(receipt: Receipt) -> None:
    assert_type(receipt.id, int)
    assert_type(receipt.status, Literal["pending", "submitted", "delivered", "dead", "dropped", "merged"])
    assert_type(receipt.reason, Union[str, None])
    outcome = await receipt.outcome(timeout=5)
    assert_type(outcome, Outcome)
    assert_type(outcome.row, Union[Outcome, None])

    receipt.status = "dead"  # type: ignore[misc]


async def read_the_numbers(userpilot: UserpilotClient) -> None:
    report = await userpilot.flush(timeout=5)
    assert_type(report, Report)
    assert_type(await userpilot.aclose(), Report)
    assert_type(report.complete, bool)
    assert_type(report.jobs, tuple[str, ...])
    statistics = userpilot.statistics()
    assert_type(statistics, Statistics)
    assert_type(statistics.pending, int)
    assert_type(statistics.reasons, Mapping[str, int])
    assert_type(statistics.job, Union[Job, None])
    assert_type(statistics.held, Union[str, None])

    statistics.pending = 0  # type: ignore[misc]
    await userpilot.flush("5s")  # type: ignore[arg-type]


@asynccontextmanager
async def lifespan(app: object) -> AsyncIterator[dict[str, UserpilotClient]]:
    """What a FastAPI or Starlette application does."""
    async with UserpilotClient() as userpilot:
        yield {"userpilot": userpilot}


# ── the API without the queue ──


async def use_the_api(client: UserpilotClient, rows: list[dict[str, Any]]) -> None:
    async with UserpilotAPI("KEY") as api:
        assert_type(api, UserpilotAPI)
    api = client.api
    assert_type(api, UserpilotAPI)
    await api.identify("u1", {"plan": "pro"}, company={"id": "acme"})
    await api.identify_company("acme", {"seats": 3})
    await api.track("u1", "exported", {"rows": 3})
    job = await api.bulk_identify_users(rows)
    assert_type(job, Job)
    assert_type(await api.bulk_identify_companies(({"company_id": name} for name in "abc"), filename="a.ndjson"), Job)
    assert_type(await api.import_rows(rows), Job)
    assert_type(await api.import_rows(b"...", filename="a.csv"), Job)
    assert_type(await api.jobs(), list[Job])
    assert_type(await api.job(job.job_id), Job)
    assert_type(await api.wait_for_job(job, timeout=60, on_progress=print), Job)
    assert_type(await api.wait_for_job("bulk:jobs:1", on_progress=lambda seen: seen.completed_rows), Job)
    assert_type(await api.delete_users({"u1", "u2"}), Union[Job, None])
    assert_type(await api.delete_companies(["acme"]), Union[Job, None])
    assert_type(job.status, JobStatus)
    assert_type(job.total_rows, Union[int, None])

    await api.track("u1", "exported", occurred_at=datetime.now(timezone.utc))  # type: ignore[call-arg]
    await api.bulk_identify_users("rows")  # type: ignore[arg-type]
    await api.import_rows("rows.csv")  # type: ignore[arg-type]
    await api.job(job)  # type: ignore[arg-type]
    await api.delete_users([1])  # type: ignore[list-item]
    job.status = JobStatus.COMPLETED  # type: ignore[misc]


async def meet_errors(api: UserpilotAPI) -> None:
    try:
        await api.wait_for_job("bulk:jobs:1")
    except InvalidCall as error:
        assert_type(error.field, str)
        assert_type(error.reason, str)
    except Rejected as error:
        assert_type(error.status, int)
        assert_type(error.detail, str)
    except Unavailable as error:
        assert_type(error.ambiguous, bool)
        assert_type(error.status, Union[int, None])
    except JobFailed as error:
        assert_type(error.job_id, str)
    except DeliveryError:
        pass


# ── calls as values ──


def make_calls(user: dict[str, str]) -> None:
    call = Track("u1", "exported", user, datetime.now(timezone.utc))
    assert_type(call.user_id, str)
    assert_type(call.metadata, Mapping[str, Union[str, int, float, bool, None]])
    Identify("u1", company={"id": "acme"})
    IdentifyCompany("acme", {"seats": 3})

    call.user_id = "u2"  # type: ignore[misc]
    Track("u1")  # type: ignore[call-arg]
