"""Row 85: a value whose own code fails is refused where it stands, and nobody else's exception leaves a call."""

from __future__ import annotations

import json
import threading
import traceback
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from random import Random
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.harness import length
from tests.harness.examples import awkward
from tests.harness.examples.awkward import (
    ASKED,
    CANARY,
    ERRORS,
    Endless,
    Far,
    Late,
    Lazy,
    Liar,
    Misbehaves,
    Nameless,
    NaTType,
    Nothing,
    Pairless,
    Zone,
    fails,
    gives,
    with_method,
)
from userpilot_async import (
    DeadCall,
    Identify,
    IdentifyCompany,
    InvalidCall,
    Settings,
    Track,
    UserpilotAPI,
    UserpilotClient,
    imports,
    parcelvoy,
)
from userpilot_async._calls.values import checked_metadata
from userpilot_async._errors.foreign import must_be
from userpilot_async._userpilot.file_rows import company_line, import_line, user_line
from userpilot_async.parcelvoy import ParcelvoyClient
from userpilot_async.parcelvoy._data import checked_data, encoded_data

URL = "https://parcelvoy.example.com"
AT = "2026-01-02T03:04:05Z"


def refusal(call: Callable[[], object]) -> InvalidCall:
    with pytest.raises(InvalidCall) as caught:
        call()
    said = "".join([str(caught.value), *traceback.format_exception(caught.value)])
    assert CANARY not in said.replace(__file__, "")
    return caught.value


def refusal_of(value: object) -> InvalidCall:
    """What all ways in say of a value in the place of a property; they agree."""
    error = refusal(lambda: checked_metadata({"plan": value}))  # type: ignore[dict-item]
    row = {"event_type": "identify_user", "user_id": "u", "inserted_at": AT, "metadata": {"plan": value}}
    assert error.args == refusal(lambda: Track("u", "e", {"plan": value})).args  # type: ignore[dict-item]
    assert error.args == refusal(lambda: imports.checked(row)).args
    return error


# ── which value, and why ──


@pytest.mark.parametrize("error", ERRORS)
@pytest.mark.parametrize(("base", "method"), ASKED)
def test_a_value_whose_own_method_raises_is_refused_by_its_place_and_the_type_of_the_error(base, method, error):
    refused = refusal_of(with_method(base, method, fails(error)))

    assert "metadata['plan']" == refused.field
    if error is not OverflowError or base is not datetime:
        assert f"raised {error.__name__} while it was checked" == refused.reason


@pytest.mark.parametrize(
    "value",
    [
        with_method(float, "__float__", gives("7.5")),
        with_method(float, "__sub__", gives([])),
        with_method(int, "__int__", gives("7")),
        with_method(int, "__int__", gives(2**70)),
        with_method(str, "__len__", gives(-1)),
        with_method(str, "__len__", gives(0)),
        with_method(str, "__len__", gives("six")),
        with_method(date_, "isoformat", gives(20260102)) if (date_ := ASKED[-1][0]) else None,
        with_method(ASKED[7][0], "__str__", gives(7)),
        with_method(ASKED[5][0], "__str__", gives(7)),
        with_method(datetime, "astimezone", gives("2026-01-02")),
        with_method(datetime, "astimezone", gives(datetime(2026, 1, 2))),
        datetime(2026, 1, 2, tzinfo=Zone(gives("one hour"))),
        datetime(2026, 1, 2, tzinfo=Zone(gives(timedelta(days=2)))),
        datetime(2026, 1, 2, tzinfo=Zone(fails(KeyError))),
        Late.PRO,
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_value_whose_own_method_returns_what_it_may_not_is_refused_by_its_place(value):
    assert "metadata['plan']" == refusal_of(value).field


@pytest.mark.parametrize("value", [NaTType(1, 1, 1), Nothing(2026, 1, 2, tzinfo=UTC)], ids=["NaT", "nothing"])
def test_a_time_that_is_none_is_called_so(value):
    said = "is NaT, not a time: leave it out or send None"
    row = {"event_type": "identify_user", "user_id": "u", "inserted_at": value}

    assert ("metadata['plan']", said) == refusal_of(value).args
    assert ("occurred_at", said) == refusal(lambda: Track("u", "e", occurred_at=value)).args
    assert ("inserted_at", said) == refusal(lambda: imports.checked(row)).args
    assert ("data['at']", said) == refusal(lambda: checked_data({"at": value})).args


def test_a_time_that_the_datetime_in_it_cannot_say_is_refused():
    """The time would be sent as that of another year."""
    assert "is a datetime outside the years 1 to 9999 in UTC" == refusal_of(Far(1972, 1, 1, tzinfo=UTC)).reason


def test_the_time_of_an_event_is_held_as_a_plain_datetime():
    """Of a subclass, methods of its own would run in the sender."""

    class Stamp(datetime):
        pass

    taken = Track("u", "e", occurred_at=Stamp(2026, 1, 2, tzinfo=UTC)).occurred_at

    assert (datetime, datetime(2026, 1, 2, tzinfo=UTC)) == (type(taken), taken)


@pytest.mark.parametrize("method", ["__len__", "__iter__", "__getitem__", "items"])
@pytest.mark.parametrize("error", ERRORS)
def test_a_mapping_that_raises_is_refused_by_name(method, error):
    lazy: Any = Lazy(method, error)
    said = f"raised {error.__name__} while it was checked"

    assert ("company", said) == refusal(lambda: Identify("u", company=lazy)).args
    assert ("data", said) == refusal(lambda: encoded_data(lazy)).args
    assert ("data['a'][0]", said) == refusal(lambda: checked_data({"a": [lazy]})).args
    assert ("metadata", said) == refusal(lambda: Track("u", "e", lazy)).args
    assert ("metadata", said) == refusal(lambda: Identify("u", lazy)).args


@pytest.mark.parametrize("lazy", [Pairless("", ValueError), Endless("", ValueError)], ids=["pairless", "endless"])
def test_a_mapping_whose_items_are_not_to_be_believed_is_refused(lazy):
    assert "metadata" == refusal(lambda: Track("u", "e", lazy)).field
    assert "company" in refusal(lambda: Identify("u", company=lazy)).field


@pytest.mark.parametrize("cls", [str, int, float, bool, datetime, Misbehaves])
def test_an_object_whose_class_lies_is_refused_by_its_true_type(cls):
    assert refusal_of(Liar(cls)).reason.startswith(("must be str, ", "raised Misbehaves"))
    assert "user_id must be str, not Liar" == str(refusal(lambda: Identify(Liar(cls))))  # type: ignore[arg-type]


def test_a_class_whose_name_cannot_be_asked_for_is_named_all_the_same():
    assert refusal_of(Nameless()).reason.endswith(", not Nameless")


def test_a_type_that_is_called_like_one_that_is_allowed_is_named_with_its_module():
    """ "must be bool, not bool" helps nobody: numpy has one, too."""
    imitation = type("bool", (), {"__module__": "numpy"})()
    impostor = type("datetime", (), {"__module__": "cftime"})()

    assert refusal_of(imitation).reason.endswith(", not numpy.bool")
    assert (
        "must be an aware datetime, not cftime.datetime"
        == refusal(lambda: Track("u", "e", occurred_at=impostor)).reason
    )
    assert "must be str, not UUID" == must_be("str", with_method(ASKED[7][0], "__eq__", gives(True))).replace(
        "AwkwardUuid", "UUID"
    )


def test_every_type_that_is_taken_is_in_the_list():
    said = refusal_of([]).reason

    for name in ("str", "int", "float", "bool", "None", "datetime", "date", "Decimal", "UUID", "Enum"):
        assert f"{name} " in said.replace(",", " ")


def test_another_thread_may_change_the_dict_meanwhile():
    """As far as a test can say: an iteration ends in RuntimeError then."""
    changing: dict[str, Any] = {}
    ended = threading.Event()

    def change() -> None:
        while not ended.is_set():
            changing["a"] = 1
            changing.clear()
            changing.update(b=2, c="\u00e9")

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(20_000):
            try:
                Track("u", "e", changing)
                Identify("u", changing)
            except InvalidCall as error:
                assert error.field.startswith(("metadata", "a name in metadata"))
    finally:
        ended.set()
        thread.join()


# ── every way in ──


@given(st.integers(0, 2**32))
def test_only_invalid_calls_leave_a_call_that_is_checked_on_birth(seed):
    chance = Random(seed)
    properties, first, second = awkward.properties(chance), awkward.value(chance), awkward.value(chance)
    makes: list[Callable[[], object]] = [
        lambda: Track(first, second, properties, second),
        lambda: Identify(first, properties, properties),
        lambda: Identify("u", company={"id": first, "b": second}),
        lambda: IdentifyCompany(first, properties),
        lambda: user_line({"user_id": first, "company_id": second, "metadata": properties}, 1, len),
        lambda: user_line(properties, 1, len),
        lambda: company_line({"company_id": first, "metadata": properties}, 1),
        lambda: import_line(properties, 1),
        lambda: imports.checked({"event_type": "track", "user_id": first, "inserted_at": second, "url": first}),
        lambda: imports.checked({"event_type": first, "user_id": "u", "inserted_at": second, "source": first}),
        lambda: imports.checked({"event_type": "page_view", "metadata": properties, "screen_width": first}),
        lambda: imports.checked(properties),
        lambda: imports.TrackEvent(user_id="u", event_name=first, inserted_at=second, metadata=properties),
        lambda: checked_data(properties),
        lambda: encoded_data({"a": [first, {"b": second}]}),
        lambda: parcelvoy.Identify(first, email=second, phone=first, timezone=second, data=properties),
        lambda: parcelvoy.Device(first, external_id=second, os="o", model="m", app_build="1", app_version=first),
        lambda: parcelvoy.Alias(first, second),
        lambda: parcelvoy.Track("n", external_id="e", data=properties, occurred_at=first),
    ]
    for make in makes:
        try:
            make()
        except InvalidCall as error:
            assert CANARY not in str(error).replace(f"'{CANARY}'", "")


@given(st.integers(0, 2**32))
@settings(max_examples=length.of(30))
def test_only_invalid_calls_leave_a_client_and_what_is_taken_can_be_sent(seed):
    chance = Random(seed)

    async def use() -> None:
        letters: list[Any] = []
        userpilot = UserpilotClient("KEY", settings=Settings(close_timeout=0.0), transport=_nobody())
        dead = UserpilotClient(
            "KEY", settings=Settings(on_invalid="dead", close_timeout=0.0), on_dead=letters.append, transport=_nobody()
        )
        parcel = ParcelvoyClient("KEY", URL, settings=parcelvoy.ParcelvoySettings(close_timeout=0.0),
                                 transport=_nobody())  # fmt: skip
        async with userpilot, dead, parcel:
            for _ in range(8):
                properties, first, second = awkward.properties(chance), awkward.value(chance), awkward.value(chance)
                for attempt in (
                    lambda: userpilot.track_nowait(first, second, properties, occurred_at=first),  # noqa: B023
                    lambda: userpilot.track_nowait("u", "e", properties, occurred_at=second),  # noqa: B023
                    lambda: userpilot.identify_nowait("u", properties, company=properties),  # noqa: B023
                    lambda: userpilot.identify_company_nowait(first, properties),  # noqa: B023
                    lambda: parcel.track_nowait("n", external_id="e", data=properties, occurred_at=first),  # noqa: B023
                    lambda: parcel.identify_nowait(first, anonymous_id=second, data=properties),  # noqa: B023
                ):
                    with suppress(InvalidCall):
                        attempt()
                receipt = dead.track_nowait(first, second, properties)
                assert receipt.status in ("pending", "dead")
            await anyio.lowlevel.checkpoint()
        for letter in letters:
            if letter.reason == "invalid":
                assert set(letter.arguments) == {"user_id", "event_name", "metadata", "occurred_at", "dedupe"}
            else:
                json.dumps(letter.call.as_dict())

    anyio.run(use)


def _nobody() -> Any:
    import httpx

    return httpx.MockTransport(lambda request: httpx.Response(503))


@pytest.mark.anyio
async def test_a_dead_letter_has_the_arguments_as_they_were_given():
    letters: list[DeadCall] = []
    value = with_method(str, "__len__", fails(Misbehaves))
    settings = Settings(on_invalid="dead")
    async with UserpilotClient("KEY", settings=settings, on_dead=letters.append, transport=_nobody()) as userpilot:
        receipt = await userpilot.track(value, "e", {"plan": value})

    assert ("dead", "invalid") == (receipt.status, receipt.reason)
    assert value is letters[0].arguments["user_id"]
    assert "raised Misbehaves while it was checked" == letters[0].error.reason  # type: ignore[union-attr]


@pytest.mark.anyio
async def test_what_is_asked_of_the_api_is_checked_before_it_is_sent():
    async with UserpilotAPI("KEY", transport=_nobody(), attempts=1) as api:
        for ask in (
            lambda: api.wait_for_job(Liar(str)),  # type: ignore[arg-type]
            lambda: api.job(with_method(str, "__len__", fails(Misbehaves))),
            lambda: api.delete_users([Liar(str)]),  # type: ignore[list-item]
            lambda: api.delete_users(5),  # type: ignore[arg-type]
            lambda: api.bulk_identify_users(5),  # type: ignore[arg-type]
            lambda: api.import_rows([{"a": 1}], filename=5),  # type: ignore[arg-type]
            lambda: api.track(with_method(str, "__len__", fails(Misbehaves)), "e"),
        ):
            with pytest.raises(InvalidCall):
                await ask()  # type: ignore[no-untyped-call]
