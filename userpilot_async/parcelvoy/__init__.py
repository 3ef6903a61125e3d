"""Parcelvoy's client API as a second destination: the same queue, order and account, for a server of your own.

async with ParcelvoyClient("PUBLIC_KEY", "https://parcelvoy.example.com") as parcelvoy:
    await parcelvoy.identify("u1", email="ann@example.com", data={"plan": "pro"})
    await parcelvoy.track("report_exported", external_id="u1", data={"format": "csv"})

The mirror image of Userpilot: identifies go one by one, events in arrays. Sources: docs.parcelvoy.com, "Client API",
read 2026-10; for the lengths, the server's database schema (github.com/parcelvoy/platform, ``apps/platform/db``, read
2026-11): it answers 204 before it looks at them, so that what is too long would be lost without a word.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from functools import lru_cache
from inspect import signature
from threading import get_ident
from typing import Any, Literal, cast  # noqa: F401  # Literal and WhenFull are in fields that classes here inherit
from urllib.parse import urlsplit
from zoneinfo import ZoneInfo

import attrs

from .._calls.ndjson import call_of, object_on
from .._calls.payload import Event, IdentifyPayload, Key, Kind, Payload, body_of, fields_of, size_of_identify
from .._calls.rows import Row
from .._calls.values import (
    checked_id,
    checked_moment,
    checked_time,
    encode_json,
    encode_text,
    iso_utc,
    parsed_time,
    size_of,
)
from .._delivery.blocking import Backend, Blocking, handed_in, without_await
from .._delivery.client import Checked, DeliveryClient
from .._delivery.credentials import Key as ApiKey
from .._delivery.credentials import KeyRing, Transport, checked_base_url, checked_transport, hidden
from .._errors.foreign import is_a, must_be
from .._errors.secret import Hidden
from .._errors.tree import ConfigurationError, InvalidCall
from .._outbox.receipt import Receipt
from .._outbox.url import AnyPlace, outbox_at
from .._protocol.verdict import Meaning, Verdict
from .._runtime.disabled import switched_off
from .._runtime.environment import given
from .._schedule.destination import Destination, Endpoint, Events, LostCall, as_array
from .._settings import DeliverySettings, WhenFull, count, whole_number  # noqa: F401
from ._data import checked_data, encoded_data

__all__ = ["Alias", "DeadCall", "Device", "Identify", "ParcelvoyClient", "ParcelvoySettings", "Track"]

MAX_TEXT = 255  # characters of an id, a name, an address: the server's columns
MAX_PHONE = 64
NOWHERE = "https://parcelvoy.invalid"  # of a client that is switched off, and was not told where its server is
Data = Mapping[str, Any] | None
"""JSON: nested mappings and lists of str, int, float, bool and None; `Any` because that cannot be said in a type."""


@attrs.frozen(kw_only=True)
class ParcelvoySettings(DeliverySettings):
    """Frozen; a wrong value is a `ConfigurationError` here. Durations are seconds."""

    requests_per_minute: int | None = attrs.field(default=None, validator=attrs.validators.optional(whole_number))
    """In any 60 seconds, all endpoints together. ``None``: as fast as they are answered; no limit is documented."""

    burst: int = count(100)
    """With a limit: how many requests may go at once after a pause; the rest are spaced evenly."""

    max_events: int = count(500)
    """Events in one request. They wait up to `flush_interval` for others to fill it with."""

    max_bytes: int = count(512 * 1024)
    """Bytes of events in one request, unless one alone is larger; and of merged identifies. The server's JSON parser
    (koa-body, as it comes) takes 1 MB.
    """


# ── the calls ──


def _name(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    _hold(instance, attribute, checked_id(value, attribute.name, MAX_TEXT))


def _hold(instance: object, attribute: attrs.Attribute[Any], text: str) -> None:
    """Not the instance of a subclass that was given, whose methods may do anything: the plain text."""
    object.__setattr__(instance, attribute.name, text)


def _name_or_none(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is not None:
        _name(instance, attribute, value)


def _text_or_none(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    """As `_name`, and an empty one: how else would one be taken back?"""
    if is_a(value, str) and not str.__str__(value):
        _hold(instance, attribute, "")
    elif value is not None:
        most = MAX_PHONE if attribute.name == "phone" else MAX_TEXT
        _hold(instance, attribute, checked_id(value, attribute.name, most))


@lru_cache(maxsize=1_024)  # each is a look at the disk
def _is_time_zone(name: str) -> bool:
    try:
        return ZoneInfo(name) is not None and not name.startswith(
            ("posix", "right/", "localtime")
        )  # no names, but files
    except (OSError, ValueError, KeyError):  # ZoneInfoNotFoundError is a KeyError; a directory, an OSError
        return False


def _time_zone_or_none(instance: object, attribute: attrs.Attribute[Any], value: object) -> None:
    if value is None:
        return
    _name(instance, attribute, value)
    name = getattr(instance, attribute.name)
    if not _is_time_zone(name) and _is_time_zone("Europe/London"):  # else this machine knows none
        raise InvalidCall("timezone", "must be the IANA name of a time zone, like 'Europe/London'")


class _Person:
    """Whose a call is: by the id your system knows them by, by one from before you knew them, or by both."""

    __slots__ = ()
    external_id: str | None
    anonymous_id: str | None

    def __attrs_post_init__(self) -> None:
        if self.external_id is None and self.anonymous_id is None:
            raise _nobodys()

    def _ids(self) -> dict[str, Any]:
        return _given(external_id=self.external_id, anonymous_id=self.anonymous_id)


def _nobodys() -> InvalidCall:
    return InvalidCall("external_id", "is missing, and so is anonymous_id: one of them must say whose this is")


def _given(**fields: Any) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


@attrs.frozen
class Identify(_Person):
    """What is known of a person: fields and ``data`` that changed. A ``None`` in ``data`` is sent as it is."""

    external_id: str | None = attrs.field(default=None, validator=_name_or_none)
    anonymous_id: str | None = attrs.field(default=None, validator=_name_or_none, kw_only=True)
    email: str | None = attrs.field(default=None, validator=_text_or_none, kw_only=True)
    phone: str | None = attrs.field(default=None, validator=_text_or_none, kw_only=True)
    timezone: str | None = attrs.field(default=None, validator=_time_zone_or_none, kw_only=True)
    locale: str | None = attrs.field(default=None, validator=_text_or_none, kw_only=True)
    data: Mapping[str, Any] = attrs.field(default=None, converter=checked_data, kw_only=True)

    def fields(self) -> dict[str, Any]:
        """All but ``data``, where it was given."""
        return self._ids() | _given(email=self.email, phone=self.phone, timezone=self.timezone, locale=self.locale)

    def as_dict(self) -> dict[str, Any]:
        """The call as one line of an NDJSON file that ``userpilot-async send --to parcelvoy`` reads."""
        return {"type": "identify", **self.fields(), "data": dict(self.data)}


@attrs.frozen
class Alias:
    """The person known by ``anonymous_id`` is the one known by ``external_id``. Done once."""

    anonymous_id: str = attrs.field(validator=_name)
    external_id: str = attrs.field(validator=_name)

    def as_dict(self) -> dict[str, Any]:
        """As `Identify.as_dict`."""
        return {"type": "alias", "anonymous_id": self.anonymous_id, "external_id": self.external_id}


@attrs.frozen
class Device(_Person):
    """A device of a person's; ``token`` is its address for push notifications."""

    device_id: str = attrs.field(validator=_name)
    external_id: str | None = attrs.field(default=None, validator=_name_or_none, kw_only=True)
    anonymous_id: str | None = attrs.field(default=None, validator=_name_or_none, kw_only=True)
    os: str = attrs.field(validator=_name, kw_only=True)
    model: str = attrs.field(validator=_name, kw_only=True)
    app_build: str = attrs.field(validator=_name, kw_only=True)
    app_version: str = attrs.field(validator=_name, kw_only=True)
    token: str | None = attrs.field(default=None, validator=_text_or_none, kw_only=True)
    os_version: str | None = attrs.field(default=None, validator=_text_or_none, kw_only=True)

    def body(self) -> dict[str, Any]:
        """What goes over the wire."""
        return attrs.asdict(self, filter=lambda _, value: value is not None)

    def as_dict(self) -> dict[str, Any]:
        """As `Identify.as_dict`."""
        return {"type": "device", **self.body()}


@attrs.frozen
class Track(_Person):
    """Something a person did. ``occurred_at`` is aware, and goes over the wire as ``created_at``."""

    name: str = attrs.field(validator=_name)
    external_id: str | None = attrs.field(default=None, validator=_name_or_none, kw_only=True)
    anonymous_id: str | None = attrs.field(default=None, validator=_name_or_none, kw_only=True)
    data: Mapping[str, Any] = attrs.field(default=None, converter=checked_data, kw_only=True)
    occurred_at: datetime | None = attrs.field(default=None, converter=checked_time, kw_only=True)

    def as_dict(self) -> dict[str, Any]:
        """As `Identify.as_dict`."""
        line: dict[str, Any] = {"type": "track", "name": self.name, **self._ids(), "data": dict(self.data)}
        return line if self.occurred_at is None else line | {"occurred_at": iso_utc(self.occurred_at)}


Call = Identify | Alias | Device | Track
_TYPES: dict[str, Any] = {"identify": Identify, "alias": Alias, "device": Device, "track": Track}


def from_line(line: bytes | str) -> Call:
    """The call written on one line of NDJSON; raises `InvalidCall`, naming the field."""
    call: Call = call_of(object_on(line), _TYPES)
    return call


@attrs.frozen(kw_only=True)
class DeadCall(LostCall):
    """A call for Parcelvoy that will not be delivered."""

    call: Call | None = attrs.field(default=None, repr=False)
    """The call as it could be made again: of merged identifies, all that they said together."""


OnDead = Callable[[DeadCall], Awaitable[None] | None]


# ── how they look on the wire ──

_IDENTIFY = Endpoint("identify", "/api/client/identify", "requests")
_ALIAS = Endpoint("alias", "/api/client/alias", "requests")
_DEVICES = Endpoint("devices", "/api/client/devices", "requests")
_EVENTS = Endpoint("events", "/api/client/events", "requests")


def parcelvoy(settings: ParcelvoySettings) -> Destination:
    """Events in arrays; identifies, aliases and devices one a request; one budget, or none."""

    def merges(row: Row, facts: IdentifyPayload, last: bool) -> bool:
        """Only if they name the same ids: of others it is known that they are one person's, but not to the server."""
        known, said = row.fields or {}, fields_of(facts) or {}
        same = all(known.get(name) == said.get(name) for name in ("external_id", "anonymous_id"))
        return same and row.size + size_of_identify(facts) <= settings.max_bytes

    return Destination(
        name="parcelvoy",
        budgets={"requests": settings.requests_per_minute},
        burst=settings.burst,
        events=Events(endpoint=_EVENTS, most=settings.max_events, max_bytes=settings.max_bytes, pack=as_array),
        rows={"user": _IDENTIFY},
        row_body=lambda row: encode_json(_row_fields(row)).encode(),
        row_call=lambda row: Identify(**_row_fields(row)),
        merges=merges,
        posts={"alias": _ALIAS, "device": _DEVICES},
        once=frozenset({"alias"}),
        call_of=_call_of,
        reads=_read,
        lost_call=DeadCall,
        wrong_key="is it the public key of a project there?",
        wrong_url="is the URL right, and the key one of that server's?",  # it answers 404 for a key it does not know
    )


def _read(verdict: Verdict) -> Verdict:
    """A body it rejects is a 422; of other refusals none says what became of the calls.

    400 is what becomes of any error inside it (``apps/platform/src/api.ts``), also in the middle of an array
    (``ClientController.ts``). A 415, say, is somebody else's.
    """
    if verdict.status == 400:
        return attrs.evolve(verdict, meaning=Meaning.LOST, doubtful=True)
    if verdict.meaning is Meaning.INVALID and verdict.status != 422:
        return attrs.evolve(verdict, meaning=Meaning.MISCONFIGURED)
    return verdict


def _row_fields(row: Row) -> dict[str, Any]:
    return {**(row.fields or {}), "data": row.metadata}


def _keys(ids: Mapping[str, Any]) -> Key:
    """What lanes are told apart by: both kinds of ids, which may look alike."""
    keys = [prefix + ids[name] for prefix, name in (("e:", "external_id"), ("a:", "anonymous_id")) if name in ids]
    return keys[0] if len(keys) == 1 else tuple(keys)


def _call_of(kind: Kind, key: Key, said: Payload) -> Call:
    """The call that was put as ``said``."""
    if kind == "user":
        data, ids_and_more, _, _ = cast("IdentifyPayload", said)
        return Identify(**(ids_and_more or {}), data=data)
    fields = json.loads(body_of(cast("Event", said)))
    if kind == "alias":
        return Alias(**fields)
    if kind == "device":
        return Device(**fields)
    created_at = fields.pop("created_at", None)
    return Track(**fields, occurred_at=created_at and parsed_time(created_at))


def _event(
    name: str, external_id: str | None, anonymous_id: str | None, data: Data, occurred_at: datetime | None
) -> tuple[Key, bytes]:
    """Check one event, and encode it. The hot path: `Track` says the same more slowly. Raises `InvalidCall`."""
    if type(name) is not str or not 0 < len(name) <= MAX_TEXT or name.isspace():
        name = checked_id(name, "name", MAX_TEXT)
    said = f'{{"name":{encode_text(name)}'
    key: Key = ""
    if external_id is not None:
        if type(external_id) is not str or not 0 < len(external_id) <= MAX_TEXT or external_id.isspace():
            external_id = checked_id(external_id, "external_id", MAX_TEXT)
        key = "e:" + external_id
        said = f'{said},"external_id":{encode_text(external_id)}'
    if anonymous_id is not None:
        anonymous_id = checked_id(anonymous_id, "anonymous_id", MAX_TEXT)
        key = ("e:" + external_id, "a:" + anonymous_id) if external_id is not None else "a:" + anonymous_id
        said = f'{said},"anonymous_id":{encode_text(anonymous_id)}'
    if not key:
        raise _nobodys()
    if data is not None:
        said = f'{said},"data":{encoded_data(data)}'
    if occurred_at is not None:
        said = f'{said},"created_at":"{iso_utc(checked_moment(occurred_at))}"'
    try:
        return key, f"{said}}}".encode()
    except UnicodeEncodeError:
        Track(name, external_id=external_id, anonymous_id=anonymous_id, data=data)  # says where it is
        raise InvalidCall("data", "has a lone surrogate, which UTF-8 cannot carry") from None


def _origin(base_url: str, called: str) -> str:
    """Where ``/api/client`` begins; people have the URL with it, with ``/api`` as Parcelvoy's own clients want it, or
    without either.
    """
    parts = urlsplit(checked_base_url(base_url, called))
    path = parts.path.rstrip("/")
    known = next((end for end in ("/api/client", "/api") if path.endswith(end)), "")
    return parts._replace(path=path.removesuffix(known).rstrip("/")).geturl()


# ── the client ──


class ParcelvoyClient(DeliveryClient):
    """Takes calls at once and gets every one of them to a Parcelvoy server.

    ``api_key`` is a public key of the project, or a callable that returns it; ``base_url`` is where the server is,
    https (http for loopback). Without them ``PARCELVOY_API_KEY`` and ``PARCELVOY_BASE_URL`` are read. Else as
    `UserpilotClient`: opened by ``async with``, drained on leaving; ``on_dead`` gets a `DeadCall` for every call
    that is lost; ``disabled=True``, or ``PARCELVOY_DISABLED=1``, switches the client off. Raises `ConfigurationError`
    (a `ValueError`) for a key, URL, outbox, setting or variable that cannot be right.
    """

    settings: ParcelvoySettings

    def __init__(
        self,
        api_key: ApiKey | None = None,
        base_url: str | None = None,
        *,
        outbox: AnyPlace | None = None,
        settings: ParcelvoySettings | None = None,
        on_dead: OnDead | None = None,
        transport: Transport | None = None,
        disabled: bool | None = None,
    ) -> None:
        key = hidden(api_key)
        where = Hidden(outbox)  # a URL may have a password
        del api_key, outbox  # no frame that an exception leaves shows them
        from .._delivery.connection import (
            Connection,  # httpx takes longer to import than all the rest: not before it is wanted
        )

        switch = switched_off(disabled, "PARCELVOY_DISABLED")
        if settings is not None and not isinstance(settings, ParcelvoySettings):
            raise ConfigurationError(f"settings {must_be('ParcelvoySettings', settings)}")
        settings = settings if settings is not None else ParcelvoySettings()
        url, called = given(base_url, "base_url", "PARCELVOY_BASE_URL")
        if url is None and switch is not None:
            url = NOWHERE
        if url is None:
            raise ConfigurationError("base_url is missing: pass it, or set PARCELVOY_BASE_URL")
        connection = Connection(
            KeyRing(key if switch is None else switch, "PARCELVOY_API_KEY"),
            lambda key: {"Authorization": f"Bearer {key}"},
            _origin(url, called),
            checked_transport(transport),
            request_timeout=settings.request_timeout,
            upload_timeout=settings.request_timeout,
            size=settings.concurrency,
        )
        place: AnyPlace | None
        place, called = given(where.reveal(), "outbox", "PARCELVOY_OUTBOX")
        try:
            made = outbox_at(place, called) if switch is None else None
        finally:
            del place
        super().__init__(parcelvoy(settings), connection, settings, made, on_dead, switch)

    async def track(
        self, name: str, *, external_id: str | None = None, anonymous_id: str | None = None, data: Data = None,
        occurred_at: datetime | None = None,
    ) -> Receipt:  # fmt: skip
        """Accept an event: checked, encoded and held when this returns. It never waits for the network.

        One of the two ids is required; ``data`` may be nested. Raises `InvalidCall`, `ClientNotOpen`,
        `ClientClosed`, `WrongLoop` in another event loop, and `QueueFull` only if the settings ask for it.
        """
        if get_ident() != self._thread:
            raise self._refusal()
        checked = self._tracked(name, external_id, anonymous_id, data, occurred_at)
        if isinstance(checked, Receipt):
            return checked
        return self._accept(*checked) or await self._take(*checked)

    def track_nowait(
        self, name: str, *, external_id: str | None = None, anonymous_id: str | None = None, data: Data = None,
        occurred_at: datetime | None = None,
    ) -> Receipt:  # fmt: skip
        """As `track`, for code that cannot await, in any thread; a full queue never makes it wait: the call is dropped.

        From another thread than the client's it is on its way to the loop when this returns, and counted in
        `Statistics.unheld` until it is there; `Receipt.wait` waits there for what becomes of it.
        """
        if get_ident() != self._thread:
            return self._from_elsewhere(self._tracked, name, external_id, anonymous_id, data, occurred_at)
        checked = self._tracked(name, external_id, anonymous_id, data, occurred_at)
        return checked if isinstance(checked, Receipt) else self._put_nowait(*checked)

    async def identify(
        self, external_id: str | None = None, *, anonymous_id: str | None = None, email: str | None = None,
        phone: str | None = None, timezone: str | None = None, locale: str | None = None, data: Data = None,
    ) -> Receipt:  # fmt: skip
        """Accept what is known of a person: what changed. Pending identifies of one person merge, ``data`` key by key.

        With both ids, what waits under either goes first. Raises as `track` does.
        """
        if get_ident() != self._thread:
            raise self._refusal()
        checked = self._said(Identify, locals())
        if isinstance(checked, Receipt):
            return checked
        return self._accept(*checked) or await self._take(*checked)

    def identify_nowait(
        self, external_id: str | None = None, *, anonymous_id: str | None = None, email: str | None = None,
        phone: str | None = None, timezone: str | None = None, locale: str | None = None, data: Data = None,
    ) -> Receipt:  # fmt: skip
        """As `identify`, for code that cannot await, in any thread; a full queue never makes it wait."""
        if get_ident() != self._thread:
            return self._from_elsewhere(self._said, Identify, locals())
        checked = self._said(Identify, locals())
        return checked if isinstance(checked, Receipt) else self._put_nowait(*checked)

    async def alias(self, anonymous_id: str, external_id: str) -> Receipt:
        """Accept that two ids are one person's. What waits under either goes first, and what comes later waits for it.

        The server does this once: the same alias again is not sent, and shares the first one's fate.
        """
        if get_ident() != self._thread:
            raise self._refusal()
        checked = self._said(Alias, locals())
        if isinstance(checked, Receipt):
            return checked
        return self._accept(*checked) or await self._take(*checked)

    def alias_nowait(self, anonymous_id: str, external_id: str) -> Receipt:
        """As `alias`, for code that cannot await, in any thread; a full queue never makes it wait."""
        if get_ident() != self._thread:
            return self._from_elsewhere(self._said, Alias, locals())
        checked = self._said(Alias, locals())
        return checked if isinstance(checked, Receipt) else self._put_nowait(*checked)

    async def register_device(
        self, device_id: str, *, external_id: str | None = None, anonymous_id: str | None = None, os: str, model: str,
        app_build: str, app_version: str, token: str | None = None, os_version: str | None = None,
    ) -> Receipt:  # fmt: skip
        """Accept a device of a person's; ``token`` is its address for push notifications. Raises as `track` does."""
        if get_ident() != self._thread:
            raise self._refusal()
        checked = self._said(Device, locals())
        if isinstance(checked, Receipt):
            return checked
        return self._accept(*checked) or await self._take(*checked)

    def register_device_nowait(
        self, device_id: str, *, external_id: str | None = None, anonymous_id: str | None = None, os: str, model: str,
        app_build: str, app_version: str, token: str | None = None, os_version: str | None = None,
    ) -> Receipt:  # fmt: skip
        """As `register_device`, for code that cannot await, in any thread; a full queue never makes it wait."""
        if get_ident() != self._thread:
            return self._from_elsewhere(self._said, Device, locals())
        checked = self._said(Device, locals())
        return checked if isinstance(checked, Receipt) else self._put_nowait(*checked)

    async def enqueue(self, call: Call) -> Receipt:
        """Accept a call that exists as a value: from a file, or from `on_dead`."""
        if not any(is_a(call, kind) for kind in (Identify, Alias, Device, Track)):
            raise InvalidCall("call", must_be("Identify, Alias, Device or Track", call))
        if get_ident() != self._thread:
            raise self._refusal()
        try:
            checked = _as_put(attrs.evolve(call))  # a copy: a mapping within a frozen value is not frozen
        except InvalidCall as error:
            return self._invalid(error, {"call": call})
        return self._accept(*checked) or await self._take(*checked)

    # ── checking ──

    def _tracked(
        self,
        name: str,
        external_id: str | None = None,
        anonymous_id: str | None = None,
        data: Data = None,
        occurred_at: datetime | None = None,
    ) -> Checked | Receipt:
        try:
            key, body = _event(name, external_id, anonymous_id, data, occurred_at)
        except InvalidCall as error:
            given = {"name": name, "external_id": external_id, "anonymous_id": anonymous_id, "data": data}
            return self._invalid(error, {**given, "occurred_at": occurred_at})
        return "track", key, body, len(body)

    def _said(self, make: type[Call], arguments: dict[str, Any]) -> Checked | Receipt:
        """``arguments`` are the `locals` of a method whose parameters are the call's fields."""
        del arguments["self"]
        try:
            return _as_put(make(**arguments))
        except InvalidCall as error:
            return self._invalid(error, arguments)

    def _blocking(self, backend: Backend) -> BlockingParcelvoyClient:
        return BlockingParcelvoyClient(self, backend)


def _check_as(make: type[Call], method: Callable[..., object]) -> Callable[..., Checked | Receipt]:
    """What checks the arguments of ``method``, whose parameters are the call's fields."""
    takes = signature(method)

    def check(client: ParcelvoyClient, *args: Any, **kwargs: Any) -> Checked | Receipt:
        given = takes.bind(client, *args, **kwargs)
        given.apply_defaults()
        return client._said(make, given.arguments)

    return check


class BlockingParcelvoyClient(Blocking[ParcelvoyClient]):
    """A `ParcelvoyClient` for code without an event loop: ``with blocking(ParcelvoyClient()) as parcelvoy:``.

    The calls are those of `ParcelvoyClient`, without ``await``, in any thread.
    """

    track = handed_in(ParcelvoyClient.track, ParcelvoyClient._tracked)
    identify = handed_in(ParcelvoyClient.identify, _check_as(Identify, ParcelvoyClient.identify))
    alias = handed_in(ParcelvoyClient.alias, _check_as(Alias, ParcelvoyClient.alias))
    register_device = handed_in(ParcelvoyClient.register_device, _check_as(Device, ParcelvoyClient.register_device))
    enqueue = without_await(ParcelvoyClient.enqueue)


def _as_put(call: Call) -> Checked:
    """A call as the outbox holds it."""
    if isinstance(call, Track):
        key, body = _event(call.name, call.external_id, call.anonymous_id, call.data, call.occurred_at)
        return "track", key, body, len(body)
    if isinstance(call, Identify):
        fields, data = call.fields(), dict(call.data)
        size = size_of(data) + size_of(fields)
        facts = (data, fields, size, None)
        return "user", _keys(fields), facts, size
    if isinstance(call, Alias):
        ids = {"anonymous_id": call.anonymous_id, "external_id": call.external_id}
        body = encode_json(ids).encode()
        return "alias", _keys(ids), body, len(body)
    body = encode_json(call.body()).encode()
    return "device", _keys(call.body()), body, len(body)
