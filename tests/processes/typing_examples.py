"""How users write it, for a type checker to read; nothing here is run. `test_typing.py` has mypy check it strictly.

A line with `type: ignore` must be wrong: a checker that warns of ignores it does not need fails if it is accepted.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum, StrEnum
from pathlib import Path
from typing import Any, Literal, assert_type
from uuid import uuid4

import httpx

from userpilot_async import (
    DeadCall,
    DeleteCompany,
    DeleteUser,
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
    blocking,
    parcelvoy,
)
from userpilot_async.imports import IdentifyUser, ImportProgress, ImportReport, TrackEvent, check_file, import_file
from userpilot_async.parcelvoy import Alias, Device, ParcelvoyClient, ParcelvoySettings
from userpilot_async.sqlite import SQLiteOutbox


class Plan(StrEnum):
    FREE = "free"


class Sheet(Enum):
    ROWS = 3


# ── making a client ──


def make_clients(transport: httpx.AsyncBaseTransport, read_key: Callable[[], str], region: Literal["us", "eu"]) -> None:
    UserpilotClient()
    UserpilotClient("KEY", region=region)
    UserpilotClient(read_key, base_url="http://localhost:8080", transport=transport)
    UserpilotClient("KEY", outbox=MemoryOutbox())
    UserpilotClient("KEY", outbox=SQLiteOutbox(Path("events.db"), durability="process", sender=False))
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
    SQLiteOutbox("events.db", durability="none")  # type: ignore[arg-type]
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
    assert_type(dead.call, Track | Identify | IdentifyCompany | DeleteUser | DeleteCompany | None)
    assert_type(dead.error, InvalidCall | None)
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
        await userpilot.track("u1", "exported", occurred_at=datetime.now(UTC))
        await userpilot.identify("u1", {"born": date(2000, 1, 1), "paid": Decimal("9.90"), "key": uuid4()})
        await userpilot.identify("u1", {"plan": Plan.FREE, "rows": Sheet.ROWS, "seen": datetime.now(UTC)})
        await userpilot.identify(Plan.FREE)
        assert_type(await userpilot.enqueue(Track("u1", "exported", {"rows": 3})), Receipt)

        await userpilot.track("u1")  # type: ignore[call-arg]
        await userpilot.track(1, "exported")  # type: ignore[arg-type]
        await userpilot.track(None, "exported")  # type: ignore[arg-type]
        await userpilot.track("u1", "exported", {"tags": ["a"]})  # type: ignore[dict-item]
        await userpilot.track("u1", "exported", {"raw": b"a"})  # type: ignore[dict-item]
        await userpilot.track("u1", "exported", {1: "a"})  # type: ignore[dict-item]
        await userpilot.track("u1", "exported", ["rows"])  # type: ignore[arg-type]
        await userpilot.track("u1", "exported", {}, datetime.now(UTC))  # type: ignore[call-arg]
        await userpilot.track("u1", "exported", occurred_at="2026-01-01")  # type: ignore[arg-type]
        await userpilot.identify("u1", company="acme")  # type: ignore[arg-type]
        await userpilot.identify("u1", {}, {"id": "acme"})  # type: ignore[call-arg]
        await userpilot.identify_company("acme", company={"id": "acme"})  # type: ignore[call-arg]
        await userpilot.enqueue({"type": "track"})  # type: ignore[arg-type]
        userpilot.track_nowait("u1", "exported", timeout=1)  # type: ignore[call-arg]


async def commit_with_a_transaction(userpilot: UserpilotClient, connection: object) -> None:
    calls = userpilot.within(connection)
    assert_type(await calls.track("u1", "paid", {"amount": 49}, dedupe="stripe:evt_1"), Receipt)
    assert_type(calls.identify_nowait("u1", {"plan": Plan.FREE}, company={"id": "acme"}), Receipt)
    assert_type(await calls.identify_company("acme"), Receipt)

    await calls.track("u1")  # type: ignore[call-arg]
    calls.track_nowait("u1", "paid", dedupe=7)  # type: ignore[arg-type]


async def follow_a_call(receipt: Receipt) -> None:
    assert_type(receipt.id, int)
    assert_type(receipt.status, Literal["pending", "submitted", "delivered", "dead", "dropped", "merged"])
    assert_type(receipt.reason, str | None)
    outcome = await receipt.outcome(timeout=5)
    assert_type(outcome, Outcome)
    assert_type(outcome.row, Outcome | None)

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
    assert_type(statistics.lost_by_reason, Mapping[str, int])
    assert_type(statistics.job, Job | None)
    assert_type(statistics.paused, str | None)

    statistics.pending = 0  # type: ignore[misc]
    await userpilot.flush("5s")  # type: ignore[arg-type]


@asynccontextmanager
async def lifespan(app: object) -> AsyncIterator[dict[str, UserpilotClient]]:
    """What a FastAPI or Starlette application does."""
    async with UserpilotClient() as userpilot:
        yield {"userpilot": userpilot}


# ── without a loop ──


def use_it_without_a_loop(client: UserpilotClient, rows: list[dict[str, Any]]) -> None:
    with blocking(client) as userpilot:
        assert_type(userpilot.track("u1", "exported", {"rows": 3}, occurred_at=datetime.now(UTC)), Receipt)
        assert_type(userpilot.identify("u1", {"plan": "pro"}, company={"id": "acme"}), Receipt)
        assert_type(userpilot.identify_company("acme", {"seats": 3}), Receipt)
        assert_type(userpilot.enqueue(Track("u1", "exported")), Receipt)
        assert_type(userpilot.flush(timeout=5), Report)
        assert_type(userpilot.statistics(), Statistics)
        assert_type(userpilot.rate_limits, Mapping[str, int | None])
        assert_type(userpilot.import_rows(rows, strict=True), ImportReport)
        assert_type(userpilot.api.jobs(), list[Job])
        assert_type(userpilot.api.wait_for_job("bulk:jobs:1", timeout=60), Job)
        assert_type(userpilot.track("u1", "exported").wait(5), Outcome)
        assert_type(userpilot.close(timeout=5), Report)
        assert_type(userpilot.report, Report | None)

        userpilot.track("u1")  # type: ignore[call-arg]
        userpilot.track("u1", "exported", {"raw": b"a"})  # type: ignore[dict-item]
        userpilot.track("u1", "exported", {}, datetime.now(UTC))  # type: ignore[call-arg]
        userpilot.track("u1", "exported", timeout=1)  # type: ignore[call-arg]
        userpilot.api.jobs(1)  # type: ignore[call-arg]
        userpilot.alias("a1", "u1")  # type: ignore[attr-defined]
    with blocking(ParcelvoyClient(), backend="trio") as parcelvoy_client:
        assert_type(parcelvoy_client.track("exported", external_id="u1"), Receipt)
        assert_type(parcelvoy_client.alias("a1", "u1"), Receipt)

        parcelvoy_client.track("exported", "u1")  # type: ignore[call-arg]
        parcelvoy_client.identify_company("acme")  # type: ignore[attr-defined]
    blocking(UserpilotAPI())  # type: ignore[arg-type]
    blocking(client, backend="gevent")  # type: ignore[arg-type]


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
    assert_type(await api.delete_users({"u1", "u2"}), int | None)
    assert_type(await api.delete_companies(["acme"]), int | None)
    assert_type(job.status, JobStatus)
    assert_type(job.total_rows, int | None)

    await api.track("u1", "exported", occurred_at=datetime.now(UTC))  # type: ignore[call-arg]
    await api.bulk_identify_users("rows")  # type: ignore[arg-type]
    await api.import_rows("rows.csv")  # type: ignore[arg-type]
    await api.job(job)  # type: ignore[arg-type]
    await api.delete_users([1])  # type: ignore[list-item]
    job.status = JobStatus.COMPLETED  # type: ignore[misc]


async def import_history(client: UserpilotClient, at: datetime, loose: list[dict[str, Any]]) -> None:
    def show(progress: ImportProgress) -> None:
        assert_type(progress.bytes_total, int | None)
        assert_type(progress.job, Job | None)

    async def slowly() -> AsyncIterator[TrackEvent]:
        yield TrackEvent(user_id="u1", event_name="exported", inserted_at=at)

    report = await client.import_file(Path("history.ndjson"), converted_from="segment", on_progress=show)
    assert_type(report, ImportReport)
    assert_type(report.first_errors, tuple[tuple[int, str, str], ...])
    assert_type(await client.import_rows([IdentifyUser(user_id="u1", inserted_at=at, metadata={"n": 1})]), ImportReport)
    await client.import_rows(loose, journal="rows.import", strict=True)
    await client.import_rows(slowly())
    await import_file(None, "history.ndjson", dry_run="out")
    assert_type(await check_file("history.ndjson"), ImportReport)

    await client.import_file("history.ndjson", dry_run="out")  # type: ignore[call-arg]
    await client.import_rows(["a row"])  # type: ignore[list-item]
    await client.import_rows(loose, on_progress=print, max_rows="many")  # type: ignore[arg-type]
    TrackEvent(user_id="u1", event_name="exported")  # type: ignore[call-arg]


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
        assert_type(error.status, int | None)
    except JobFailed as error:
        assert_type(error.job_id, str)
    except DeliveryError:
        pass


# ── calls as values ──


def make_calls(user: dict[str, str]) -> None:
    call = Track("u1", "exported", user, datetime.now(UTC))
    assert_type(call.user_id, str)
    assert_type(call.metadata, Mapping[str, str | int | float | bool | None])
    Identify("u1", company={"id": "acme"})
    IdentifyCompany("acme", {"seats": 3})

    call.user_id = "u2"  # type: ignore[misc]
    Track("u1")  # type: ignore[call-arg]


# ── Parcelvoy ──


async def make_parcelvoy_calls_again(dead: parcelvoy.DeadCall) -> None:
    assert_type(dead.status, Literal["dead", "dropped"])
    assert_type(dead.call, parcelvoy.Identify | Alias | Device | parcelvoy.Track | None)
    assert_type(dead.error, InvalidCall | None)
    async with ParcelvoyClient() as client:
        if dead.call is not None:
            await client.enqueue(dead.call)
        if isinstance(dead.call, parcelvoy.Track):
            assert_type(dead.call.name, str)

        await client.enqueue(dead.call)  # type: ignore[arg-type]
        await client.enqueue(Track("u1", "exported"))  # type: ignore[arg-type]


def make_parcelvoy_clients(transport: httpx.AsyncBaseTransport, read_key: Callable[[], str]) -> None:
    letters: list[parcelvoy.DeadCall] = []
    ParcelvoyClient()
    ParcelvoyClient("KEY", "https://parcelvoy.example", transport=transport, on_dead=letters.append)
    ParcelvoyClient(read_key, base_url="http://localhost:3000", on_dead=make_parcelvoy_calls_again)
    ParcelvoyClient("KEY", settings=ParcelvoySettings(requests_per_minute=600, max_events=100, when_full="raise"))
    ParcelvoyClient("KEY", settings=ParcelvoySettings(requests_per_minute=None), outbox=MemoryOutbox())

    ParcelvoyClient(b"KEY")  # type: ignore[arg-type]
    ParcelvoyClient("KEY", region="eu")  # type: ignore[call-arg]
    ParcelvoyClient("KEY", settings=Settings())  # type: ignore[arg-type]
    ParcelvoyClient("KEY", on_dead=take_dead_calls)  # type: ignore[arg-type]
    UserpilotClient("KEY", on_dead=make_parcelvoy_calls_again)  # type: ignore[arg-type]
    UserpilotClient("KEY", settings=ParcelvoySettings())  # type: ignore[arg-type]
    ParcelvoySettings(600)  # type: ignore[call-arg]
    ParcelvoySettings(max_events=1.5)  # type: ignore[arg-type]
    ParcelvoySettings(when_full="block")  # type: ignore[arg-type]
    ParcelvoySettings(track_per_minute=600)  # type: ignore[call-arg]
    settings = ParcelvoySettings()
    settings.max_events = 1  # type: ignore[misc]


async def use_parcelvoy(row: Mapping[str, list[int]], loose: dict[str, Any], at: datetime) -> None:
    async with ParcelvoyClient("KEY", "https://parcelvoy.example") as client:
        assert_type(client, ParcelvoyClient)
        assert_type(client.settings, ParcelvoySettings)
        assert_type(await client.identify("u1", email="ann@example.com", data={"teams": [{"id": 1}]}), Receipt)
        assert_type(await client.identify(anonymous_id="a1", timezone="Europe/Berlin"), Receipt)
        assert_type(await client.track("exported", external_id="u1", data=row, occurred_at=at), Receipt)
        assert_type(client.track_nowait("exported", anonymous_id="a1", data=loose), Receipt)
        assert_type(await client.alias("a1", "u1"), Receipt)
        device = await client.register_device("d", external_id="u", os="iOS", model="X", app_build="1", app_version="1")
        assert_type(device, Receipt)
        assert_type(await client.enqueue(parcelvoy.from_line(b"{}")), Receipt)
        assert_type(await client.flush(5), Report)
        assert_type(client.statistics(), Statistics)
        assert_type(client.rate_limits, Mapping[str, int | None])

        await client.track()  # type: ignore[call-arg]
        await client.track("exported", "u1")  # type: ignore[call-arg]
        await client.track("exported", user_id="u1")  # type: ignore[call-arg]
        await client.track("exported", external_id=1)  # type: ignore[arg-type]
        await client.track("exported", external_id="u1", data=["rows"])  # type: ignore[arg-type]
        await client.track("exported", external_id="u1", data={1: "a"})  # type: ignore[dict-item]
        await client.track("exported", external_id="u1", occurred_at="2026-01-01")  # type: ignore[arg-type]
        await client.identify("u1", {"plan": "pro"})  # type: ignore[call-arg, arg-type]
        await client.identify("u1", timezone=UTC)  # type: ignore[arg-type]
        await client.alias("a1")  # type: ignore[call-arg]
        await client.register_device("d", external_id="u1")  # type: ignore[call-arg]
        client.register_device_nowait("d", os="iOS", model="X", app_build=465, app_version="1")  # type: ignore[arg-type]


def make_calls_for_parcelvoy(at: datetime) -> None:
    call = parcelvoy.Track("exported", external_id="u1", data={"rows": [3]}, occurred_at=at)
    assert_type(call.name, str)
    assert_type(call.external_id, str | None)
    assert_type(call.data, Mapping[str, Any])
    assert_type(call.as_dict(), dict[str, Any])
    parcelvoy.Identify("u1", email="ann@example.com")
    Alias("a1", "u1")
    Device("d", external_id="u1", os="iOS", model="X", app_build="465", app_version="1.2.4")

    call.name = "other"  # type: ignore[misc]
    parcelvoy.Track("exported", "u1")  # type: ignore[call-arg]
    parcelvoy.Track("exported", external_id=1)  # type: ignore[arg-type]
    parcelvoy.Identify("u1", "a1")  # type: ignore[call-arg]
    parcelvoy.Identify("u1", data=["rows"])  # type: ignore[arg-type]
    parcelvoy.from_line({"type": "track"})  # type: ignore[arg-type]
    parcelvoy.Track()  # type: ignore[call-arg]
    Alias("a1")  # type: ignore[call-arg]
    Device("d", external_id="u1")  # type: ignore[call-arg]
    Device("d", "u1", None, "iOS", "X", "465", "1.2.4")  # type: ignore[call-arg]
