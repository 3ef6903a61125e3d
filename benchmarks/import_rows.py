"""The cost of a line of an import file until it can be uploaded: read, converted, checked, and encoded again."""

from __future__ import annotations

import json
import resource
import tempfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path
from time import process_time
from typing import Any

from benchmarks.fresh import measure
from benchmarks.payloads import EVENT, Properties, event, profile, user_id
from benchmarks.results import Figures, Row, column, interleaved
from benchmarks.subjects import FLOOR, OURS

NAME = "import_rows"
LINES = 100_000
MANY, QUICK_MANY = 2_000_000, 500_000  # lines; memory that grows by a byte a line would show
USERS = 5_000
GOAL = 3.0  # times json.loads and json.dumps of the same lines
ALIKE = 1.1  # the memory that a long file takes, as part of what a short one does

BEGIN = datetime(2024, 1, 1)
AN_HOUR, LATE = 3_600, 49  # seconds; lines, of which one is an hour late
AGENT = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0"


# ── the files: of ten lines one is of a user, one of a page, the others are events ──


def at(number: int) -> str:
    """A second behind the line before; but some come an hour late, as in exports that are split by arrival."""
    seconds = number + AN_HOUR * (number % LATE != 0)
    return f"{(BEGIN + timedelta(seconds=seconds, microseconds=number % 1_000_000)).isoformat()}Z"


def whose(number: int, users: int) -> int:
    """The number of the line's user: they come in no order, and all of them in lines of each kind."""
    return (number * 48_271 + number // 10) % users


def known(number: int, user: int) -> Properties:
    """Properties of a user as each line of some tools has them: most often the same ones as in the line before."""
    return {**profile(user), "seats": number // 20_000}


def import_row(number: int, user: int) -> dict[str, Any]:
    row = {"user_id": user_id(user), "source": "backend-http-import", "inserted_at": at(number)}
    if number % 10 == 0:
        return {
            "event_type": "identify_user",
            "company_id": f"company_{user % 50}",
            **row,
            "metadata": profile(number),
        }
    if number % 10 == 1:
        page = {"hostname": "app.example.com", "pathname": f"/workspaces/{number % 977}/reports"}
        browser = {"browser_language": "en-US", "screen_width": 1440, "screen_height": 900, "user_agent": AGENT}
        return {"event_type": "page_view", "event_name": "", **row, "source": "web-client", **page, **browser}
    return {"event_type": "track", "event_name": EVENT, **row, "metadata": event(number)}


def segment_call(number: int, user: int) -> dict[str, Any]:
    page = {
        "path": "/reports",
        "referrer": "",
        "search": "",
        "title": "Reports",
        "url": "https://app.example.com/reports",
    }
    call = {
        "anonymousId": f"anonymous-{user:08}",
        "context": {"ip": "192.0.2.1", "locale": "en-US", "library": {"name": "analytics.js", "version": "2.11.1"},
                    "page": page, "userAgent": AGENT, "screen": {"width": 1440, "height": 900}},
        "integrations": {"All": True},
        "messageId": f"ajs-{number:032x}",
        "originalTimestamp": at(number),
        "receivedAt": at(number + 1),
        "sentAt": at(number),
        "timestamp": at(number),
        "userId": user_id(user),
        "version": 2,
    }  # fmt: skip
    if number % 10 == 0:
        return {**call, "type": "identify", "traits": profile(number)}
    if number % 10 == 1:
        return {**call, "type": "page", "name": "Reports", "properties": page}
    return {**call, "type": "track", "event": EVENT, "properties": event(number)}


def posthog_event(number: int, user: int) -> dict[str, Any]:
    person = known(number, user)
    collected = {
        "$lib": "web", "$lib_version": "1.337.0", "$insert_id": f"{number:016x}", "$time": 1_733_043_343.22,
        "$os": "Mac OS X", "$os_version": "10.15.7", "$browser": "Chrome", "$browser_version": 129,
        "$browser_language": "en-US", "$device_type": "Desktop", "$raw_user_agent": AGENT, "$host": "app.example.com",
        "$current_url": "https://app.example.com/reports", "$pathname": "/reports", "$screen_width": 1440,
        "$screen_height": 900, "$viewport_width": 1440, "$viewport_height": 700, "$referrer": "$direct",
        "$session_id": f"{number:032x}", "$window_id": f"{number:032x}", "$geoip_country_code": "IE",
        "$groups": {"company": f"company_{user % 50}"}, "token": "phc_benchmark",
    }  # fmt: skip
    line = {
        "uuid": f"{number:032x}", "distinct_id": user_id(user), "person_id": f"{user:032x}",
        "timestamp": at(number).replace("Z", "+00:00"), "created_at": at(number).replace("Z", "+00:00"),
        "elements_chain": "", "person_properties": person,
    }  # fmt: skip
    if number % 10 == 0:
        return {**line, "event": "$identify", "properties": {**collected, "$set": person}}
    if number % 10 == 1:
        return {**line, "event": "$pageview", "properties": {**collected, "title": "Reports"}}
    return {**line, "event": EVENT, "properties": {**collected, **event(number)}}


def amplitude_event(number: int, user: int) -> dict[str, Any]:
    line = {
        "server_received_time": at(number), "app": 123456, "device_carrier": None, "city": "Dublin",
        "country": "Ireland", "user_id": user_id(user), "device_id": f"device-{user:08}",
        "uuid": f"{number:032x}", "event_time": at(number)[:-1].replace("T", " "), "event_type": EVENT,
        "platform": "Web", "os_name": "Chrome", "os_version": "129", "device_type": "Mac", "device_family": "Mac OS X",
        "language": "English", "amplitude_id": 900_000_000 + number, "session_id": 1_733_043_343_220, "paying": None,
        "groups": {"org id": [f"company_{user % 50}"]}, "group_properties": {}, "data": {}, "region": "Leinster",
        "user_properties": known(number, user), "event_properties": event(number), "ip_address": "192.0.2.1",
    }  # fmt: skip
    if number % 10 == 1:
        page = {"Domain": "app.example.com", "Location": "https://app.example.com/reports", "Path": "/reports"}
        seen = {f"[Amplitude] Page {name}": value for name, value in page.items()}
        return {**line, "event_type": "[Amplitude] Page Viewed", "event_properties": seen}
    return line


def mixpanel_event(number: int, user: int) -> dict[str, Any]:
    collected = {
        "time": 1_733_043_343 + number, "distinct_id": user_id(user), "$browser": "Chrome",
        "$browser_version": 129, "$city": "Dublin", "$current_url": "https://app.example.com/reports",
        "$device_id": f"device-{user:08}", "$initial_referrer": "$direct", "$insert_id": f"{number:036x}",
        "$lib_version": "2.20.0", "$mp_api_endpoint": "api.mixpanel.com", "$os": "Mac OS X", "$region": "Leinster",
        "$screen_height": 900, "$screen_width": 1440, "mp_country_code": "IE", "mp_lib": "web",
        "mp_processing_time_ms": 1_733_043_343_220, "company_id": f"company_{user % 50}",
    }  # fmt: skip
    name = "$mp_web_page_view" if number % 10 == 1 else EVENT
    return {"event": name, "properties": {**collected, **event(number)}}


FILES: dict[str, Callable[[int, int], dict[str, Any]]] = {
    "rows": import_row,
    "segment": segment_call,
    "posthog": posthog_event,
    "amplitude": amplitude_event,
    "mixpanel": mixpanel_event,
}
"""As RudderStack's lines are Segment's, they need no file of their own."""


def write(path: Path, kind: str, lines: int, users: int = USERS) -> None:
    with path.open("w", encoding="utf-8") as file:
        for number in range(lines):
            file.write(json.dumps(FILES[kind](number, whose(number, users))) + "\n")


# ── the two ways through a file ──


def ours(path: str, kind: str) -> Figures:
    """CPU seconds, bytes that come out, and the most memory that this process had."""
    from userpilot_async._calls.values import encode_json
    from userpilot_async.imports._reading import lines
    from userpilot_async.imports._rows import checked
    from userpilot_async.imports.converters._convert import CONVERTERS

    convert = CONVERTERS.get(kind)
    written, before = 0, process_time()
    for line in lines(path):
        if line.fields is None:
            raise RuntimeError(f"line {line.number}: {line.error}")
        for row in [line.fields] if convert is None else convert(line.fields):
            written += len((encode_json(checked(row)) + "\n").encode())
    return {"cpu": process_time() - before, "bytes": written, "memory": most_memory()}


def floor(path: str, kind: str) -> Figures:
    written, before = 0, process_time()
    with open(path, encoding="utf-8") as file:
        for line in file:
            written += len((json.dumps(json.loads(line)) + "\n").encode())
    return {"cpu": process_time() - before, "bytes": written, "memory": most_memory()}


def most_memory() -> float:
    """Bytes. Not by getrusage where it can be helped: on Linux that begins with what the parent process had."""
    status = Path("/proc/self/status")
    if status.exists():
        return (
            next(int(line.split()[1]) for line in status.read_text().splitlines() if line.startswith("VmHWM")) * 1024.0
        )
    return float(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)  # bytes on macOS


def run(quick: bool) -> Row:
    ways = {OURS: ours, FLOOR: floor}
    with tempfile.TemporaryDirectory() as directory:
        results = {}
        for kind in FILES:
            path = Path(directory, kind)
            write(path, kind, LINES)
            rounds = 3 if quick else 5

            def once(subject: str, path: Path = path, kind: str = kind) -> Figures:
                return dict(measure(ways[subject], path=str(path), kind=kind))

            results[kind] = interleaved(ways, rounds, once)
        many = QUICK_MANY if quick else MANY
        path = Path(directory, "many")
        write(path, "rows", many)
        long = measure(ours, path=str(path), kind="rows")
    ratios = {kind: found[OURS]["cpu"] / found[FLOOR]["cpu"] for kind, found in results.items()}
    growth = long["memory"] / results["rows"][OURS]["memory"]
    micro = {
        kind: {name: cpu / LINES * 1e6 for name, cpu in column(found, "cpu").items()} for kind, found in results.items()
    }
    return Row(
        name=NAME,
        what="a line of an import file, read, checked and encoded",
        unit="µs of CPU",
        goal=f"≤ {GOAL:.0f} × json.loads and json.dumps, flat memory",
        met=max(ratios.values()) <= GOAL and growth <= ALIKE,
        figures=micro["rows"],
        notes=(
            f"import rows: {ratios['rows']:.2f} × the floor, which is json.loads and json.dumps of the same lines",
            *(
                f"converted from {kind}: {micro[kind][OURS]:.1f} µs a line, {ratios[kind]:.2f} × their floor"
                for kind in FILES
                if kind != "rows"
            ),
            f"memory: {results['rows'][OURS]['memory'] / 1e6:.1f} MB for {LINES:,} lines, "
            f"{long['memory'] / 1e6:.1f} MB for {many:,}",
            "without uploads, and without carrying profiles forward",
        ),
    )
