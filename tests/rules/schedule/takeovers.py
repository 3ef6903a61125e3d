"""A simulation in which senders die, and others go on with the file that they leave."""

from __future__ import annotations

from pathlib import Path

from tests.contract.inline import Client, InlineOutbox, at_once, bury_the_dead, open_now
from tests.harness import judge
from tests.harness.model import same_events, same_state
from tests.rules.schedule.simulation import Simulation
from userpilot_async._delivery.exchange import note_of
from userpilot_async._outbox.protocol import Outbox
from userpilot_async._protocol.verdict import Meaning, Verdict
from userpilot_async._schedule.posts import Post
from userpilot_async._schedule.routes.route import Request
from userpilot_async._schedule.schedule import Schedule
from userpilot_async._schedule.takeover import RequestNote, Takeover
from userpilot_async._settings import Settings
from userpilot_async._userpilot.destination import userpilot


class Heirs(Simulation):
    """Userpilot's server, and one sender after the other with the same file.

    What a sender has sent when it dies reaches the server, or not, before the next one begins: that takes a second or
    two, and nothing on the wire can wait so long and still be believed in.
    """

    def __init__(
        self, folder: Path, seed: int, settings: Settings | None = None, trouble: float = 0.0, latency: float = 0.3
    ) -> None:
        self.settings = settings or Settings()
        super().__init__(seed, self.settings, trouble, latency)
        self.path = folder / "events.db"
        (folder / "events.db.ballast").touch()  # or each new one would cost four megabytes
        self.takeovers = 0
        self.left = Takeover()
        """What the last sender has left."""
        self._under_way: dict[Request, RequestNote] = {}
        self._duplicates_before = 0
        self._client = Client()
        self._start()

    def _start(self) -> None:
        self.file = InlineOutbox(self.path, durability="process")
        self.file.wall = self.file.steady = lambda: self.now  # the simulation's clock is the calendar, too
        self._client.time = self.now
        open_now(self.file, self._client.opening())
        bury_the_dead()
        self.outbox: Outbox = self.file  # type: ignore[assignment]  # a `World` has one in memory
        self.schedule = Schedule(
            self.settings,
            userpilot(self.settings),
            chance=self.chance.random,
            filename=lambda: f"file-{next(self._names)}",
            now=self.now,
        )

    def take_in(self) -> None:
        """Take in what came and what was left, as the sender does."""
        self._client.time = self.now
        left = self.outbox.send_log.inherited()
        if left is not None:
            self.left = left
            self.schedule.inherit(left, self.now)
        for ticket in self.outbox.take(10**9):
            self.schedule.add(ticket, self.outbox.send_log.was_sent(ticket[0]))
        self.carry_on()

    def sending(self, work: Request) -> None:
        self._under_way[work] = request = note_of(work)
        assert at_once(self.outbox.send_log.sending(request))

    def landed(self, work: Request, verdict: Verdict) -> None:
        self.outbox.send_log.landed(
            self._under_way.pop(work),
            answered=True if verdict.status is not None else False if verdict.meaning is Meaning.LOST else None,
            lost=verdict.meaning in (Meaning.LOST, Meaning.AGAIN) and isinstance(work.head, Post),
        )

    def take_over(self) -> None:
        """The sender is killed; a second or so later, the next one opens the file."""
        for at, _, work in sorted(self._arriving, key=lambda one: one[:2]):
            if self.chance.random() < 0.5:
                self._server.handle(work, at)
        self._arriving.clear()
        self._answering.clear()
        self._under_way.clear()
        self.file.die()
        self._duplicates_before += self.schedule.possible_duplicates
        self.takeovers += 1
        self.now += self._latency + self.chance.random()
        self._start()

    def end(self) -> None:
        """Close the outbox and its file."""
        at_once(self.outbox.aclose())

    @property
    def possible_duplicates(self) -> int:
        """As all senders have counted them."""
        return self._duplicates_before + self.schedule.possible_duplicates

    def check(self) -> None:
        """I1 to I5 and I10, after `drain`, whoever has sent what."""
        ledger = self.outbox.ledger
        assert (0, 0) == (ledger.pending, self.outbox.waiting_bytes)
        assert ledger.dropped.keys() <= {"deleted"}
        assert len(self.accepted) == ledger.accepted == ledger.delivered + ledger.merged + ledger.dropped["deleted"]
        same_events(self.model, self.server.events, self.possible_duplicates)
        same_state(self.model, {**{e.user_id: {} for e in self.model.events if e.user_id in self.model.users},
                                **self.server.users}, None, self.server.company_of)  # fmt: skip
        for company, properties in self.model.companies.items():
            assert properties == self.server.companies.get(company, {})
        judge.per_user_order(self.server.tracked)
        judge.conflicts(self.server.conflicts)
        limits = {"track": self.settings.track_per_minute, "identify": self.settings.identify_per_minute}
        for family, stamps in self.server.stamps.items():
            judge.requests_in_any_minute(sorted(stamps), limits[family])
