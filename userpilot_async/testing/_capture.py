"""`Capture`: the server of a test, the calls that the application made of it, and what is asserted of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

from .._account.losses import counted
from .._runtime import stand_in
from . import _text
from ._matching import Wanted
from ._text import Lost

if TYPE_CHECKING:
    from .._delivery.client import DeliveryClient
    from ..emulator import Company, Emulator, Event, Fault, Store, User
    from ._clients import WatchedClient

FAST = 1e9  # times as fast as the vendor's jobs: they are over with the next request
NO_LIMIT = 10**9  # requests a minute
ASKED_FOR = "deleted"  # the reason of what waited of a person whom the application has deleted
EFFECTS = ("status", "cut", "delay", "latency", "job", "headers", "body", "fail_if_row_contains")


@contextmanager
def capture() -> Iterator[Capture]:
    """Have every client that opens meanwhile, in any thread, talk to an emulator in this process, and give a `Capture`.

    Keys, URLs and transports that a client has are not used. At the end `Capture.check` fails the test if calls were
    lost. Within another capture it is one of its own. Needs ``userpilot-async[pytest]``, or ``[emulator]``.
    """
    __tracebackhide__ = True  # to pytest: the reason of a failure is not to be looked for here
    made = Capture()
    stand_in.place(made)
    try:
        yield made
    except BaseException as error:
        made._shown(error)
        if lost := made.lost():
            error.add_note(_text.losses(lost))
        raise
    else:
        made._flush_what_can_be()
    finally:
        stand_in.remove(made)
    made.check()


class Capture:
    """The server of a test, and the calls that reached a client; made by `capture`, and by the fixture `userpilot`.

    The emulator refuses what a Parcelvoy server would take and lose. Every thread may ask.
    """

    def __init__(self) -> None:
        from ..emulator import Emulator  # starlette and uvicorn, which plugins of pytest need not wait for

        self.emulator: Emulator = Emulator(speed=FAST, rate_limit=NO_LIMIT, strict=True, account_per_key=False)
        """The server in its entirety: `userpilot_async.emulator.Emulator`."""
        self._calls: list[Any] = []
        self._clients: list[WatchedClient] = []
        self._allowed: set[str] | None = set()
        self._opening = Lock()

    def __repr__(self) -> str:
        """Give the numbers of clients and calls."""
        clients, calls = counted(len(self._clients), "client"), counted(len(self._calls))
        return f"<Capture of {clients}, {calls}>"

    # ── what a client asks of a stand-in ──

    def transport(self, base_url: str) -> Any:
        """Give the transport of a client that believes its server to be at ``base_url``."""
        from ._transport import InProcess

        return InProcess(self.emulator, base_url)

    def watch(self, client: DeliveryClient) -> WatchedClient:
        """Take note of a ``client`` that is being opened."""
        from ._clients import WatchedClient

        watched = WatchedClient(client, self._calls.append)
        with self._opening:
            self._clients.append(watched)
        return watched

    def requested(self, call: Any) -> None:
        """Note a ``call`` that a `UserpilotAPI` has made."""
        self._calls.append(call)

    # ── what there is ──

    @property
    def calls(self) -> list[Any]:
        """The calls that clients have accepted, as values (`Track`, `Identify`, …): at once, in their order.

        Also those that are lost later; of `UserpilotAPI`, the single calls that the server has taken.
        """
        return list(self._calls)

    @property
    def store(self) -> Store:
        """All that the server has, jobs up to now, as `userpilot_async.emulator.Store`; ``.parcelvoy`` is Parcelvoy's.

        What waits in a client is not there yet: `flush`, or leave the client.
        """
        self.emulator.advance()
        return self.emulator.store

    @property
    def events(self) -> list[Event]:
        """The events that the server has, in the order of their arrival; Parcelvoy's are in `store`."""
        return list(self.store.events)

    @property
    def users(self) -> dict[str, User]:
        """The users that the server has, by id, each with its ``properties`` and ``company_id``."""
        return dict(self.store.users)

    @property
    def companies(self) -> dict[str, Company]:
        """The companies that the server has, by id, each with its ``properties``."""
        return dict(self.store.companies)

    async def flush(self, timeout: float = 30.0) -> None:
        """Have all open clients send what they have accepted, in whatever loop or thread they are.

        Raises `TimeoutError` if that takes longer than ``timeout`` seconds; in an outage without end calls expire.
        """
        done = [await client.flush(timeout) for client in self._open_clients()]
        if not all(done):
            raise TimeoutError(f"calls still wait after {timeout:g} s")

    def flush_blocking(self, timeout: float = 30.0) -> None:
        """As `flush`, for tests without ``await``: of clients in other threads, or in a loop that stands still.

        Raises `TimeoutError` likewise, and `RuntimeError` in the loop of a client.
        """
        done = [client.flush_blocking(timeout) for client in self._open_clients()]
        if not all(done):
            raise TimeoutError(f"calls still wait after {timeout:g} s, or their loop does not run")

    def _open_clients(self) -> list[WatchedClient]:
        with self._opening:
            return list(self._clients)

    # ── what is asserted ──

    def assert_tracked(
        self, user_id: str, event_name: str, metadata: Mapping[str, Any] | None = None, /, **properties: Any
    ) -> Any:
        """Give the first event of this user and name that has these properties, at least.

        ``metadata`` is for names that Python cannot write as an argument. A value may be one that a call converts (a
        date, a decimal), or `unittest.mock.ANY`. For Parcelvoy ``user_id`` is the external or the anonymous id.
        Raises `AssertionError` with what was tracked, the nearest first.
        """
        __tracebackhide__ = True
        return self._assert_called(Wanted("Track", user_id, event_name, {**(metadata or {}), **properties}))

    def assert_identified(
        self,
        user_id: str,
        metadata: Mapping[str, Any] | None = None,
        /,
        *,
        company: Mapping[str, Any] | str | None = None,
        **properties: Any,
    ) -> Any:
        """Give the first identify of this user with these properties, at least; ``company`` is its id, or has it.

        Merging is the client's matter: each identify counts as it was made. Raises as `assert_tracked` does.
        """
        __tracebackhide__ = True
        company = {"id": company} if isinstance(company, str) else company
        return self._assert_called(Wanted("Identify", user_id, None, {**(metadata or {}), **properties}, company))

    def assert_company_identified(
        self, company_id: str, metadata: Mapping[str, Any] | None = None, /, **properties: Any
    ) -> Any:
        """Give the first `IdentifyCompany` of this id with these properties, at least; raises as `assert_tracked`."""
        __tracebackhide__ = True
        return self._assert_called(Wanted("IdentifyCompany", company_id, None, {**(metadata or {}), **properties}))

    def assert_not_tracked(
        self,
        user_id: str | None = None,
        event_name: str | None = None,
        metadata: Mapping[str, Any] | None = None,
        /,
        **properties: Any,
    ) -> None:
        """Raise `AssertionError` if there is an event of this user, name and properties; ``None`` is any."""
        __tracebackhide__ = True
        wanted = Wanted("Track", user_id, event_name, {**(metadata or {}), **properties})
        if found := wanted.matching(self.calls):
            raise AssertionError(_text.unwanted(wanted, found))

    def _assert_called(self, wanted: Wanted) -> Any:
        __tracebackhide__ = True
        calls = self.calls
        found = wanted.matching(calls)
        if not found:
            raise AssertionError(_text.missing(wanted, calls, self.lost(), len(self._clients)))
        return found[0]

    # ── faults, and the end ──

    def fail(self, path: str = "*", **fault: Any) -> Fault:
        """Have the server fail: the next request to ``path`` (a glob over it) is answered with 503, if no more is said.

        ``fault`` are the fields of `userpilot_async.emulator.Fault`: ``status``, ``times`` (``None``: for ever),
        ``skip``, ``user_id``, ``headers``, ``cut="after"`` (done, and the answer is lost) or ``"before"``, ``delay``
        and ``latency`` in seconds of real time, ``job="failed"``, … Pauses between a client's tries take no time.
        Raises `ValueError` for what cannot be, and for a path that no request can have.
        """
        from ..emulator import Fault

        self.emulator.check_path(path)
        if not any(name in fault for name in EFFECTS):
            fault["status"] = 503
        return self.emulator.faults.add(Fault.from_json({"path": path, **fault}))

    def allow_lost(self, *reasons: str) -> None:
        """Have the test not fail for calls that are lost, for these ``reasons`` or, without any, for whatever reason.

        Reasons are those of `Statistics.lost_by_reason`, and ``invalid``, ``pending``, ``not_closed``.
        """
        if self._allowed is not None:
            self._allowed = {*self._allowed, *reasons} if reasons else None

    def lost(self) -> list[Lost]:
        """Give the calls that were lost or invalid so far, but for those that `allow_lost` allows."""
        return self._lost(at_end=False)

    def check(self) -> None:
        """Raise `AssertionError` if calls were lost, were invalid, or wait still, with each reason and call."""
        __tracebackhide__ = True
        if lost := self._lost(at_end=True):
            raise AssertionError(_text.losses(lost))

    def _lost(self, *, at_end: bool) -> list[Lost]:
        found = [one for client in self._open_clients() for one in client.lost(at_end=at_end)]
        allowed = self._allowed
        return [] if allowed is None else [one for one in found if one.reason not in {ASKED_FOR, *allowed}]

    def _shown(self, error: BaseException) -> None:
        """Count the invalid calls no more whose error the test has raised, by itself or with ``error``."""
        from ._clients import all_in

        errors = all_in(error)
        for client in self._open_clients():
            client.is_known(errors)

    def _flush_what_can_be(self, timeout: float = 10.0) -> None:
        """Flush the clients whose loop is not the one this is called in; `check` finds what waits still."""
        for client in self._open_clients():
            client.flush_if_elsewhere(timeout)

    def begin_anew(self) -> None:
        """Forget all calls, losses, faults and allowances, and empty the server; clients stay open."""
        self.emulator.reset()
        self._calls.clear()
        self._allowed = set()
        for client in self._open_clients():
            client.begin_anew()
