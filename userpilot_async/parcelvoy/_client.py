"""ParcelvoyClient: checks calls for Parcelvoy, and hands them to the delivery."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from inspect import signature
from threading import get_ident
from typing import Any
from urllib.parse import urlsplit

import attrs

from .._calls.dedupe import checked_dedupe
from .._delivery.arguments import checked_settings, outbox_given
from .._delivery.blocking import Backend, Blocking, handed_in, without_await
from .._delivery.client import Checked, DeliveryClient
from .._delivery.credentials import Key, KeyRing, Transport, checked_base_url, checked_transport, hidden
from .._errors.foreign import is_a, must_be
from .._errors.secret import Hidden
from .._errors.tree import ConfigurationError, InvalidCall
from .._outbox.receipt import Receipt
from .._outbox.url import AnyPlace
from .._runtime import stand_in
from .._runtime.disabled import switched_off
from .._runtime.environment import flag_given, given
from .._runtime.log import log
from ._calls import Alias, Call, Data, Device, Field, Identify, Track
from ._destination import PREFIXES, OnDead, ParcelvoySettings, checked_call, checked_event, parcelvoy
from ._like_ids import LikeIds
from ._pairs import Pairs

LONGER = 4  # times as long as usual is waited for an answer after time-outs: the server goes on with what timed out
ALLOW_HTTP = "PARCELVOY_ALLOW_HTTP"
MISSING = "base_url is missing: pass it, or set PARCELVOY_BASE_URL"
NOWHERE = "https://parcelvoy.invalid"  # of a client that is switched off, and was not told where its server is


class ParcelvoyClient(DeliveryClient):
    """Takes calls at once and gets every one of them to a Parcelvoy server.

    ``api_key`` is a public key of the project, or a callable that returns it; ``base_url`` is where the server is,
    https (http for loopback, and for any host with ``allow_http=True`` or ``PARCELVOY_ALLOW_HTTP=1``: keys and data can
    be read on the way then). Without them ``PARCELVOY_API_KEY`` and ``PARCELVOY_BASE_URL`` are read. Else as
    `UserpilotClient`: opened by ``async with``, drained on leaving; ``on_dead`` gets a `DeadCall` for every call
    that is lost; ``disabled=True``, or ``PARCELVOY_DISABLED=1``, switches the client off. Raises `ConfigurationError`
    (a `ValueError`) for a key, URL, outbox, setting or variable that cannot be right.
    """

    settings: ParcelvoySettings

    def __init__(
        self,
        api_key: Key | None = None,
        base_url: str | None = None,
        *,
        outbox: AnyPlace | None = None,
        settings: ParcelvoySettings | None = None,
        on_dead: OnDead | None = None,
        transport: Transport | None = None,
        disabled: bool | None = None,
        allow_http: bool | None = None,
    ) -> None:
        key = hidden(api_key)
        where = Hidden(outbox)  # a URL may have a password
        del api_key, outbox  # no frame that an exception leaves shows them
        from .._delivery.connection import Connection  # httpx, which takes longer to import than all the rest

        switch = switched_off(disabled, "PARCELVOY_DISABLED")
        settings = checked_settings(settings, ParcelvoySettings)
        url, called = given(base_url, "base_url", "PARCELVOY_BASE_URL")
        missing = MISSING if url is None and switch is None else ""
        if missing and not stand_in.is_test():
            raise ConfigurationError(missing)
        keys = KeyRing(key if switch is None else switch, "PARCELVOY_API_KEY")
        keys.missing = missing or keys.missing
        connection = Connection(
            keys,
            lambda key: {"Authorization": f"Bearer {key}"},
            _origin(NOWHERE if url is None else url, called, flag_given(allow_http, "allow_http", ALLOW_HTTP)),
            checked_transport(transport),
            request_timeout=settings.request_timeout,
            upload_timeout=settings.request_timeout,
            size=settings.concurrency,
            longest_timeout=LONGER * settings.request_timeout,
        )
        made = outbox_given(where, "PARCELVOY_OUTBOX", switch)
        self._pairs = Pairs()
        destination = parcelvoy(settings, lambda: keys.starts_with(PREFIXES), self._pairs)
        super().__init__(destination, connection, settings, made, on_dead, switch)
        self._like_ids = LikeIds(self._warn_of_like_ids)

    async def track(
        self, name: str, *, external_id: str | None = None, anonymous_id: str | None = None, data: Data = None,
        occurred_at: datetime | None = None, dedupe: str | None = None,
    ) -> Receipt:  # fmt: skip
        """Accept an event: checked, encoded and held when this returns. It never waits for the network.

        ``name`` is what happened, ``external_id`` or ``anonymous_id`` whose event it is: one of them is required.
        ``data`` may be nested; ``occurred_at`` is aware. The server ignores it, unless it goes into ``data``, too: see
        `ParcelvoySettings.occurred_at_key`. ``dedupe`` says which fact this is: another call with it, of whatever kind,
        is none for `ParcelvoySettings.dedupe_for` seconds, and its receipt shows what became of the first. Raises
        `InvalidCall`, `ClientNotOpen`, `ClientClosed`, `WrongLoop` in another event loop, and `QueueFull` only if the
        settings ask for it.
        """
        if get_ident() != self._thread:
            raise self._refusal()
        if dedupe is not None:
            return await self._hand_in(dedupe, self._tracked, name, external_id, anonymous_id, data, occurred_at)
        checked = self._tracked(name, external_id, anonymous_id, data, occurred_at)
        if isinstance(checked, Receipt):
            return checked
        return self._accept(*checked) or await self._take(*checked)

    def track_nowait(
        self, name: str, *, external_id: str | None = None, anonymous_id: str | None = None, data: Data = None,
        occurred_at: datetime | None = None, dedupe: str | None = None,
    ) -> Receipt:  # fmt: skip
        """As `track`, for code that cannot await, in any thread; a full queue never makes it wait: the call is dropped.

        From another thread than the client's it is on its way to the loop when this returns, and counted in
        `Statistics.unpersisted` until it is there; `Receipt.wait` waits there for what becomes of it.
        """
        return self._hand_in_nowait(dedupe, self._tracked, name, external_id, anonymous_id, data, occurred_at)

    async def identify(
        self, external_id: str | None = None, *, anonymous_id: str | None = None, email: Field = None,
        phone: Field = None, timezone: Field = None, locale: Field = None, data: Data = None,
        dedupe: str | None = None,
    ) -> Receipt:  # fmt: skip
        """Accept what is known of a person: what changed. Pending identifies of one person merge, ``data`` key by key.

        ``external_id`` or ``anonymous_id`` says who it is; with both, what waits under either goes first. ``email``,
        ``phone``, ``timezone`` (an IANA name) and ``locale`` are Parcelvoy's own fields; `CLEAR` takes one back.
        ``data`` may be nested. ``dedupe`` is as for `track`. Raises as `track` does.
        """
        return await self._hand_in(dedupe, self._made, Identify, locals())

    def identify_nowait(
        self, external_id: str | None = None, *, anonymous_id: str | None = None, email: Field = None,
        phone: Field = None, timezone: Field = None, locale: Field = None, data: Data = None,
        dedupe: str | None = None,
    ) -> Receipt:  # fmt: skip
        """As `identify`, for code that cannot await, in any thread; a full queue never makes it wait."""
        return self._hand_in_nowait(dedupe, self._made, Identify, locals())

    async def alias(self, anonymous_id: str, external_id: str, *, dedupe: str | None = None) -> Receipt:
        """Accept that two ids are one person's. What waits under either goes first, and what comes later waits for it.

        ``anonymous_id`` is from before you knew the person, ``external_id`` the id in your system. The server does this
        once: the same alias again is not sent, and shares the first one's outcome; unless the server may have met the
        anonymous id only after that, for then it has done nothing.
        """
        return await self._hand_in(dedupe, self._made, Alias, locals())

    def alias_nowait(self, anonymous_id: str, external_id: str, *, dedupe: str | None = None) -> Receipt:
        """As `alias`, for code that cannot await, in any thread; a full queue never makes it wait."""
        return self._hand_in_nowait(dedupe, self._made, Alias, locals())

    async def register_device(
        self, device_id: str, *, external_id: str | None = None, anonymous_id: str | None = None, os: str, model: str,
        app_build: str, app_version: str, token: str | None = None, os_version: str | None = None,
        dedupe: str | None = None,
    ) -> Receipt:  # fmt: skip
        """Accept a device of a person's; ``token`` is its address for push notifications. Raises as `track` does.

        ``external_id`` or ``anonymous_id`` says whose it is; ``device_id``, ``os``, ``model``, ``app_build``,
        ``app_version`` and ``os_version`` describe it, each a text.
        """
        return await self._hand_in(dedupe, self._made, Device, locals())

    def register_device_nowait(
        self, device_id: str, *, external_id: str | None = None, anonymous_id: str | None = None, os: str, model: str,
        app_build: str, app_version: str, token: str | None = None, os_version: str | None = None,
        dedupe: str | None = None,
    ) -> Receipt:  # fmt: skip
        """As `register_device`, for code that cannot await, in any thread; a full queue never makes it wait."""
        return self._hand_in_nowait(dedupe, self._made, Device, locals())

    async def enqueue(self, call: Call) -> Receipt:
        """Accept a ``call`` that exists as a value: from a file, or from `on_dead`. Raises as `track` does."""
        if not any(is_a(call, kind) for kind in (Identify, Alias, Device, Track)):
            raise InvalidCall("call", must_be("Identify, Alias, Device or Track", call))
        return await self._hand_in(call.dedupe, self._copied, call)

    # ── checking ──

    def _tracked(
        self,
        name: str,
        external_id: str | None = None,
        anonymous_id: str | None = None,
        data: Data = None,
        occurred_at: datetime | None = None,
        dedupe: str | None = None,
    ) -> Checked | Receipt:
        try:
            if dedupe is not None:
                checked_dedupe(dedupe)
            key, body = checked_event(name, external_id, anonymous_id, data, occurred_at, self.settings.occurred_at_key)
            self._pairs.check(key)
        except InvalidCall as error:
            given = {"name": name, "external_id": external_id, "anonymous_id": anonymous_id, "data": data}
            return self._invalid(error, {**given, "occurred_at": occurred_at, "dedupe": dedupe})
        self._like_ids.see(external_id, anonymous_id)
        return "track", key, body, len(body)

    def _made(self, make: type[Call], arguments: dict[str, Any], _dedupe: str | None = None) -> Checked | Receipt:
        """Check a call made of ``arguments``: the `locals` of a method whose parameters are the call's fields."""
        del arguments["self"]
        try:
            return self._checked(make(**arguments))
        except InvalidCall as error:
            return self._invalid(error, arguments)

    def _copied(self, call: Call, _dedupe: str | None = None) -> Checked | Receipt:
        """Check a copy of a call: a mapping within a frozen value is not frozen."""
        try:
            return self._checked(attrs.evolve(call))
        except InvalidCall as error:
            return self._invalid(error, {"call": call})

    def _checked(self, call: Call) -> Checked:
        checked = checked_call(call, self.settings.occurred_at_key)
        self._pairs.check(checked[1])
        self._like_ids.see(call.external_id, call.anonymous_id)
        return checked

    def _warn_of_like_ids(self) -> None:
        log(
            logging.WARNING,
            "two ids that were used differ only by case, accents or invisible characters: Parcelvoy's database takes "
            "them for one, and the server does not, so that calls with the second are lost: make them differ by more",
        )

    def _blocking(self, backend: Backend) -> BlockingParcelvoyClient:
        return BlockingParcelvoyClient(self, backend)


def _check_as(make: type[Call], method: Callable[..., object]) -> Callable[..., Checked | Receipt]:
    """Give the function that checks the arguments of ``method``, whose parameters are the call's fields."""
    takes = signature(method)

    def check(client: ParcelvoyClient, *args: Any, **kwargs: Any) -> Checked | Receipt:
        given = takes.bind(client, *args, **kwargs)
        given.apply_defaults()
        return client._made(make, given.arguments)

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


def _origin(base_url: str, called: str, allow_http: bool) -> str:
    """Give the URL in front of ``/api/client``. Raises `ConfigurationError`, in which it is ``called`` so.

    People have the URL with that, with ``/api`` as Parcelvoy's own clients want it, or without either.
    """
    remedy = f"allow_http=True or {ALLOW_HTTP}=1"
    parts = urlsplit(checked_base_url(base_url, called, allow_http=allow_http, remedy=remedy))
    path = parts.path.rstrip("/")
    known = next((end for end in ("/api/client", "/api") if path.endswith(end)), "")
    return parts._replace(path=path.removesuffix(known).rstrip("/")).geturl()
