"""Outboxes that an earlier version has made are opened as they are: nothing in them is lost, or read another way.

What lies in ``before/`` was written on 2026-11-29: one call of each kind (`PUTS`), then six tracks of `u1`. One of
those was delivered, one is in a request under way, two were lost with one merged into them; then one more found no
room. A file of rows had been submitted. A change of a format adds another such pair, and changes none:
since 2026-11-30 the keys that calls name together are kept, too, and those of ``dedupe=`` (three tracks, of which one
waits, one was delivered, and one is dead).
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.contract.inline import Client, InlineOutbox, at_once, open_now
from tests.contract.inline_redis import InlineRedisOutbox
from tests.contract.puts import PUTS
from userpilot_async._calls.dedupe import DedupeKey
from userpilot_async._calls.outcome import DELIVERED, Outcome

BEFORE = Path(__file__).parent / "before"
DESCRIBES = list(PUTS).index("userpilot identify that describes a company")
UNDER_WAY, LAST = len(PUTS), len(PUTS) + 5
PAIR = ("a:a1", "e:e1")  # of `PUTS`
Process = InlineOutbox | InlineRedisOutbox


def file_of_before(folder: Path, name: str) -> InlineOutbox:
    """The file, as if it had always been there."""
    path = folder / "host" / "events.db"
    path.parent.mkdir(mode=0o700)
    path.touch(mode=0o600)
    path.write_bytes(gzip.decompress((BEFORE / name).read_bytes()))
    return InlineOutbox(path, durability="process")


def keys_of_before(url: str, name: str) -> InlineRedisOutbox:
    """The keys, under their names, in a server that has none."""
    outbox = InlineRedisOutbox(url)
    for key, (command, values, *last_id) in json.loads((BEFORE / name).read_text(encoding="utf-8")).items():
        for entry in values if command == "XADD" else [values]:
            outbox.redis.execute_command(command, key, *(one.encode("latin-1") for one in entry))
        for one in last_id:
            outbox.redis.execute_command("XSETID", key, one)
    return outbox


@pytest.fixture(params=["events.db.gz", "redis.json", "events-3.db.gz", "redis-pairs.json"])
def found(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Opens what was there before; its owner is the `Client` of these tests."""
    made: list[Process] = []

    def opened(client: Client | None = None) -> Process:
        if request.param.endswith("json"):
            outbox: Process = keys_of_before(request.getfixturevalue("redis_url"), request.param)
        else:
            outbox = file_of_before(tmp_path, request.param)
        made.append(outbox)
        open_now(outbox, (client or Client()).opening())
        return outbox

    yield opened
    for outbox in made:
        at_once(outbox.aclose())
        if isinstance(outbox, InlineRedisOutbox):
            outbox.redis.close()


def test_the_account_of_before_is_read(found: Callable[[], Process]) -> None:
    ledger = found().ledger

    assert (21, 16, 1, 1, 1) == (
        ledger.accepted, ledger.pending, ledger.delivered, ledger.merged, ledger.merged_lost
    )  # fmt: skip
    assert ({"invalid": 1}, {"closed": 1, "queue_full": 1}) == (dict(ledger.dead), dict(ledger.dropped))


def test_the_calls_of_before_are_taken_as_they_were_put(found: Callable[[], Process]) -> None:
    tickets = found().take(100)

    assert [*range(len(PUTS)), UNDER_WAY, LAST] == [ticket[0] for ticket in tickets]
    assert [one[:3] for one in PUTS.values()] == [ticket[2:] for ticket in tickets[: len(PUTS)]]


def test_what_the_sender_of_before_has_noted_is_taken_over(found: Callable[[], Process]) -> None:
    outbox = found()
    takeover = outbox.send_log.inherited()

    assert takeover is not None
    assert [("userpilot-1.ndjson", "user", {"u1": DESCRIBES})] == [
        (file.filename, file.kind, dict(file.last_calls)) for file in takeover.files
    ]
    assert "track" in takeover.spent
    assert [UNDER_WAY] == [ticket[0] for ticket in outbox.take(100) if outbox.send_log.was_sent(ticket[0])]


def test_new_calls_go_behind_those_of_before(found: Callable[[], Process]) -> None:
    outbox = found()
    put = outbox.put("track", "u1", b"{}", 2, 0.0)

    assert put.id > LAST
    assert put.id == outbox.take(100)[-1][0]


@pytest.mark.parametrize(
    ("found", "pairs"),
    [("events.db.gz", []), ("redis.json", []), ("events-3.db.gz", [PAIR]), ("redis-pairs.json", [PAIR])],
    indirect=["found"],
)
def test_pairs_of_before_are_heard_and_new_ones_are_kept_behind_them(
    found: Callable[..., Process], pairs: list[tuple[str, str]]
) -> None:
    client = Client()
    outbox = found(client)
    heard = list(client.pairs)
    outbox.put("track", ("e:bob", "a:2"), b"{}", 2, 0.0)
    outbox.poll()

    assert pairs == heard
    assert [*pairs, ("a:2", "e:bob")] == client.pairs


@pytest.mark.parametrize("found", ["events-4.db.gz", "redis-keys.json"], indirect=True)
def test_facts_of_before_are_known(found: Callable[[], Process]) -> None:
    outbox = found()
    receipts = [outbox.put("track", "u1", b"{}", 2, 0.0, DedupeKey.of(f"evt_{n}", 60.0)) for n in range(4)]
    dead = Outcome("dead", "invalid")

    assert [True, True, True, False] == [one.is_duplicate for one in receipts]
    assert [Outcome("merged", None, DELIVERED), Outcome("merged", "invalid", dead)] == [
        at_once(one.outcome()) for one in receipts[1:3]
    ]
    assert [0, receipts[3].id] == [ticket[0] for ticket in outbox.take(10)]
