"""What both kinds of scene share: the calls that are made, what is logged meanwhile, and the account of it."""

from __future__ import annotations

import logging
import re
from collections import Counter
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from types import TracebackType
from typing import Any

import anyio
import attrs
import pytest

from tests.harness import Model, judge
from userpilot_async import Receipt, Report, Statistics

KEY = "canary-5b1f0c77-of-the-key"
PERSON = "anna.kowalska"  # marks what is personal: it is in every user's id and in every payload

Json = dict[str, Any]


def person(number: int) -> str:
    return f"{PERSON}+{number}@example.org"


@attrs.frozen(kw_only=True)
class Side:
    """A destination, for tests that are the same for each."""

    name: str
    client: Callable[..., Any]
    quick: Any
    """Settings for tests in real time."""
    events: str
    """The path of events; the next one is that of identifies."""
    identifies: str
    rejects: int
    """The status for what it will never take."""
    identify: Callable[..., Awaitable[Receipt]]
    """Make the call: of a client, a person, what is said of them, and their company."""
    track: Callable[..., Awaitable[Receipt]]
    """The same, of a client, a person, a name and data."""
    judge_store: Callable[[Any, int], None]
    """Of a rehearsal and the number of events that may be there twice: I3, I5, I10, by the server's own books."""


def marks_in(body: Any) -> Iterator[tuple[str, int]]:
    """The users whose calls are in this request, and which of theirs, by the ``n`` that `Calls` puts into each."""
    for call in body if isinstance(body, list) else [body]:
        said = call.get("metadata") or call.get("data") or {}
        if "n" in said:
            yield call.get("user_id") or call.get("external_id") or call["anonymous_id"], said["n"]


class Log(logging.Handler):
    """Every line that anybody logs inside the block, with the stamp of the test's clock; those at DEBUG apart."""

    _NAMES = ("userpilot_async", "httpx", "httpcore")

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.lines: list[tuple[float, str]] = []  # the library's own
        self.details: list[str] = []  # those of them at DEBUG
        self.others: list[str] = []
        self._now: Callable[[], float] = anyio.current_time

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.startswith("userpilot_async") and record.levelno <= logging.DEBUG:
            self.details.append(self.format(record))
        elif record.name.startswith("userpilot_async"):
            self.lines.append((self._now(), self.format(record)))
        else:
            self.others.append(self.format(record))

    def said(self, words: str) -> list[str]:
        return [line for _, line in self.lines if words in line]

    def __enter__(self) -> Log:
        self._before = {name: logging.getLogger(name).level for name in self._NAMES}
        for name in self._NAMES:
            logging.getLogger(name).setLevel(logging.DEBUG)
        logging.getLogger().addHandler(self)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        logging.getLogger().removeHandler(self)
        for name, level in self._before.items():
            logging.getLogger(name).setLevel(level)


@attrs.define(eq=False)
class Calls:
    """Makes calls, tells the model of them, and keeps the receipts.

    Every call carries ``n``, its place among its user's calls, so that the server's log shows order and repeats.
    """

    to: Side
    client: Any
    """The client of that side, open."""
    log: Log
    letters: list[Any]
    model: Model = attrs.field(factory=Model)
    receipts: dict[tuple[str, int], Receipt] = attrs.field(factory=dict)
    losses: dict[str, int] = attrs.field(factory=dict)
    """Losses that this test brings about, by reason; nothing else may be lost."""
    errors: list[BaseException] = attrs.field(factory=list)
    """What `client.api` raised: searched for secrets."""
    _count: Counter[str] = attrs.field(factory=Counter)
    _movable: set[tuple[str, int]] = attrs.field(factory=set)
    _identified_first: set[str] = attrs.field(factory=set)

    async def identify(
        self, user: str, metadata: Mapping[str, Any] | None = None, *, company: Json | None = None
    ) -> Receipt:
        n = self._next(user)
        if n == 1:
            self._identified_first.add(user)
        if company is None or company["id"] == self.model.company_of.get(user):
            self._movable.add((user, n))
        said = {"n": n, "mail": user, **(metadata or {})}
        self.model.identify(user, said, company=company)
        receipt = self.receipts[user, n] = await self.to.identify(self.client, user, said, company=company)
        return receipt

    async def track(self, user: str, event_name: str = "report opened") -> Receipt:
        n = self._next(user)
        said: Json = {"n": n, "mail": user}
        self.model.track(user, event_name, said)
        receipt = self.receipts[user, n] = await self.to.track(self.client, user, event_name, said)
        return receipt

    async def identify_all(self, users: Iterable[str]) -> list[Receipt]:
        return [await self.identify(user) for user in users]

    async def track_all(self, users: Iterable[str]) -> list[Receipt]:
        return [await self.track(user) for user in users]

    @property
    def statistics(self) -> Statistics:
        statistics: Statistics = self.client.statistics()
        return statistics

    def may_move_ahead(self, user: object, n: int) -> bool:
        return (user, n) in self._movable

    def statuses(self) -> Counter[str]:
        return Counter(receipt.status for receipt in self.receipts.values())

    async def refused(self, asking: Awaitable[object], kind: type[BaseException]) -> Any:
        """The exception of this kind that a method of `client.api` raises."""
        with pytest.raises(kind) as raised:
            await asking
        self.errors.append(raised.value)
        return raised.value

    def judge_account(self, report: Report) -> None:
        """I1, I9, I12: what can be asked without the server."""
        statistics = self.statistics
        judge.conservation(statistics)
        judge.losses_have_reasons(statistics.dead + statistics.dropped, statistics.lost_by_reason)
        assert self.losses == statistics.lost_by_reason
        told_of = sum(1 + letter.merged for letter in self.letters)
        assert sum(self.losses.values()) + statistics.merged_lost == told_of
        assert all(line.startswith("userpilot: ") for _, line in self.log.lines), self.log.lines
        assert all(line.startswith("userpilot: ") for line in self.log.details), self.log.details
        self.judge_log(statistics)
        # The end of an outage is no loss: a server that comes and goes has one each time.
        lines = [(stamp, line) for stamp, line in self.log.lines if not line.endswith("takes calls")]
        judge.one_line_per_reason((stamp, re.sub(r" \(\d+\)$", "", line)) for stamp, line in lines)
        api = getattr(self.client, "api", self.client)  # not every side has one
        texts = {
            "the log": "\n".join(line for _, line in self.log.lines),
            "the log at DEBUG": "\n".join(self.log.details),
            "other logs": "\n".join(self.log.others),
            "repr(client)": repr(self.client) + repr(api) + repr(vars(api)),
            "statistics": repr(statistics) + repr(report) + str(report),
            "receipts": repr(list(self.receipts.values())),
            "letters": repr(self.letters),
            "exceptions": "\n".join(f"{error!r} {error}" for error in self.errors),
        }
        judge.no_canary(texts, [KEY, PERSON])

    def judge_log(self, statistics: Statistics) -> None:
        """What the log says of losses adds up to them: by reason, and with what had been merged into them."""
        said: Counter[str] = Counter()
        for _, line in self.log.lines:
            found = re.match(r"userpilot: (\d+) (?:calls? lost, reason (\w+):|of \d+ calls? dropped on close:)", line)
            if found is not None:
                said[found[2] or "closed"] += int(found[1])
        merged = sum(
            int(more) for _, line in self.log.lines for more in re.findall(r"(\d+) more had been merged", line)
        )
        assert said == statistics.lost_by_reason, self.log.lines
        assert merged == statistics.merged_lost, self.log.lines

    def _next(self, user: str) -> int:
        self._count[user] += 1
        return self._count[user]
