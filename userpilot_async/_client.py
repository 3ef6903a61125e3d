"""UserpilotClient: checks calls for Userpilot, and hands them to the delivery."""

from __future__ import annotations

import os
from collections.abc import AsyncIterable, Awaitable, Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from importlib import import_module
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any, Literal

from anyio.abc import TaskGroup

from ._account.losses import counted
from ._calls.dedupe import checked_dedupe
from ._calls.payload import size_of_identify
from ._calls.values import (
    Convertible,
    checked_company,
    checked_company_id,
    checked_event_name,
    checked_moment,
    checked_user_id,
    measured,
)
from ._delivery.arguments import checked_settings, outbox_given
from ._delivery.blocking import Backend, Blocking, handed_in, without_await
from ._delivery.client import Checked, DeliveryClient
from ._delivery.credentials import Key, Transport, hidden
from ._delivery.together import as_checked, hand_in_all
from ._errors.foreign import is_a, must_be
from ._errors.secret import Hidden
from ._errors.tree import InvalidCall
from ._outbox.receipt import Receipt
from ._outbox.url import AnyPlace
from ._runtime.disabled import switched_off
from ._runtime.lifetime import weakly
from ._settings import Settings
from ._userpilot.api import DISABLED, Region, UserpilotAPI, keys_of
from ._userpilot.blocking_api import BlockingAPI
from ._userpilot.calls import (
    Call,
    DeleteCompany,
    DeleteUser,
    Identify,
    IdentifyCompany,
    Track,
    deletion_body,
    track_body,
)
from ._userpilot.destination import DeadCall, facts_of, userpilot
from ._userpilot.event_names import EventNames
from ._userpilot.file_rows import each_id
from ._userpilot.within import Within

if TYPE_CHECKING:
    from .imports import Conversion, ImportReport, OnProgress, Row, Series
else:  # so that `typing.get_type_hints` finds the names, and `imports` need not be loaded for them
    Conversion = ImportReport = OnProgress = Row = Series = Any

OnDead = Callable[[DeadCall], Awaitable[None] | None]
Metadata = Mapping[str, Convertible] | None
Dedupe = str | None

API_CONNECTIONS = 4  # of the pool, beside the sender's, for `client.api`


class UserpilotClient(DeliveryClient):
    """Takes calls at once and gets every one of them to Userpilot.

    ``async with UserpilotClient("API_KEY") as userpilot:`` opens it and, on leaving, drains it for up to
    ``settings.close_timeout`` seconds (`Settings`). Without arguments it reads ``USERPILOT_API_KEY``,
    ``USERPILOT_REGION``, ``USERPILOT_BASE_URL`` and ``USERPILOT_OUTBOX``; an empty variable is unset. ``outbox`` is a
    `MemoryOutbox`, `SQLiteOutbox` or `RedisOutbox`, a URL, or the path of a file for a `SQLiteOutbox`. ``api_key`` may
    be a callable, asked before each request, so that a key can be rotated.

    ``disabled=True``, or ``USERPILOT_DISABLED=1`` if ``disabled`` is ``None``, switches the client off: it needs no
    key, makes no request and opens no outbox. Calls are checked as ever, and counted as ``dropped``, reason
    ``disabled``.

    ``base_url`` is https; http for loopback, and with ``allow_http=True``, or ``USERPILOT_ALLOW_HTTP=1``, for any host:
    for the emulator in a network of your own, since keys and data can be read on the way.

    ``on_dead`` (sync or async) gets a `DeadCall` for every call that is lost. ``transport`` is httpx's.
    Raises `ConfigurationError` (a `ValueError`) for a key, URL, outbox, setting or variable that cannot be right, with
    the name of the argument or the variable.
    """

    settings: Settings

    def __init__(
        self,
        api_key: Key | None = None,
        *,
        region: Region | None = None,
        base_url: str | None = None,
        outbox: AnyPlace | None = None,
        settings: Settings | None = None,
        on_dead: OnDead | None = None,
        transport: Transport | None = None,
        disabled: bool | None = None,
        allow_http: bool | None = None,
    ) -> None:
        key = hidden(api_key)
        where = Hidden(outbox)  # a URL may have a password
        del api_key, outbox  # no frame that an exception leaves shows them
        switch = switched_off(disabled, DISABLED)
        settings = checked_settings(settings, Settings)
        self.api: UserpilotAPI = UserpilotAPI(
            keys_of(key, switch),
            region=region,
            base_url=base_url,
            transport=transport,
            connections=API_CONNECTIONS + settings.concurrency,
            request_timeout=settings.request_timeout,
            upload_timeout=settings.upload_timeout,
            allow_http=allow_http,
        )
        """Every endpoint as one awaitable method, without the queue."""
        self.api.before_deletion = weakly(self._warn_of_waiting)
        self._reserved = self.api.reserved_properties  # each warning comes once, whichever way the call goes
        self._event_names, self._naming = EventNames(), Lock()
        made = outbox_given(where, "USERPILOT_OUTBOX", switch)
        super().__init__(userpilot(settings), self.api.reserve(settings.concurrency), settings, made, on_dead, switch)

    def _connect(self, tasks: TaskGroup) -> None:
        self.api.open(tasks)

    async def _disconnect(self) -> None:
        await self.api.aclose()

    def _lose_connection(self) -> None:
        self.api.lose_tasks()

    # ── calls ──

    async def track(
        self, user_id: str, event_name: str, metadata: Metadata = None, *, occurred_at: datetime | None = None,
        dedupe: Dedupe = None,
    ) -> Receipt:  # fmt: skip
        """Accept an event: checked, encoded and held when this returns. It never waits for the network.

        ``user_id`` says whose it is, ``event_name`` what happened, ``metadata`` more about it: a flat mapping, with
        values that JSON has, and dates, decimals, UUIDs and enums. ``occurred_at`` (aware) is kept with the call; the
        realtime endpoint has no field for it and dates events on arrival, an import has (`Settings.imports`).
        ``dedupe`` says which fact this is, a text such as a webhook's id: another call with it, of whatever kind, is
        none for `Settings.dedupe_for` seconds, and its receipt shows what became of the first. A full queue is met as
        `Settings.when_full` says. Raises `InvalidCall`, `ClientNotOpen`, `ClientClosed`, `WrongLoop` in
        another event loop, and `QueueFull` only if the settings ask for it.
        """
        if get_ident() != self._thread:
            raise self._refusal()
        if dedupe is not None:
            return await self._hand_in(dedupe, self._tracked, user_id, event_name, metadata, occurred_at)
        checked = self._tracked(user_id, event_name, metadata, occurred_at)
        if isinstance(checked, Receipt):
            return checked
        return self._accept(*checked) or await self._take(*checked)

    def track_nowait(
        self, user_id: str, event_name: str, metadata: Metadata = None, *, occurred_at: datetime | None = None,
        dedupe: Dedupe = None,
    ) -> Receipt:  # fmt: skip
        """As `track`, for code that cannot await, in any thread; a full queue never makes it wait: the call is dropped.

        From another thread than the client's it is on its way to the loop when this returns, and counted in
        `Statistics.unpersisted` until it is there; `Receipt.wait` waits there for what becomes of it.
        """
        return self._hand_in_nowait(dedupe, self._tracked, user_id, event_name, metadata, occurred_at)

    async def identify(
        self, user_id: str, metadata: Metadata = None, *, company: Metadata = None, dedupe: Dedupe = None
    ) -> Receipt:
        """Accept what is known of a user: properties that changed, ``None`` for those to remove.

        ``user_id`` says who it is; ``metadata`` is a flat mapping of properties, as for `track`. ``company`` needs its
        ``id`` (or ``company_id``), may have the company's own properties beside it, and moves the user to that company.
        ``dedupe`` is as for `track`. Pending identifies of one user merge. Raises as `track` does.
        """
        if get_ident() != self._thread:
            raise self._refusal()
        if dedupe is not None:
            return await self._hand_in(dedupe, self._identified, user_id, metadata, company)
        checked = self._identified(user_id, metadata, company)
        if isinstance(checked, Receipt):
            return checked
        return self._accept(*checked) or await self._take(*checked)

    def identify_nowait(
        self, user_id: str, metadata: Metadata = None, *, company: Metadata = None, dedupe: Dedupe = None
    ) -> Receipt:
        """As `identify`, for code that cannot await, in any thread; a full queue never makes it wait."""
        return self._hand_in_nowait(dedupe, self._identified, user_id, metadata, company)

    async def identify_company(self, company_id: str, metadata: Metadata = None, *, dedupe: Dedupe = None) -> Receipt:
        """Accept what is known of a company: ``company_id``, and ``metadata`` as a flat mapping; else as `identify`."""
        return await self._hand_in(dedupe, self._company_identified, company_id, metadata)

    def identify_company_nowait(self, company_id: str, metadata: Metadata = None, *, dedupe: Dedupe = None) -> Receipt:
        """As `identify_company`, for code that cannot await, in any thread; a full queue never makes it wait."""
        return self._hand_in_nowait(dedupe, self._company_identified, company_id, metadata)

    async def delete_users(self, user_ids: Iterable[str]) -> list[Receipt]:
        """Delete users, and what is known of them, events among it: the right to be forgotten. A receipt for each id.

        ``user_ids`` are the users' ids, as for `track`. What waits of them is dropped, reason ``deleted``, also in a
        durable outbox; what is on its way is waited for. Calls of theirs that come later wait until the server's job
        has ended, which may take a day (it works at 2:00 UTC), and make new users then. A receipt is ``submitted``
        when the server has it, ``delivered`` when the job has ended; one that comes again before it was sent is
        ``merged``. Raises as `track` does; if an id is invalid, before any of them is accepted. Source: "Delete Users
        and Companies", read 2026-11.
        """
        return await hand_in_all(self, self._user_deleted, list(each_id(user_ids, "user_ids")))

    def delete_users_nowait(self, user_ids: Iterable[str]) -> list[Receipt]:
        """As `delete_users`, for code that cannot await, in any thread; a full queue never makes it wait."""
        checked = [self._user_deleted(user_id) for user_id in each_id(user_ids, "user_ids")]
        return [self._hand_in_nowait(None, as_checked, one) for one in checked]

    async def delete_companies(self, company_ids: Iterable[str]) -> list[Receipt]:
        """Delete companies; else as `delete_users`.

        What waits of users stays; it names a company no more that was deleted after it. Their calls do not wait for
        the job: those that name the company before its end may lose it again.
        """
        return await hand_in_all(self, self._company_deleted, list(each_id(company_ids, "company_ids")))

    def delete_companies_nowait(self, company_ids: Iterable[str]) -> list[Receipt]:
        """As `delete_companies`, for code that cannot await, in any thread; a full queue never makes it wait."""
        checked = [self._company_deleted(company_id) for company_id in each_id(company_ids, "company_ids")]
        return [self._hand_in_nowait(None, as_checked, one) for one in checked]

    async def enqueue(self, call: Call) -> Receipt:
        """Accept a ``call`` that exists as a value: from a file, or from `on_dead`. Raises as `track` does."""
        if is_a(call, Track):
            given = call.user_id, call.event_name, call.metadata
            return await self.track(*given, occurred_at=call.occurred_at, dedupe=call.dedupe)
        if is_a(call, Identify):
            return await self.identify(call.user_id, call.metadata, company=call.company, dedupe=call.dedupe)
        if is_a(call, IdentifyCompany):
            return await self.identify_company(call.company_id, call.metadata, dedupe=call.dedupe)
        if is_a(call, DeleteUser):
            return await self._hand_in(None, self._user_deleted, call.user_id)
        if is_a(call, DeleteCompany):
            return await self._hand_in(None, self._company_deleted, call.company_id)
        raise InvalidCall("call", must_be("a call (Track, Identify, …)", call))

    def within(self, connection: object) -> Within:
        """The calls that commit with the transaction on this ``connection``: see `Within`.

        ``connection`` is psycopg 3's, asyncpg's, SQLAlchemy's (or a session) or Django's, to the PostgreSQL in which
        the client's outbox is. Raises `ConfigurationError` for any other, or for any other outbox, `ClientNotOpen` and
        `ClientClosed`. Of a client that is switched off the connection is not used.
        """
        return Within(self, connection, self._tracked, self._identified, self._company_identified)

    # ── history ──

    async def import_rows(
        self, rows: Iterable[Row | Mapping[str, Any]] | AsyncIterable[Row | Mapping[str, Any]], *,
        strict: bool = False, journal: str | os.PathLike[str] | None = None, rebind: bool = False,
        on_progress: OnProgress | None = None, max_rows: int = 100_000,
    ) -> ImportReport:  # fmt: skip
        """Import rows with the time at which they happened, past the queue: `userpilot_async.imports.import_rows`."""
        report: ImportReport = await _imports().import_rows(
            self.api, rows, strict=strict, journal=journal, rebind=rebind, on_progress=on_progress, max_rows=max_rows
        )
        return report

    async def import_file(
        self, path: str | os.PathLike[str] | Sequence[str | os.PathLike[str]], *,
        converted_from: str | Conversion | None = None, strict: bool = False,
        journal: str | os.PathLike[str] | None = None, rejected: str | os.PathLike[str] | None = None,
        force: bool = False, rebind: bool = False, on_progress: OnProgress | None = None, max_rows: int = 100_000,
        series: Series | None = None,
    ) -> ImportReport:  # fmt: skip
        """Import a file of such rows, or a list; after a crash it goes on: `userpilot_async.imports.import_file`."""
        report: ImportReport = await _imports().import_file(
            self.api, path, converted_from=converted_from, strict=strict, journal=journal, rejected=rejected,
            force=force, rebind=rebind, on_progress=on_progress, max_rows=max_rows, series=series,
        )  # fmt: skip
        return report

    # ── checking ──

    def _tracked(
        self, user_id: str, event_name: str, metadata: Metadata = None, occurred_at: datetime | None = None,
        dedupe: Dedupe = None,
    ) -> Checked | Receipt:  # fmt: skip
        try:
            # A str that is an Enum has a hash of its own.
            key = user_id if type(user_id) is str else checked_user_id(user_id)
            name = event_name if type(event_name) is str else checked_event_name(event_name)
            body = track_body(key, name, metadata)
            payload = body if occurred_at is None else (body, checked_moment(occurred_at))
            if dedupe is not None:
                checked_dedupe(dedupe)
        except InvalidCall as error:
            given = {"user_id": user_id, "event_name": event_name, "metadata": metadata, "occurred_at": occurred_at}
            return self._invalid(error, {**given, "dedupe": dedupe})
        if name not in self._event_names.known:
            self._new_event_name(name)
        return "track", key, payload, len(body)

    def _new_event_name(self, event_name: str) -> None:
        with self._naming:
            fits = self._event_names.fits(event_name)
        if not fits:
            message = "event names take more than 512 KB together, the vendor's limit; put what varies into metadata"
            self._log.warn("event_names", message)

    def _identified(
        self, user_id: str, metadata: Metadata = None, company: Metadata = None, dedupe: Dedupe = None
    ) -> Checked | Receipt:
        try:
            if dedupe is not None:
                checked_dedupe(dedupe)
            key, (properties, size) = checked_user_id(user_id), measured(metadata)
            self._reserved.check(properties)
            if company is None:
                return "user", key, (properties, None, size, None), size
            facts = facts_of(properties, checked_company(company), size)
            return "user", key, facts, size_of_identify(facts)
        except InvalidCall as error:
            given = {"user_id": user_id, "metadata": metadata, "company": company, "dedupe": dedupe}
            return self._invalid(error, given)

    def _company_identified(
        self, company_id: str, metadata: Metadata = None, dedupe: Dedupe = None
    ) -> Checked | Receipt:
        try:
            if dedupe is not None:
                checked_dedupe(dedupe)
            key, (properties, size) = checked_company_id(company_id), measured(metadata)
            return "company", key, (properties, None, size, None), size
        except InvalidCall as error:
            return self._invalid(error, {"company_id": company_id, "metadata": metadata, "dedupe": dedupe})

    def _user_deleted(self, user_id: str) -> Checked | Receipt:
        try:
            call = DeleteUser(user_id)
            body = deletion_body(call)
            return "delete_user", call.user_id, body, len(body)
        except InvalidCall as error:
            return self._invalid(error, {"user_id": user_id})

    def _company_deleted(self, company_id: str) -> Checked | Receipt:
        try:
            call = DeleteCompany(company_id)
            body = deletion_body(call)
            return "delete_company", call.company_id, body, len(body)
        except InvalidCall as error:
            return self._invalid(error, {"company_id": company_id})

    def _warn_of_waiting(self, kind: Literal["user", "company"], ids: Collection[str]) -> None:
        """Warn if calls wait of what is about to be deleted past the queue."""
        waiting = self._sender.schedule.waiting(kind, ids) if self._opened else 0
        if waiting:
            method = "delete_users" if kind == "user" else "delete_companies"
            of = counted(waiting, kind) if kind == "user" or waiting == 1 else f"{waiting} companies"
            message = f"api.{method}: calls of {of} wait in the queue, and make them anew; use the client's {method}"
            self._log.warn(method, message)

    def _blocking(self, backend: Backend) -> BlockingClient:
        return BlockingClient(self, backend)


class BlockingClient(Blocking[UserpilotClient]):
    """The calls of `UserpilotClient` without ``await``, in any thread: ``with blocking(UserpilotClient()) as u:``."""

    def __init__(self, client: UserpilotClient, backend: Backend) -> None:
        super().__init__(client, backend)
        self.api = BlockingAPI(self)
        """Every endpoint as one method, without the queue."""

    track = handed_in(UserpilotClient.track, UserpilotClient._tracked)
    identify = handed_in(UserpilotClient.identify, UserpilotClient._identified)
    identify_company = handed_in(UserpilotClient.identify_company, UserpilotClient._company_identified)
    delete_users = without_await(UserpilotClient.delete_users)
    delete_companies = without_await(UserpilotClient.delete_companies)
    enqueue = without_await(UserpilotClient.enqueue)
    import_rows = without_await(UserpilotClient.import_rows)
    import_file = without_await(UserpilotClient.import_file)

    def within(self, connection: object) -> Within:
        """As `UserpilotClient.within`, in any thread: connections that are not awaited need its ``_nowait`` calls."""
        return self._subject.within(connection)


def _imports() -> Any:
    """Give the package `imports`, loaded by the first import: by name, so that nothing else loads it, and so `Any`."""
    return import_module(".imports", __package__)
