"""`userpilot-async drain` as the sender of a deployment whose other processes put into Redis."""

from __future__ import annotations

import json
import signal
from collections.abc import Callable

import click.testing
import pytest

from tests.harness.processes import python
from tests.harness.redis_server import RedisServer
from tests.processes.cli.conftest import KEY, NOBODY, Env, Received, Run, fill, identify, track, wait_until
from userpilot_async.cli import _delivery
from userpilot_async.cli._exits import Exit
from userpilot_async.redis import RedisOutbox

Invoke = Callable[..., click.testing.Result]
DRAIN = ("-m", "userpilot_async", "drain", "--outbox")


@pytest.fixture
def url(redis_url: str) -> str:
    return f"{redis_url}?lease_ttl=1"


def sender_of(url: str) -> int | None:
    holder = RedisOutbox(url).admin().holder()
    return None if holder is None else holder.pid


def test_once_sends_all_that_waits_and_ends(run: Run, server: str, received: Received, url: str) -> None:
    fill(url, [identify(plan="pro"), *(track(serial=number) for number in range(10))], base_url=server)

    result = run("drain", "--outbox", url, "--once")

    assert Exit.FINE == result.returncode, result.stderr
    assert "11 accepted = 11 delivered + 0 dead + 0 dropped + 0 merged + 0 pending" in result.stdout
    assert "11 of them waited already" in result.stdout
    assert list(range(10)) == [event["metadata"]["serial"] for event in received("events")]
    assert None is sender_of(url)


def test_it_sends_though_the_url_in_the_environment_is_that_of_those_who_only_put(
    run: Run, server: str, received: Received, url: str
) -> None:
    fill(url, [track()], base_url=server)

    result = run("drain", "--once", "--json", env={"USERPILOT_OUTBOX": f"{url}&sender=false"})

    report = json.loads(result.stdout)
    assert Exit.FINE == result.returncode == report["exit_code"], result.stderr
    assert (1, 1, 1) == (report["accepted"], report["delivered"], report["found_waiting"])
    assert 1 == len(received("events"))


def test_send_puts_into_redis_what_another_process_sends(
    environment: Env, run: Run, received: Received, url: str
) -> None:
    with python(*DRAIN, url, env=environment) as drain:
        drain.wait_for_line("0 calls wait", 20)
        wait_until(lambda: sender_of(url) == drain.pid)
        result = run("send", "--outbox", url, "--json", "-", stdin=json.dumps(track()))

    report = json.loads(result.stdout)
    assert Exit.FINE == result.returncode, result.stderr
    assert (1, 1) == (report["accepted"], report["delivered"])
    assert 1 == len(received("events"))


@pytest.mark.night
def test_a_second_one_stands_by_and_goes_on_when_the_first_is_killed(
    environment: Env, server: str, received: Received, url: str
) -> None:
    with python(*DRAIN, url, env=environment) as first:
        first.wait_for_line("0 calls wait", 20)
        wait_until(lambda: sender_of(url) == first.pid)
        with python(*DRAIN, url, env=environment) as second:
            second.wait_for_line("another process sends; this one stands by", 20)
            first.kill()
            fill(url, [track()], base_url=server)
            second.wait_for_line("the other process has ended: this one sends now", 20)
            wait_until(lambda: len(received("events")) == 1)
            second.send_signal(signal.SIGTERM)

            assert Exit.FINE == second.wait(), second.output
    assert "1 accepted = 1 delivered" in second.output
    assert "Traceback" not in second.output


def test_while_redis_does_not_answer_it_says_so_and_goes_on_when_it_does(
    environment: Env, server: str, received: Received, own_redis: Callable[..., RedisServer]
) -> None:
    redis = own_redis()
    url = f"{redis.url}?lease_ttl=1"
    with python(*DRAIN, url, env=environment) as drain:
        drain.wait_for_line("0 calls wait", 20)
        redis.pause()
        drain.wait_for_line("the outbox does not answer; this process goes on when it is back", 20)
        redis.resume()
        drain.wait_for_line("is back", 20)
        fill(url, [track()], base_url=server)
        wait_until(lambda: len(received("events")) == 1)
        drain.terminate()

        assert Exit.FINE == drain.wait(), drain.output
    assert "Traceback" not in drain.output


def test_started_while_redis_is_away_it_waits_and_reports_only_its_own_run(
    environment: Env, server: str, own_redis: Callable[..., RedisServer]
) -> None:
    redis = own_redis()
    url = f"{redis.url}?lease_ttl=1"
    fill(url, [track(serial=number) for number in range(3)], base_url=server)
    redis.pause()
    with python(*DRAIN, url, env=environment) as drain:
        drain.wait_for_line("does not answer", 20)
        redis.resume()
        drain.wait_for_line("3 calls wait", 20)
        wait_until(lambda: RedisOutbox(url).admin().inspect().account.delivered == 3)
        drain.terminate()

        assert Exit.FINE == drain.wait(), drain.output
    assert "3 accepted = 3 delivered" in drain.output
    assert "3 of them waited already" in drain.output


def test_once_gives_up_on_a_redis_that_never_answers(
    invoke: Invoke, own_redis: Callable[..., RedisServer], monkeypatch: pytest.MonkeyPatch
) -> None:
    redis = own_redis()
    redis.stop()
    monkeypatch.setattr(_delivery, "REACH", 0.2)

    result = invoke("drain", "--once", "--outbox", redis.url, "--api-key", KEY, "--base-url", NOBODY)

    assert Exit.LOST == result.exit_code
    assert f"redis://127.0.0.1:{redis.port}/0 does not answer" in result.output
    assert isinstance(result.exception, SystemExit)  # no traceback


def test_calls_of_another_account_are_refused(run: Run, server: str, url: str) -> None:
    fill(url, [track()], base_url=server, key="OTHER-KEY")

    result = run("drain", "--once", "--outbox", url)

    assert Exit.LOST == result.returncode
    assert "has calls for the account of another API key" in result.stderr
    assert "Traceback" not in result.stderr


@pytest.mark.parametrize("place", ["redis://host/0?lease_ttl=x", "redis+sentinel://host", "redis://host:x/0"])
def test_a_url_that_cannot_be_right_is_wrong_usage(invoke: Invoke, place: str) -> None:
    assert Exit.USAGE == invoke("drain", "--once", "--api-key", KEY, "--outbox", place).exit_code
