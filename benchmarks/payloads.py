"""The events and profiles that every subject is given: six properties each, as an application would send them."""

from __future__ import annotations

Properties = dict[str, str | int | float | bool]

EVENT = "report_exported"
MARK = b"report_id"  # once in each event or profile, however a client wraps it: the sink counts it


def user_id(number: int) -> str:
    return f"user_{number:08d}"


def event(number: int) -> Properties:
    """Of an exported report. New objects each time, as they come out of a request."""
    return {
        "report_id": f"rpt_{number:010d}",
        "format": "csv" if number % 3 else "xlsx",
        "rows": 1_000 + number,
        "duration": 0.125 + number / 1_000,
        "scheduled": number % 4 == 0,
        "page": f"/workspaces/{number % 977}/reports",
    }


def profile(number: int) -> Properties:
    """Properties of a user, as `identify` sends them."""
    return {
        "report_id": f"rpt_{number:010d}",
        "name": f"Person Number {number}",
        "email": f"person{number}@example.com",
        "plan": "pro" if number % 3 else "enterprise",
        "seats": number % 250,
        "trial": number % 7 == 0,
    }
