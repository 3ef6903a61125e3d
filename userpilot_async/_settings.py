"""All settings, with the reason for each default."""

from __future__ import annotations

from typing import Any, Literal

import attrs

from ._errors.foreign import is_a
from ._errors.tree import ConfigurationError

WhenFull = Literal["wait", "drop_newest", "drop_oldest", "raise"]


def _positive(instance: DeliverySettings, attribute: attrs.Attribute[Any], value: float) -> None:
    if not (type(value) in (int, float) and 0 < value < float("inf")):
        raise ConfigurationError(f"{type(instance).__name__}.{attribute.name} must be a finite number above 0")


def _not_negative(instance: DeliverySettings, attribute: attrs.Attribute[Any], value: Any) -> None:
    if not (type(value) in (int, float) and 0 <= value < float("inf")):
        raise ConfigurationError(f"{type(instance).__name__}.{attribute.name} must be a finite number, 0 or more")


def _not_negative_or_none(instance: DeliverySettings, attribute: attrs.Attribute[Any], value: Any) -> None:
    if value is None:
        return
    try:
        _not_negative(instance, attribute, value)
    except ConfigurationError as error:
        raise ConfigurationError(f"{error}, or None for no limit") from None


def whole_number(instance: DeliverySettings, attribute: attrs.Attribute[Any], value: int) -> None:
    """Check that a setting is a number of things; raises `ConfigurationError`."""
    least = 0 if attribute.name == "bulk_threshold" else 1
    if type(value) is not int or value < least:
        raise ConfigurationError(f"{type(instance).__name__}.{attribute.name} must be an int, {least} or more")


def _one_of(*choices: str | None) -> Any:
    def check(instance: DeliverySettings, attribute: attrs.Attribute[Any], value: Any) -> None:
        text = str.__str__(value) if is_a(value, str) else value
        if not (text is None or type(text) is str) or text not in choices:  # others may compare as they like
            allowed = ", ".join(map(repr, choices))
            raise ConfigurationError(f"{type(instance).__name__}.{attribute.name} must be one of {allowed}")

    return check


def _number(default: float) -> Any:
    return attrs.field(default=default, validator=_positive)


def duration(default: float) -> Any:
    """Give a field that holds seconds, 0 or more."""
    return attrs.field(default=default, validator=_not_negative)


def count(default: int) -> Any:
    """Give a field that holds a number of things."""
    return attrs.field(default=default, validator=whole_number)


@attrs.frozen(kw_only=True)
class DeliverySettings:
    """Settings that hold for every destination. Durations are seconds."""

    flush_interval: float = duration(1.0)
    """How long an identify waits for others to merge with. A user whose track waits behind it does not linger."""

    max_queue_calls: int = count(100_000)
    """Calls held at most. Merged ones do not count: they cost no room."""

    max_queue_bytes: int = count(64 * 1024 * 1024)
    """Bytes of encoded calls held at most."""

    when_full: WhenFull = attrs.field(default="wait", validator=_one_of("wait", "drop_newest", "drop_oldest", "raise"))
    """How a full queue meets the next call. ``"wait"`` gives up after `max_wait` and drops it.

    Of a durable outbox, only the process that sends can drop the oldest; the others drop the newest.
    """

    max_wait: float | None = attrs.field(default=10.0, validator=_not_negative_or_none)
    """How long a call waits for room; ``None`` for ever, which is right for scripts and wrong for web requests."""

    max_age: float = _number(86_400.0)
    """A call older than this dies with reason ``expired``. Nothing ever dies of a number of attempts."""

    close_timeout: float | None = attrs.field(default=10.0, validator=_not_negative_or_none)
    """How long `aclose` drains. Below the 30 s that Kubernetes and most supervisors wait after SIGTERM.

    ``None``: until all is sent, however long that takes, which is right for scripts and wrong for services. Calls still
    die of `max_age`, and a second Ctrl-C ends it.
    """

    request_timeout: float = _number(15.0)
    """From the first byte sent to the last byte read, whatever the server does in between."""

    concurrency: int = count(8)
    """Requests in flight at once, and connections in the pool."""

    dedupe_for: float = _number(7 * 86_400.0)
    """For how long a call's ``dedupe`` counts, from its acceptance on: the same again is no call meanwhile. Seven days:
    senders of webhooks give up after one to three.
    """

    on_invalid: Literal["raise", "dead"] = attrs.field(default="raise", validator=_one_of("raise", "dead"))
    """``"dead"`` hands an invalid call to `on_dead` instead of raising into a request handler."""

    on_ambiguous: Literal["send", "drop"] = attrs.field(default="send", validator=_one_of("send", "drop"))
    """After an answer that got lost: send again (perhaps a double), or drop (perhaps a gap)."""


@attrs.frozen(kw_only=True)
class Settings(DeliverySettings):
    """Settings of a `UserpilotClient`. A wrong value is a `ConfigurationError` here. Durations are seconds."""

    track_per_minute: int = count(600)
    """Requests to ``/v1/track`` in any 60 seconds; the vendor allows one key 600."""

    identify_per_minute: int = count(600)
    """Requests of all other kinds in any 60 seconds: realtime identifies, bulk submissions, polls of jobs."""

    burst: int = count(100)
    """How many requests may go at once after a pause; the rest are spaced evenly."""

    bulk_threshold: int = count(50)
    """More waiting users (or companies) than this go as one bulk job instead of one request each."""

    imports: Literal["when_late"] | None = attrs.field(default=None, validator=_one_of(None, "when_late"))
    """``"when_late"`` sends events whose turn comes later than `late_after` through the Import API, dated with their
    own time: a paid feature, and not realtime. Without it they wait for the realtime endpoint, which dates them on
    arrival.
    """

    late_after: float = _number(300.0)
    """An event is late when it waited longer than this, or will at the present budget; or when it happened
    (``occurred_at``) longer ago.
    """

    upload_timeout: float = _number(120.0)
    """As `request_timeout`, for a file of up to 50 MB."""

    job_timeout: float = _number(3_600.0)
    """How long past its expected end a background job is believed in. 10,000 rows are expected to take 5.6 min."""
