"""Row 88: whatever is lost, and whenever, the log's numbers add up to it by the time the client is closed."""

from __future__ import annotations

import logging
import re
from collections import Counter
from typing import Any

import anyio
import httpx
import pytest

from tests.harness.stage.calls import Log
from tests.harness.stage.log import losses_in, merged_in
from tests.harness.stage.loops import client_of, running, virtual_emulator
from userpilot_async import Settings, UserpilotClient
from userpilot_async.parcelvoy import ParcelvoyClient, ParcelvoySettings

pytestmark = [pytest.mark.anyio, pytest.mark.virtual]


async def test_row_88_ten_thousand_losses_in_a_burst_and_then_silence() -> None:
    with Log() as log:
        async with running(client_of(virtual_emulator(), on_invalid="dead")) as userpilot:
            for _ in range(10_000):
                userpilot.track_nowait("", "clicked")
            await anyio.sleep(31)
            silent = losses_in(log)

    assert {"invalid": 10_000} == silent, "said when the quiet time is over, and not only at the close"
    assert [1, 9_999] == [int(line.split()[1]) for line in log.said("lost")]
    assert "user_id" in log.said("lost")[0]


async def test_row_88_a_burst_right_before_the_close_adds_up_at_the_close() -> None:
    with Log() as log:
        async with running(client_of(virtual_emulator(), on_invalid="dead")) as userpilot:
            for _ in range(1_000):
                userpilot.track_nowait("", "clicked")

    assert {"invalid": 1_000} == losses_in(log)


async def test_a_client_that_is_idle_wakes_for_a_line_and_for_nothing_after_it() -> None:
    """I11: no busy loop when idle."""
    with Log() as log:
        async with running(client_of(virtual_emulator(), on_invalid="dead")) as userpilot:
            for _ in range(3):
                userpilot.track_nowait("", "clicked")
            await anyio.sleep(40)
            before = len(log.said("userpilot: wait"))
            await anyio.sleep(100_000)

    assert 3 == losses_in(log)["invalid"]
    assert before == len(log.said("userpilot: wait"))
    assert len([line for line in log.details if line.startswith("userpilot: wait")]) < 20


async def test_callers_who_wait_for_room_while_the_client_closes_are_in_the_line_about_the_close() -> None:
    client = client_of(virtual_emulator(latency=60.0), max_queue_calls=10, close_timeout=1.0)
    with Log() as log:
        async with anyio.create_task_group() as callers, running(client) as userpilot:
            for n in range(50):
                callers.start_soon(userpilot.track, "u", "clicked", {"n": n})
            await anyio.sleep(0.1)

    assert {"closed": 50} == client.statistics().lost_by_reason == losses_in(log)
    assert 1 == len(log.said("dropped on close"))


async def test_calls_that_were_merged_into_what_is_lost_are_said_beside_it() -> None:
    client = client_of(virtual_emulator(latency=60.0), close_timeout=0.5)
    with Log() as log:
        async with running(client) as userpilot:
            for n in range(5):
                await userpilot.identify("u1", {"n": n})

    statistics = client.statistics()
    assert ({"closed": 1}, 4) == (statistics.lost_by_reason, statistics.merged_lost)
    assert ({"closed": 1}, 4) == (losses_in(log), merged_in(log))


@pytest.mark.parametrize("anyio_backend", ["asyncio"], indirect=True)
async def test_a_close_that_is_cancelled_and_never_made_again_has_counted_out_what_it_dropped() -> None:
    async def takes_for_ever(letter: Any) -> None:
        await anyio.sleep_forever()

    client = client_of(virtual_emulator(latency=60.0), on_invalid="dead", on_dead=takes_for_ever, close_timeout=100.0)
    with Log() as log:
        await client.start()
        for user in ("", "", "u", "u"):
            await client.track(user, "clicked")
        with anyio.move_on_after(0.1):
            await client.aclose(0.0)

    assert {"invalid": 2, "closed": 2} == client.statistics().lost_by_reason == losses_in(log)
    await client.aclose(0.0)


# ── why, and what to do ──


async def test_an_invalid_call_from_a_thread_is_said_with_its_field_and_rule() -> None:
    transport, settings = httpx.MockTransport(lambda _: httpx.Response(202)), Settings(on_invalid="dead")
    with Log() as log:
        async with UserpilotClient("KEY", transport=transport, settings=settings) as userpilot:
            await anyio.to_thread.run_sync(userpilot.track_nowait, "", "clicked")

    (line,) = log.said("lost")
    assert "1 call lost, reason invalid: user_id must not be empty or blank; mend" in line


async def test_a_call_that_the_server_refuses_is_said_with_its_status_and_without_what_it_quotes() -> None:
    def refuses(request: httpx.Request) -> httpx.Response:
        quoted = {"message": "user_id anna.kowalska is unknown"}
        missing = {"message": "event_name is not planned here"}
        return httpx.Response(400, json={"errors": [quoted if b"anna" in request.content else missing]})

    for user, words in (("anna.kowalska", "in words that quote the call"), ("u1", "(event_name is not planned here)")):
        with Log() as log:
            async with UserpilotClient("KEY", transport=httpx.MockTransport(refuses)) as userpilot:
                await userpilot.track(user, "clicked", {"n": 1})
                await userpilot.flush(10)

        (line,) = log.said("lost")
        assert "analytex.userpilot.io answered 400 on track" in line
        assert words in line
        assert "kowalska" not in line + "".join(log.details)
        assert line.endswith("mend the code that makes such calls; on_dead gets each of them")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"when_full": "drop_newest"}, "max_queue_calls=5, max_queue_bytes=67108864, when_full='drop_newest'"),
        ({"when_full": "drop_oldest"}, "when_full='drop_oldest'"),
        ({"when_full": "wait", "max_wait": 0.1}, "raise max_queue_calls and max_queue_bytes, or make fewer calls"),
    ],
)
async def test_a_full_queue_is_said_with_its_limits(changes: dict[str, Any], words: str) -> None:
    client = client_of(virtual_emulator(latency=5.0), max_queue_calls=5, close_timeout=100.0, **changes)
    with Log() as log:
        async with running(client) as userpilot:
            for n in range(20):
                await userpilot.track("u", "clicked", {"n": n})

    assert client.statistics().lost_by_reason == losses_in(log)
    assert words in log.said("reason queue_full")[0]


async def test_what_died_of_age_is_said_with_the_last_failure() -> None:
    def down(request: httpx.Request) -> httpx.Response:
        return httpx.Response(503)

    client = UserpilotClient("KEY", transport=httpx.MockTransport(down), settings=Settings(max_age=100.0))
    with Log() as log:
        async with client as userpilot:
            await userpilot.track("u", "clicked")
            await anyio.sleep(200)

    assert (
        "max_age=100; the last request failed: https://analytex.userpilot.io: 503 on track; raise"
        in (log.said("reason expired")[0])
    )


# ── the server ──


async def test_a_first_connection_that_fails_is_said_at_once_with_its_exception_and_the_server() -> None:
    def refused(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("refused", request=request)

    with Log() as log:
        client = UserpilotClient("KEY", base_url="https://127.0.0.1:1", transport=httpx.MockTransport(refused))
        async with client as userpilot:
            await userpilot.track("u", "clicked")
            await anyio.sleep(0.5)
            said = list(log.said("requests fail"))

    assert 1 == len(said)
    assert "1 call waits and is sent again: https://127.0.0.1:1: ConnectError on track" in said[0]


async def test_failures_after_answers_are_said_within_two_seconds() -> None:
    def hangs_later(request: httpx.Request) -> httpx.Response:
        if anyio.current_time() < 10:
            return httpx.Response(202)
        raise httpx.ReadError("cut", request=request)

    with Log() as log:
        async with UserpilotClient("KEY", transport=httpx.MockTransport(hangs_later)) as userpilot:
            await userpilot.track("u", "clicked")
            await anyio.sleep(10)
            await userpilot.track("u", "clicked")
            await anyio.sleep(2)
            said = list(log.said("requests fail"))

    assert 1 == len(said)


async def test_a_server_that_flaps_is_said_to_be_down_in_the_end_if_it_is() -> None:
    def flaps(request: httpx.Request) -> httpx.Response:
        now = anyio.current_time()
        if now < 5 or now > 90:  # up for longer than any pause between two tries
            raise httpx.ConnectError("refused", request=request)
        return httpx.Response(202)

    with Log() as log:
        async with UserpilotClient("KEY", transport=httpx.MockTransport(flaps)) as userpilot:
            for _ in range(250):
                await userpilot.track("u", "clicked")
                await anyio.sleep(1)
            news = [line for _, line in log.lines if "requests fail" in line or "answers again" in line]

    assert "requests fail" in news[-1]
    assert 3 == len(news)


# ── DEBUG ──


async def test_at_debug_there_is_a_line_for_each_request_answer_file_merge_and_wait() -> None:
    with Log() as log:
        async with running(client_of(virtual_emulator())) as userpilot:
            for n in range(120):
                await userpilot.identify(f"anna{n % 60}@example.org", {"mail": "anna@example.org"})
            await userpilot.track("anna0@example.org", "clicked")
            await userpilot.flush(200)

    kinds = Counter(line.removeprefix("userpilot: ").partition(":")[0] for line in log.details)
    assert {"request", "answer", "file", "merge", "wait"} == set(kinds)
    assert kinds["request"] == kinds["answer"] == sum(userpilot.statistics().requests.values())
    assert any(re.match(r"userpilot: request: POST /v1/track, 1 call, \d+ bytes$", line) for line in log.details)
    assert any(re.match(r"userpilot: answer: 202 on track after \d+ ms", line) for line in log.details)
    assert any(
        re.match(r"userpilot: file: userpilot-async-\S+\.ndjson, \d+ rows, \d+ bytes$", line) for line in log.details
    )
    assert any(re.match(r"userpilot: merge: \d+ calls? went into later ones$", line) for line in log.details)
    assert "anna" not in "".join(log.details)


async def test_without_debug_no_such_line_is_made(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="userpilot_async")
    async with running(client_of(virtual_emulator())) as userpilot:
        await userpilot.track("u", "clicked")
        await userpilot.flush(10)

    assert [] == [record for record in caplog.records if record.name == "userpilot_async"]


async def test_parcelvoys_client_says_the_same_with_the_same_name() -> None:
    def rejects(request: httpx.Request) -> httpx.Response:
        return httpx.Response(422)

    client = ParcelvoyClient(
        "KEY", "https://parcelvoy.test", transport=httpx.MockTransport(rejects), settings=ParcelvoySettings()
    )
    with Log() as log:
        async with client as parcelvoy:
            for n in range(3):
                await parcelvoy.track("clicked", external_id="u", data={"n": n})

    assert client.statistics().lost_by_reason == losses_in(log) == {"invalid": 3}
    assert "https://parcelvoy.test answered 422 on events" in log.said("lost")[0]
