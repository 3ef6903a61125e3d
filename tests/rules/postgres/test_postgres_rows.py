"""A call as a row of the inbox is the call that a client would have put itself, and can be read again."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given

pytest.importorskip("psycopg")

from tests.harness.examples.strategies import calls
from userpilot_async import Identify, IdentifyCompany, Track, UserpilotClient
from userpilot_async._calls.dedupe import DedupeKey
from userpilot_async._calls.stored import Stored
from userpilot_async._userpilot.destination import as_put, call_of
from userpilot_async.postgres._insert import COLUMNS, row_of

CLIENT = UserpilotClient("KEY")


def as_a_client_puts(call: Track | Identify | IdentifyCompany) -> Any:
    if isinstance(call, Track):
        return CLIENT._tracked(call.user_id, call.event_name, call.metadata, call.occurred_at)
    if isinstance(call, Identify):
        return CLIENT._identified(call.user_id, call.metadata, call.company)
    return CLIENT._company_identified(call.company_id, call.metadata)


@given(calls)
def test_a_call_as_a_value_is_put_as_a_client_puts_it(call: Track | Identify | IdentifyCompany) -> None:
    assert as_a_client_puts(call) == as_put(call)


@given(calls)
def test_a_row_is_read_as_the_call_it_was(call: Track | Identify | IdentifyCompany) -> None:
    put = as_put(call)
    row = dict(zip(COLUMNS, row_of(*put, DedupeKey(b"digest", 60.0), 7), strict=True))
    texts = [value for value in row.values() if isinstance(value, str)]
    stored = Stored(str(row["kind"]), str(row["key"]), str(row["body"]).encode(), row["moment"])  # type: ignore[arg-type]

    assert call == call_of(*stored.call())
    assert (put[3], b"digest", 60.0, 7) == (row["size"], row["dedupe"], row["dedupe_for"], row["ticket"])
    assert not any("\0" in text for text in texts), "PostgreSQL's text has no NUL"
