"""Every case that was seen at a real Parcelvoy 2.3.3, against a fresh emulator: the statuses, and what is stored."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import httpx
import pytest

from userpilot_async.emulator import Emulator
from userpilot_async.emulator.parcelvoy import Store

pytestmark = pytest.mark.anyio

CASES = json.loads(Path(__file__).with_name("parcelvoy-observed.json").read_text(encoding="utf-8"))["cases"]
PREFIX = "case-"
PUBLIC, SECRET = "pk_c1284c02b39d-44be-b8ec-2ab799412f93", "sk_secret"
KEYS = {"PK_OF_ANOTHER_CASE": "pk_" + PUBLIC[3:].upper()}  # the file does not tell which key it was
BY_LIBRARY = {"phone_country", "phone_is_valid"}
"""Of the data the keys that the server finds out with a phone library; the emulator has none, so they are left out."""
SHOWN = 60  # characters of an event's data in the file


@pytest.mark.parametrize("case", [pytest.param(case, id=case["case"]) for case in CASES])
async def test_the_emulator_answers_and_stores_what_the_server_did(case):
    emulator = Emulator(api_keys=[PUBLIC, SECRET])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(emulator), base_url="https://emulator") as http:
        statuses = [(await http.send(request_of(step))).status_code for step in case["steps"]]

    assert case["status"] == statuses
    assert sorted(map(repr, people_in(case["stored"]))) == sorted(map(repr, people_of(emulator.store.parcelvoy)))


@pytest.mark.parametrize("case", [pytest.param(case, id=case["case"]) for case in CASES])
async def test_a_strict_emulator_refuses_what_the_server_lost_and_nothing_else(case):
    lenient, strict = Emulator(api_keys=[PUBLIC, SECRET]), Emulator(api_keys=[PUBLIC, SECRET], strict=True)
    for step in case["steps"]:
        lost = len(lenient.store.parcelvoy.lost)
        answers = []
        for emulator in (lenient, strict):
            async with httpx.AsyncClient(transport=httpx.ASGITransport(emulator), base_url="https://emulator") as http:
                answers.append(await http.send(request_of(step)))
        reasons = [one.reason for one in lenient.store.parcelvoy.lost[lost:]]

        assert (422 if reasons else answers[0].status_code) == answers[1].status_code
        assert all(reason in answers[1].json()["error"] for reason in reasons)
    assert [] == strict.store.parcelvoy.lost


def request_of(step: dict[str, Any]) -> httpx.Request:
    key = step.get("key", PUBLIC)
    headers = {"Content-Type": "application/json", "Authorization": f"Bearer {KEYS.get(key, key)}"}
    headers |= step.get("headers", {})
    body = step["body"] if "body" in step else json.dumps(step["json"], ensure_ascii=False)
    return httpx.Request(
        step.get("method", "POST"),
        f"https://emulator{step['path']}",
        headers={name: value for name, value in headers.items() if value is not None},
        content=body.replace("~", PREFIX).encode() if step.get("json", "") is not None else b"",
    )


def people_in(stored: str) -> list[dict[str, Any]]:
    """The people of a case, of whom `data` is JSON in JSON."""
    if stored == "nothing":
        return []
    people = [json.loads(person) for person in stored.replace("~", PREFIX).split(" | ")]
    return [{**person, "data": known(json.loads(person["data"]))} for person in people]


def people_of(store: Store) -> list[dict[str, Any]]:
    """The people of the store, in the words of the file."""
    return [
        {
            "anonymous_ids": user.anonymous_ids,
            "data": known(user.data),
            "devices": user.devices,
            "events": dict(sorted(Counter(shown(event) for event in store.events if event.user == number).items())),
            "external_id": user.external_id,
            "fields": dict(sorted(user.fields.items())),
        }
        for number, user in store.users.items()
    ]


def known(data: dict[str, Any]) -> dict[str, Any]:
    return {name: data[name] for name in sorted(data) if name not in BY_LIBRARY}


def shown(event: Any) -> str:
    return f"{event.name} {json.dumps(event.data, sort_keys=True)[:SHOWN]}"
