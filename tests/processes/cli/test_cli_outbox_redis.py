"""`userpilot-async outbox` where the calls wait in Redis: the same as for a file, as far as there is the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from typing import Any

import anyio
import anyio.to_thread
import click.testing
import pytest

from tests.harness import judge
from tests.harness.documents import redis_user
from tests.harness.emulator_thread import emulator_thread
from tests.harness.processes import python
from tests.harness.redis_server import ClusterNode, RedisServer
from tests.processes.cli.conftest import (
    KEY,
    MARKED,
    NOBODY,
    OTHER,
    client_of,
    fill,
    identify,
    lose,
    track,
    until,
    wait_until,
    waiting,
)  # fmt: skip
from userpilot_async.cli._exits import Exit
from userpilot_async.redis import RedisOutbox
from userpilot_async.redis._purge import AT_ONCE

Invoke = Callable[..., click.testing.Result]


def shown(invoke: Invoke, url: str) -> dict[str, Any]:
    result = invoke("outbox", url, "--json")
    assert result.exit_code == Exit.FINE, result.output
    report: dict[str, Any] = json.loads(result.stdout)
    return report


def dead(invoke: Invoke, url: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in invoke("outbox", "dead", url, "--json").stdout.splitlines()]


def spoil_lost(server: RedisServer, at: int) -> None:
    """Make nonsense of one lost call, and leave the others as they are."""
    with server.client() as redis:
        entries: Any = redis.xrange("{userpilot_async}:lost")
        redis.delete("{userpilot_async}:lost")
        for number, (key, fields) in enumerate(entries):
            redis.xadd("{userpilot_async}:lost", {**fields, **({b"c": b"nonsense"} if number == at else {})}, id=key)


# ── show ──


def test_an_outbox_that_nobody_uses_is_shown(invoke: Invoke, redis_url: str) -> None:
    fill(redis_url, [track(serial=number) for number in range(3)])

    report, text = shown(invoke, redis_url), invoke("outbox", redis_url).output

    assert 3 == report["waiting"]["calls"] == report["account"]["accepted"] == report["account"]["pending"]
    assert 60 > report["waiting"]["oldest_age"] >= 0
    assert report["waiting"]["bytes"] > 0
    assert report["bytes_in_memory"] > 0
    assert None is report["sender"] is report["file"] is report["bytes_on_disk"]
    assert (0, []) == (report["outbox_resets"], report["quarantined"])
    assert f"userpilot at {NOBODY}" == report["destination"]
    assert "3 accepted = 0 delivered + 0 dead + 0 dropped + 0 merged + 3 pending" in text
    assert "no process sends at present" in text


def test_outboxes_of_other_names_are_others(invoke: Invoke, redis_url: str) -> None:
    fill(f"{redis_url}?name=shop", [track()])

    other = invoke("outbox", redis_url)

    assert 1 == shown(invoke, f"{redis_url}?name=shop")["waiting"]["calls"]
    assert Exit.LOST == other.exit_code
    assert "has no outbox" in other.output
    assert isinstance(other.exception, SystemExit)  # no traceback


def test_looking_makes_nothing(invoke: Invoke, redis_url: str, redis_server: RedisServer) -> None:
    for command in (["outbox"], ["outbox", "dead"], ["outbox", "retry"], ["outbox", "rebind"]):
        invoke(*command, redis_url, *(["--api-key", KEY] if "rebind" in command else []))

    with redis_server.client() as redis:
        assert 0 == redis.dbsize()


def test_each_command_finds_the_outbox_in_the_environment_for_arguments_are_shown_by_ps(
    invoke: Invoke, own_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = own_redis(password="CANARY-word")
    fill(server.url, [track()])
    monkeypatch.setenv("USERPILOT_OUTBOX", server.url)
    rebind = ("outbox", "rebind", "--api-key", "NEW", "--base-url", NOBODY)

    results = {
        command: invoke(*command)
        for command in (
            ("outbox",), ("outbox", "--json"), ("outbox", "show"), ("outbox", "dead"), ("outbox", "retry"), rebind,
            ("outbox", "purge", "--user", "u1", "--yes"),
        )
    }  # fmt: skip

    assert [Exit.FINE] * 7 == [result.exit_code for result in results.values()], results
    assert "1 call waits for" in results[rebind].output
    assert 0 == shown(invoke, server.url)["waiting"]["calls"]
    judge.no_canary({" ".join(command): result.output for command, result in results.items()}, ["CANARY-word"])


def test_the_outbox_of_the_environment_is_that_of_the_kind_of_server(
    invoke: Invoke, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(redis_url, [track()])
    monkeypatch.setenv("PARCELVOY_OUTBOX", redis_url)

    assert Exit.FINE == invoke("outbox", "show").exit_code
    assert "OUTBOX is missing" in invoke("outbox", "rebind", "--api-key", KEY).output
    monkeypatch.setenv("USERPILOT_OUTBOX", "redis:/:CANARY-word@cache/0")
    refused = invoke("outbox", "dead")
    assert Exit.USAGE == refused.exit_code
    assert "USERPILOT_OUTBOX: this is no file; a URL begins with redis://" in refused.output


MISTYPED = [
    "redis:/:CANARY-word@cache/0", "redis//:CANARY-word@cache", "reds://:CANARY-word@cache", "pods:CANARY-word@cache",
    "redis://:CANARY-word@cache/0?nmae=x", "redis://:CANARY-word@cache:port", "redis://:CANARY-word@ca che/0",
    "redis://:CANARY-word@cache\n:1/0?x=1", "http://:CANARY-word@cache", "cache:6379/0?password=CANARY-word",
]  # fmt: skip
PLACES: list[tuple[str, ...]] = [
    ("outbox", "{}"), ("outbox", "show", "{}"), ("outbox", "dead", "{}"), ("outbox", "retry", "{}"),
    ("outbox", "purge", "{}", "--user", "u1"), ("outbox", "rebind", "{}", "--api-key", KEY),
    ("drain", "--outbox", "{}"), ("drain", "--outbox={}"), ("send", "--outbox", "{}", "-"),
    # where no outbox belongs
    ("{}",), ("drain", "{}"), ("send", "{}"), ("outbox", "show", "x", "{}"), ("import", "{}"), ("jobs", "{}"),
    ("outbox", "retry", "--id", "{}"), ("emulate", "--port", "{}"), ("drain", "--to", "{}"), ("drain", "--outbx={}"),
]  # fmt: skip


@pytest.mark.parametrize("place", PLACES, ids=" ".join)
def test_what_is_wrong_with_a_url_is_said_without_its_password(invoke: Invoke, place: tuple[str, ...]) -> None:
    results = [invoke(*(word.format(url) for word in place)) for url in MISTYPED]

    assert {Exit.USAGE} == {result.exit_code for result in results}, [result.output for result in results]
    judge.no_canary({url: result.output for url, result in zip(MISTYPED, results, strict=True)}, ["CANARY-word"])


def test_a_password_is_shown_nowhere(invoke: Invoke, own_redis: Callable[..., RedisServer]) -> None:
    server = own_redis(password="CANARY-word")
    lose(server.url, [track()])
    fill(server.url, [track()])

    outputs = [
        invoke(*command).output
        for command in (
            ["outbox", server.url], ["outbox", server.url, "--json"], ["outbox", "dead", server.url],
            ["outbox", "retry", server.url], ["outbox", "purge", server.url, "--user", "u1", "--yes"],
            ["outbox", "rebind", server.url, "--api-key", "NEW", "--base-url", NOBODY],
        )
    ]  # fmt: skip
    refused = invoke("outbox", server.url.replace("CANARY-word", "CANARY-other"))
    server.stop()
    outputs += [refused.output, invoke("outbox", server.url).output]

    assert "does not let us in" in refused.output
    assert "does not answer" in outputs[-1]
    assert [] == [output for output in outputs if "CANARY" in output]


def test_the_user_that_the_guide_proposes_may_do_all_of_it_but_ask_for_memory(
    invoke: Invoke, own_redis: Callable[..., RedisServer]
) -> None:
    url = own_redis(users=[redis_user()]).url_of(user="pods", password="PASSWORD") + "?name=shop"
    lose(url, [track(MARKED), track(OTHER)])

    report = shown(invoke, url)
    retried, purged = invoke("outbox", "retry", url), invoke("outbox", "purge", url, "--user", MARKED, "--yes")
    rebound = invoke("outbox", "rebind", url, "--api-key", "NEW-KEY", "--base-url", NOBODY)

    assert (None, 2) == (report["bytes_in_memory"], report["lost_kept"])
    assert "2 calls wait again" in retried.output
    assert "erased: 1 call that waited" in purged.output
    assert "1 call waits for" in rebound.output


def test_in_a_cluster_it_is_the_same(invoke: Invoke, own_redis: Callable[..., ClusterNode]) -> None:
    url = own_redis(ClusterNode).url.replace("redis://", "redis+cluster://")
    lose(url, [track(MARKED), track(OTHER)])

    assert 2 == shown(invoke, url)["lost_kept"]
    assert "1 call waits again, as 2" in invoke("outbox", "retry", url, "--id", "0").output
    assert "erased: 1 call that waited" in invoke("outbox", "purge", url, "--user", MARKED, "--yes").output
    assert [track(OTHER)] == dead(invoke, url)


def test_one_of_a_newer_version_is_refused_and_untouched(
    invoke: Invoke, redis_url: str, redis_server: RedisServer
) -> None:
    fill(redis_url, [track()])
    with redis_server.client() as redis:
        redis.hset("{userpilot_async}:about", "version", "99")
        before = redis.hgetall("{userpilot_async}:account")

    for command in (["outbox"], ["outbox", "dead"], ["outbox", "retry"], ["outbox", "rebind", "--api-key", KEY]):
        result = invoke(*command, redis_url)
        assert Exit.LOST == result.exit_code
        assert "is of a newer version" in result.output

    with redis_server.client() as redis:
        assert before == redis.hgetall("{userpilot_async}:account")


def test_beside_a_live_sender_its_process_is_shown_and_after_its_death_nobody(invoke: Invoke, redis_url: str) -> None:
    with emulator_thread("--latency", "5") as server:
        url = f"{redis_url}?lease_ttl=1"
        fill(url, [track(serial=number) for number in range(50)], base_url=server)
        env = {"USERPILOT_API_KEY": KEY, "USERPILOT_BASE_URL": server}
        with python("-m", "userpilot_async", "drain", "--outbox", url, env=env) as sender:
            wait_until(lambda: shown(invoke, url)["requests_under_way"] > 0)
            alive, text = shown(invoke, url), invoke("outbox", url).output
            sender.kill()
            sender.wait()
        wait_until(lambda: shown(invoke, url)["sender"] is None)

    assert sender.pid == alive["sender"]["pid"]
    assert f"process {sender.pid} on " in text
    assert 50 == alive["waiting"]["calls"] == shown(invoke, url)["waiting"]["calls"]
    assert "under way when the last one ended" in invoke("outbox", url).output


# ── dead, retry ──


def test_the_dead_are_listed_and_as_json_are_lines_that_send_reads(invoke: Invoke, redis_url: str) -> None:
    calls = [
        track(),
        identify("u1", plan="PRIVATE", company={"id": "acme", "name": "Acme"}),
        identify("ü\x1b", seats=2),
    ]
    lose(redis_url, calls)

    text = invoke("outbox", "dead", redis_url).output

    report = shown(invoke, redis_url)
    assert ({"expired": 3}, 3) == (report["lost_by_reason"]["dead"], report["lost_kept"])
    assert calls == dead(invoke, redis_url)
    assert "expired" in text
    assert "PRIVATE" not in text
    assert "\x1b" not in text
    assert "no dead or dropped calls" in invoke("outbox", "dead", redis_url, "--reason", "invalid").output


def test_retried_calls_wait_at_the_end_in_their_order_with_the_time_they_came(
    invoke: Invoke, redis_url: str, redis_server: RedisServer
) -> None:
    lose(redis_url, [track(serial=number) for number in range(3)])
    fill(redis_url, [track("u2", 7)])
    first = RedisOutbox(redis_url).admin().dead_letters().kept[0].at

    result = invoke("outbox", "retry", redis_url)

    assert "3 calls wait again, as 4 to 6" in result.output
    assert [(3, 7), (4, 0), (5, 1), (6, 2)] == [(id, said["metadata"]["serial"]) for id, said in waiting(redis_server)]
    invoke("outbox", "purge", redis_url, "--user", "u2", "--yes")
    assert first == RedisOutbox(redis_url).admin().inspect().oldest
    report = shown(invoke, redis_url)
    assert {"accepted": 7, "dead": 3, "dropped": 1, "pending": 3} == {
        name: report["account"][name] for name in ("accepted", "dead", "dropped", "pending")
    }
    assert 0 == report["lost_kept"]


def test_more_than_one_step_of_calls_are_retried_and_purged(invoke: Invoke, redis_url: str) -> None:
    count = 2 * AT_ONCE + 1
    lose(redis_url, [track(OTHER if number % 2 else MARKED, number) for number in range(count)])

    retried = invoke("outbox", "retry", redis_url, "--json")
    purged = invoke("outbox", "purge", redis_url, "--user", MARKED, "--yes", "--json")

    assert {"retried": count, "first_id": count, "damaged": 0, "missing": []} == json.loads(retried.stdout)
    assert AT_ONCE + 1 == json.loads(purged.stdout)["waiting"]
    assert AT_ONCE == shown(invoke, redis_url)["waiting"]["calls"]


def test_only_what_was_asked_for_is_retried_and_damaged_ones_stay(
    invoke: Invoke, redis_url: str, redis_server: RedisServer
) -> None:
    lose(redis_url, [track(serial=number) for number in range(4)])
    spoil_lost(redis_server, 2)

    one = invoke("outbox", "retry", redis_url, "--id", "1", "--json")
    none = invoke("outbox", "retry", redis_url, "--reason", "invalid")
    rest = invoke("outbox", "retry", redis_url, "--id", "0", "--id", "2", "--id", "77")

    assert {"retried": 1, "first_id": 4, "damaged": 0, "missing": []} == json.loads(one.stdout)
    assert "there is nothing to put back" in none.output
    assert Exit.LOST == rest.exit_code
    assert "1 call waits again, as 5" in rest.output
    assert "not put back: 1 call whose rows are damaged" in rest.output
    assert "not put back: 77" in rest.output
    assert [2, 3] == [lost.id for lost in RedisOutbox(redis_url).admin().dead_letters().kept]


def test_a_live_sender_delivers_what_is_retried_beside_it(invoke: Invoke, redis_url: str) -> None:
    with emulator_thread() as server:
        lose(redis_url, [track(serial=number) for number in range(5)], base_url=server)
        env = {"USERPILOT_API_KEY": KEY, "USERPILOT_BASE_URL": server}
        with python("-m", "userpilot_async", "drain", "--outbox", redis_url, env=env) as sender:
            wait_until(lambda: shown(invoke, redis_url)["sender"] is not None)
            text = invoke("outbox", "retry", redis_url).output
            wait_until(lambda: shown(invoke, redis_url)["account"]["delivered"] == 5)

    assert f"sender: process {sender.pid}" in text


@pytest.mark.anyio
async def test_after_a_restart_of_redis_a_retry_is_no_loss_to_those_who_were_there_before(
    invoke: Invoke, own_redis: Callable[..., RedisServer]
) -> None:
    """The first to write begins a new generation: those who come back must not take the new calls for the old ones."""
    server = own_redis(durable=True)
    await anyio.to_thread.run_sync(lose, server.url, [track(serial=number) for number in range(3)])
    async with client_of(server.url, sender="false") as putter:
        await putter.track(OTHER, "Opened")
        await anyio.to_thread.run_sync(partial(server.restart, keep=True))
        retried = await anyio.to_thread.run_sync(RedisOutbox(server.url).admin().retry)
        await putter.track(OTHER, "Opened")
        await until(lambda: putter.statistics().pending == 5)

        assert 3 == retried.calls
        assert 0 == putter.statistics().outbox_resets
        judge.conservation(putter.statistics())


# ── purge ──


def test_a_person_is_erased_from_waiting_and_lost_calls_and_from_the_memory_of_redis(
    invoke: Invoke, redis_url: str, redis_server: RedisServer
) -> None:
    lose(redis_url, [track(MARKED), identify(MARKED, plan="pro"), track(OTHER)])
    fill(redis_url, [track(MARKED), identify(MARKED, {"id": "acme"}, mail=f"{MARKED}@b.c"), track(OTHER, 7)])
    with redis_server.client() as redis:
        redis.zadd("{userpilot_async}:parts", {json.dumps((3, "user", MARKED)): 3, json.dumps((5, "user", OTHER)): 5})
    before = redis_server.snapshot()

    result = invoke("outbox", "purge", redis_url, "--user", MARKED, "--yes")

    assert Exit.FINE == result.exit_code, result.output
    assert "erased: 2 calls that waited, 2 lost, 0 damaged" in result.output
    assert "the memory of Redis: cleared; files of Redis (AOF, snapshots) have it" in result.output
    assert [True, False] == [MARKED.encode() in one for one in (before, redis_server.snapshot())]
    assert OTHER.encode() in redis_server.snapshot()
    assert [(5, 7)] == [(id, said["metadata"]["serial"]) for id, said in waiting(redis_server)]
    assert [track(OTHER)] == dead(invoke, redis_url)
    account = RedisOutbox(redis_url).admin().inspect().account
    assert (6, {"purged": 2}, 1) == (account.accepted, account.dropped, account.waiting)
    fill(redis_url, [track()])
    assert [5, 6] == [id for id, _ in waiting(redis_server)]


def test_a_company_is_erased_and_users_calls_that_name_it_are_counted_and_left(
    invoke: Invoke, redis_url: str, redis_server: RedisServer
) -> None:
    company = {"id": "ACME-9", "name": "ACME-9 Ltd"}
    lose(redis_url, [identify(OTHER, company, lost=True), {**identify_company("ACME-9")}])
    fill(redis_url, [identify(OTHER, company), identify(OTHER, {"id": "else"}), track("ACME-9")])
    fill(redis_url, [identify_company("ACME-9")])

    asked = invoke("outbox", "purge", redis_url, "--company", "ACME-9", stdin="n\n")
    result = invoke("outbox", "purge", redis_url, "--company", "ACME-9", "--yes", "--json")

    assert "to be erased: 1 call that waits, 1 lost, 0 damaged" in asked.output
    assert "2 calls of users named the company, and cannot be changed in Redis" in asked.output
    report = json.loads(result.stdout)
    assert (1, 1, 0, 2) == tuple(report[name] for name in ("waiting", "lost", "changed", "unchanged"))
    assert 3 == len(waiting(redis_server))


def identify_company(company: str) -> dict[str, Any]:
    return {"type": "identify_company", "company_id": company, "metadata": {"seats": 2}}


def test_damaged_calls_in_which_the_id_stands_go_too_and_others_are_counted(
    invoke: Invoke, redis_url: str, redis_server: RedisServer
) -> None:
    fill(redis_url, [track(OTHER)])
    with redis_server.client() as redis:
        for said in (json.dumps(MARKED), "nobody knows"):
            lost = {"i": 9, "c": said, "s": 5, "t": "1.0", "l": "2.0", "u": "dead", "r": "damaged", "d": ""}
            redis.xadd("{userpilot_async}:lost", lost)
        redis.hincrby("{userpilot_async}:account", "lost_bytes", 10)

    result = invoke("outbox", "purge", redis_url, "--user", MARKED, "--yes")

    assert "1 lost" in result.output
    assert "1 damaged row is left, whose owner is unknown" in result.output


# ── rebind ──


def test_it_goes_to_another_account_and_only_that_one_may_use_it(invoke: Invoke, redis_url: str) -> None:
    fill(redis_url, [track()])

    result = invoke("outbox", "rebind", redis_url, "--api-key", "NEW-KEY", "--base-url", "http://localhost:9")

    assert Exit.FINE == result.exit_code, result.output
    assert f"1 call waits for userpilot at http://localhost:9 now, before for userpilot at {NOBODY}" in result.output
    fill(redis_url, [track()], key="NEW-KEY", base_url="http://localhost:9")
    drained = invoke("drain", "--outbox", redis_url, "--once", "--api-key", KEY, "--base-url", "http://localhost:9")
    assert Exit.LOST == drained.exit_code
    assert "of another API key" in drained.output
    assert 2 == shown(invoke, redis_url)["waiting"]["calls"]


def test_it_is_not_given_away_under_a_live_sender(invoke: Invoke, redis_url: str) -> None:
    rebind = ["outbox", "rebind", redis_url, "--api-key", "NEW-KEY"]
    with emulator_thread() as server:
        fill(redis_url, [], base_url=server)
        env = {"USERPILOT_API_KEY": KEY, "USERPILOT_BASE_URL": server}
        with python("-m", "userpilot_async", "drain", "--outbox", redis_url, env=env) as sender:
            wait_until(lambda: shown(invoke, redis_url)["sender"] is not None)
            result = invoke(*rebind, "--base-url", server)
            sender.terminate()
            assert Exit.FINE == sender.wait()

    assert Exit.LOST == result.exit_code
    assert "has a sender" in result.output
    assert Exit.FINE == invoke(*rebind, "--base-url", server).exit_code


def test_calls_of_one_kind_of_server_are_not_given_to_another(invoke: Invoke, redis_url: str) -> None:
    fill(redis_url, [track()])

    result = invoke("outbox", "rebind", redis_url, "--to", "parcelvoy", "--api-key", KEY, "--base-url", NOBODY)

    assert Exit.LOST == result.exit_code
    assert "1 calls for userpilot, which parcelvoy does not understand" in result.output
    assert f"userpilot at {NOBODY}" == shown(invoke, redis_url)["destination"]


def test_one_that_does_not_say_any_more_whose_it_is_becomes_somebodys(
    invoke: Invoke, redis_url: str, redis_server: RedisServer
) -> None:
    fill(redis_url, [track()])
    with redis_server.client() as redis:
        redis.delete("{userpilot_async}:about")

    refused = invoke("outbox", "retry", redis_url)
    rebound = invoke("outbox", "rebind", redis_url, "--api-key", KEY, "--base-url", NOBODY)

    assert Exit.LOST == refused.exit_code
    assert "does not say any more whose calls it has: rebind it" in refused.output
    assert "1 call waits for" in rebound.output
    assert f"userpilot at {NOBODY}" == shown(invoke, redis_url)["destination"]
