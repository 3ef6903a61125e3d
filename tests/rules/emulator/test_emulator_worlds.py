"""Random worlds: calls made one after the other, by HTTP, leave behind what the sequential model of the tests says.

Among them are calls against the rules, which are refused and leave nothing behind. What the emulator holds is read by
HTTP, too.
"""

from __future__ import annotations

import asyncio
import csv
import io
import json
from collections.abc import Sequence
from typing import Any

import attrs
import httpx
from hypothesis import event, given, settings
from hypothesis import strategies as st

from tests.harness import length
from tests.harness.model import Event, Model, same_state
from userpilot_async.emulator import Emulator

Row = dict[str, Any]

TEXT = st.text(st.characters(codec="utf-8"), max_size=5)
VALUES = st.one_of(
    st.none(),
    st.booleans(),
    TEXT,
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
)
METADATA = st.dictionaries(st.one_of(st.sampled_from(["plan", "a", "ü"]), TEXT), VALUES, max_size=3)
USERS = st.sampled_from(["u1", "u2", "ü/3"])
COMPANIES = st.sampled_from(["c1", "c2", " c: 3"])
EVENTS = st.sampled_from(["opened", "closed", "größer"])


def with_id(name: str) -> st.SearchStrategy[Row]:
    """A `company` of an identify, whose id has one of the two names or both."""
    both = st.sampled_from([["id"], ["company_id"], ["id", "company_id"]])
    rest = METADATA.map(lambda rest: {k: v for k, v in rest.items() if k not in ("id", "company_id")})
    return st.builds(lambda company, names, rest: {**dict.fromkeys(names, company), **rest}, COMPANIES, both, rest)


def row(required: dict[str, Any], **optional: Any) -> st.SearchStrategy[Row]:
    return st.fixed_dictionaries(required, optional=optional)


IDENTIFY = row({"user_id": USERS}, metadata=METADATA, company=with_id("company"))
COMPANY = row({"company_id": COMPANIES}, metadata=METADATA)
TRACK = row({"user_id": USERS, "event_name": EVENTS}, metadata=METADATA, company=st.just({"id": "c1"}))
USER_ROW = row({"user_id": USERS}, metadata=METADATA, company_id=COMPANIES, company=st.just({"id": "c2", "a": 1}))
AT = {"source": st.just("backend-http-import"), "inserted_at": st.sampled_from(["2024-12-01T08:55:43", "2025-01-01"])}
NAMED = st.one_of(st.just(""), COMPANIES)
IMPORT_ROW = st.one_of(
    row({"event_type": st.just("identify_user"), "user_id": USERS, **AT}, metadata=METADATA, company_id=NAMED),
    row({"event_type": st.just("identify_company"), "company_id": COMPANIES, **AT}, metadata=METADATA, user_id=USERS),
    row({"event_type": st.just("track"), "user_id": USERS, "event_name": EVENTS, **AT}, metadata=METADATA,
        company_id=NAMED),
    row({"event_type": st.just("page_view"), "user_id": USERS, "url": st.just("https://example.com/a"), **AT},
        company_id=NAMED),
)  # fmt: skip


def rows(of: st.SearchStrategy[Row]) -> st.SearchStrategy[list[Row]]:
    return st.lists(of, min_size=1, max_size=4)


def ids(of: st.SearchStrategy[str]) -> st.SearchStrategy[list[str]]:
    return st.lists(of, min_size=1, max_size=2)


REFUSED = st.sampled_from([
    ("POST", "/v1/identify", {"user_id": "u1", "metadata": {"plan": ["pro"]}}, 400),
    ("POST", "/v1/identify", {"user_id": "u1", "company": {"name": "Acme"}}, 400),
    ("POST", "/v1/companies/identify", {"metadata": {"a": 1}}, 400),
    ("POST", "/v1/track", {"user_id": "u1", "event_name": "e", "metadata": {"a": "x" * 10_240}}, 413),
    ("POST", "/v1/track", {"user_id": "u1"}, 400),
    ("POST", "/v1/users/bulk_identify", {"users": [{"user_id": "u1"}, {"user_id": "u2", "company_id": ["c1"]}]}, 400),
    ("POST", "/v1/imports", {"users": []}, 400),
    ("DELETE", "/v1/users", {"users": []}, 400),
    ("DELETE", "/v1/companies", {"users": ["u1"]}, 400),
    ("GET", "/v1/users", {}, 405),
    ("POST", "/v1/user", {}, 404),
])  # fmt: skip

STEPS = st.one_of(
    st.tuples(st.just("identify"), IDENTIFY, st.none()),
    st.tuples(st.just("company"), COMPANY, st.none()),
    st.tuples(st.just("track"), TRACK, st.none()),
    st.tuples(st.just("users"), rows(USER_ROW), st.sampled_from(["json", "ndjson"])),
    st.tuples(st.just("companies"), rows(COMPANY), st.sampled_from(["json", "ndjson"])),
    st.tuples(st.just("import"), rows(IMPORT_ROW), st.sampled_from(["ndjson", "csv"])),
    st.tuples(st.just("delete users"), ids(USERS), st.none()),
    st.tuples(st.just("delete companies"), ids(COMPANIES), st.none()),
    st.tuples(st.just("refused"), REFUSED, st.none()),
)


@attrs.define
class World:
    """An emulator behind HTTP, and beside it the model to which the same was done."""

    client: httpx.AsyncClient
    now: list[float]
    model: Model = attrs.field(factory=Model)
    views: list[tuple[str, str | None]] = attrs.field(factory=list)

    async def take(self, kind: str, what: Any, form: str | None) -> None:
        event(kind)
        self.now[0] += 0.125
        match kind:
            case "identify":
                await self.accepted("POST", "/v1/identify", json=what)
                self.model.identify(what["user_id"], what.get("metadata"), company=what.get("company"))
            case "company":
                await self.accepted("POST", "/v1/companies/identify", json=what)
                self.model.identify_company(what["company_id"], what.get("metadata"))
            case "track":
                await self.accepted("POST", "/v1/track", json=what)
                self.model.track(what["user_id"], what["event_name"], what.get("metadata"))
            case "users" | "companies":
                content = {"json": {kind: what}} if form == "json" else {"files": file_of(ndjson(what))}
                await self.accepted("POST", f"/v1/{kind}/bulk_identify", **content)
                await self.worked_off(len(what))
                for one in what:
                    self.bulk_row(one)
            case "import":
                content = csv_of(what) if form == "csv" else ndjson(what)
                await self.accepted("POST", "/v1/imports", 200, files=file_of(content))
                await self.worked_off(len(what))
                for one in what:
                    self.import_row(one)
            case "delete users":
                await self.accepted("DELETE", "/v1/users", json={"users": what})
                await self.worked_off(len(what))
                self.model.forget_users(what)
                self.views = [view for view in self.views if view[0] not in what]
            case "delete companies":
                await self.accepted("DELETE", "/v1/companies", json={"companies": what})
                await self.worked_off(len(what))
                self.model.forget_companies(what)
            case _:
                method, path, payload, status = what
                await self.accepted(method, path, status, json=payload)

    async def accepted(self, method: str, path: str, status: int = 202, **content: Any) -> None:
        answer = await self.client.request(method, path, **content)
        assert status == answer.status_code, answer.text

    async def worked_off(self, rows: int) -> None:
        """Let the clock go on until the newest job is over."""
        self.now[0] += 60
        newest = (await self.client.get("/v1/background_jobs")).json()[0]
        assert ("completed", str(rows)) == (newest["status"], str(newest["total_rows"]))

    def bulk_row(self, one: Row) -> None:
        if "user_id" not in one:
            self.model.identify_company(one["company_id"], one.get("metadata"))
            return
        company = {"id": one["company_id"]} if "company_id" in one else None
        self.model.identify(one["user_id"], one.get("metadata"), company=company)

    def import_row(self, one: Row) -> None:
        match one["event_type"]:
            case "identify_user":
                self.model.import_user(one["user_id"], one.get("metadata"), one.get("company_id"))
            case "identify_company":
                self.model.import_company(one["company_id"], one.get("metadata"))
            case "track":
                named = one.get("company_id")
                self.model.track(one["user_id"], one["event_name"], one.get("metadata"), company_id=named)
            case _:
                booked = one.get("company_id") or self.model.company_of.get(one["user_id"])
                self.views.append((one["user_id"], booked))

    async def ends_as_the_model_says(self) -> None:
        users, companies = await self.shown("users"), await self.shown("companies")
        events, views = await self.shown("events"), await self.shown("page_views")
        same_state(
            self.model,
            {user["user_id"]: user["properties"] for user in users},
            {company["company_id"]: company["properties"] for company in companies},
            {user["user_id"]: user["company_id"] for user in users},
        )
        stored = [Event(one["user_id"], one["event_name"], one["metadata"], one["company_id"]) for one in events]
        assert list(map(exactly, self.model.events)) == list(map(exactly, stored))
        assert self.views == [(one["user_id"], one["company_id"]) for one in views]

    async def shown(self, what: str) -> list[Row]:
        page = (await self.client.get(f"/__emulator__/{what}", params={"limit": 10_000})).json()
        items: list[Row] = page["items"]
        assert page["total"] == len(items)
        return items


def exactly(one: Event) -> str:
    """An event as JSON, in which 1, 1.0 and true are three."""
    return json.dumps(attrs.asdict(one), sort_keys=True)


def ndjson(rows: Sequence[Row]) -> bytes:
    return b"".join(json.dumps(one, ensure_ascii=False).encode() + b"\n" for one in rows)


def csv_of(rows: Sequence[Row]) -> bytes:
    names = list(dict.fromkeys(name for one in rows for name in one))
    file = io.StringIO(newline="")
    writer = csv.DictWriter(file, names)
    writer.writeheader()
    for one in rows:
        writer.writerow({**one, **({"metadata": json.dumps(one["metadata"])} if "metadata" in one else {})})
    return file.getvalue().encode()


def file_of(content: bytes) -> dict[str, Any]:
    return {"file": ("rows", content)}


async def live(steps: Sequence[tuple[str, Any, str | None]]) -> None:
    now = [1_600_854_600.0]
    transport = httpx.ASGITransport(Emulator(clock=lambda: now[0], rate_limit=10_000))
    headers = {"Authorization": "Token KEY", "X-API-Version": "2020-09-22"}
    async with httpx.AsyncClient(transport=transport, base_url="https://emulator", headers=headers) as client:
        world = World(client, now)
        for step in steps:
            await world.take(*step)
        await world.ends_as_the_model_says()


@settings(max_examples=length.of(1_000, soak=5_000))
@given(st.lists(STEPS, min_size=3, max_size=25))
def test_calls_in_a_row_leave_what_the_sequential_model_says(steps):
    asyncio.run(live(steps))
