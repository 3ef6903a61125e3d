"""A process's knowledge of the outbox in Redis, and the way to run a script there."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from .._calls.pairs import Pair, unsealed_pair
from .._outbox.away import OtherGeneration
from .._outbox.store import Committed
from .._runtime.clocks import steady
from ._answers import pairs_of
from ._codec import State
from ._link import Answer, Connection, Step

REMEMBERED = 6 * 86_400.0  # seconds in which Redis has a client's last step for certain: the scripts say 7 days
PAIRS_AT_ONCE = 5_000  # in one answer: half a megabyte
MOST_GENERATIONS = 20  # remembered: as many starts of the server as a backup may reach back


class ClientState:
    """``client`` is the name of who uses it."""

    def __init__(self, link: Connection, client: str) -> None:
        self.link = link
        self.client = client
        self.generation = ""
        """The one that is known; "" before the first contact."""
        self.generations_before: list[str] = []
        """Those that were known before it, the newest first: data may be set back by more than one."""
        self.revision = 0
        """The last step of any client that is known."""
        self.sure = 0
        """The last step that replicas have, as many as are waited for; what comes later may be gone after a failover,
        and no caller knows that it was made."""
        self.heard = 0
        """And the last one whose news of calls is known."""
        self.resets = 0
        """How often calls were lost, as far as is known."""
        self.ambiguous = 0
        """How many calls may have arrived twice, as far as is known."""
        self.pairs = 0
        """The number of the last pair of keys that was kept, as far as is known."""
        self.pairs_heard = 0
        self.last_step = 0
        """The last one of this client that was made, or is known never to be."""
        self.last_step_at = -math.inf
        """When that was."""
        self.offset = 0.0
        """From the steady clock to the server's."""
        self._steps = 0

    def run(self, name: str, *arguments: str | bytes | float, wait: bool = False) -> Answer:
        """Run a script in this generation; raises as `Connection.run`."""
        return self.link.run(Step(name, self.generation, *arguments), wait=wait)

    def next_step(self) -> int:
        """The number of the next step of this client."""
        self._steps += 1
        return self._steps

    def step_ended(self, number: int) -> None:
        """Note that a step was made, or never will be."""
        self.last_step, self.last_step_at = number, steady()

    @property
    def made(self) -> int | str:
        """The last step, for the scripts: it is there, or data was set back. "" after so long that it is forgotten."""
        return self.last_step if steady() - self.last_step_at < REMEMBERED else ""

    def learned(self, state: State, *, replicated: bool = False) -> Committed:
        """Learn what a script says of the outbox, whose answer may have waited until that was ``replicated``.

        Raises `OtherGeneration` if it is older than what was known.
        """
        if state.revision < self.revision:  # before that was noticed
            self.sure = self.revision  # on the same server, replicas do not matter
            raise OtherGeneration
        self.revision, self.heard = state.revision, state.heard
        if replicated or not self.link.replicas:
            self.sure = state.revision
        self.offset = state.time - steady()
        self.pairs = state.pairs
        now = state.committed()
        self.resets = max(self.resets, now.account.resets)  # what is there may have forgotten some
        self.ambiguous = now.account.ambiguous
        return now

    def poll(self) -> Committed | None:
        """All that has been done since the last answer; ``None`` if nothing has."""
        known = self.revision if self.heard == self.revision else -1  # there is more to hear
        answer = self.run("poll", self.heard, known, self.made)
        return self.learned(State(answer)) if answer is not None else None

    def read_state(self, *, replicated: bool = False) -> Committed:
        """How it is, whether anything was done or not."""
        return self.learned(State(self.run("poll", self.heard, -1, self.made)), replicated=replicated)

    def hear_pairs(self, learn: Callable[[Sequence[Pair]], object]) -> None:
        """Have it learnt which keys calls have named together, but for what was heard before; raises as `run`."""
        while self.pairs_heard < self.pairs:
            found = pairs_of(self.run("pairs", self.pairs_heard, PAIRS_AT_ONCE))
            known = (unsealed_pair(text.decode("utf-8", "replace")) for text, _ in found)
            learn([pair for pair in known if pair is not None])
            self.pairs_heard = found[-1][1] if found else self.pairs  # those behind were erased

    def begins(self, generation: str) -> None:
        """Go on in this generation from now on."""
        if self.generation:
            self.generations_before = [self.generation, *self.generations_before][:MOST_GENERATIONS]
        self.generation, self.pairs_heard = generation, 0  # what is there may count them anew
        self.last_step_at = -math.inf  # of an earlier one, and perhaps not in this

    def forget(self) -> None:
        """Forget what was known, which is not there any more."""
        self.revision = self.heard = self.sure = 0

    def ago(self, seconds: float) -> int:
        """When that was, by the server's clock, in ms."""
        return max(0, round((steady() + self.offset - seconds) * 1_000))
