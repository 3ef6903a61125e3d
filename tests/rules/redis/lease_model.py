"""Lease, fence and step numbers of the outbox in Redis as a small model, and a checker that visits all of its states.

It shares no code with the package. A command that is carried out and answered at once is one step of the model: that a
client is stopped before or after it comes from all the others being able to act in between. A connection that breaks
leaves its commands on the way, where they may still arrive, late, or never.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Hashable, Iterable, Iterator
from typing import Any, NamedTuple, TypeVar

S = TypeVar("S", bound=Hashable)
Token = tuple[int, int]
"""A fence, and a client."""

# ── the checker ──


class Wrong(AssertionError):
    """A state that must not be, and the shortest way to it."""


class Explored(NamedTuple):
    """How many states and steps were visited."""

    states: int
    steps: int


def explore(
    initial: S,
    actions: Callable[[S], Iterator[tuple[str, S, bool]]],
    invariant: Callable[[S], str | None],
    at_the_end: Callable[[S], str | None],
) -> Explored:
    """Visit all states, the nearest first. Raises `Wrong` with a story.

    ``actions`` gives what may happen, the state after it, and whether it is trouble. Where nothing but trouble can
    happen any more is an end; each state must have one within reach even if there is no more trouble.
    """
    came_from: dict[S, tuple[S, str] | None] = {initial: None}
    before: dict[S, list[S]] = {}
    ends: list[S] = []
    steps = 0
    waiting = deque([initial])
    while waiting:
        state = waiting.popleft()
        complaint = invariant(state)
        if complaint:
            raise Wrong(_story(came_from, state, complaint))
        is_end = True
        for label, after, trouble in actions(state):
            steps += 1
            if not trouble and after != state:
                is_end = False
                before.setdefault(after, []).append(state)
            if after not in came_from:
                came_from[after] = state, label
                waiting.append(after)
        if is_end:
            complaint = at_the_end(state)
            if complaint:
                raise Wrong(_story(came_from, state, f"at the end, {complaint}"))
            ends.append(state)
    reached, waiting = set(ends), deque(ends)
    while waiting:
        for state in before.get(waiting.popleft(), ()):
            if state not in reached:
                reached.add(state)
                waiting.append(state)
    for state in came_from:  # in the order of their distance
        if state not in reached:
            raise Wrong(_story(came_from, state, "from here there is no way to an end"))
    return Explored(len(came_from), steps)


def _story(came_from: dict[S, tuple[S, str] | None], state: S, complaint: str) -> str:
    lines: list[str] = []
    at: S | None = state
    while at is not None:
        step = came_from[at]
        if step is not None:
            lines.append(step[1])
        at = step[0] if step is not None else None
    told = [f"{number:3}. {line}" for number, line in enumerate(reversed(lines), 1)]
    return "\n".join([complaint, *told, f"     {state}"])


# ── what there is ──


class Steps(NamedTuple):
    """What the server knows of a client's last step, and what it has answered."""

    seq: int = 0
    burnt: int = 0
    put: int = -1
    fenced: bool = False


class Server(NamedTuple):
    """All that Redis holds of the outbox."""

    generation: int = 0
    run: int = 0
    """Of the process that began this generation."""
    revision: int = 0
    fence: int = 0
    lease: Token | None = None
    next_id: int = 0
    accepted: int = 0
    log: tuple[tuple[int, str], ...] = ()
    settled: tuple[str, ...] = ()
    sent: frozenset[int] = frozenset()
    requests: frozenset[tuple[str, int]] = frozenset()
    spent: frozenset[str] = frozenset()
    clients: tuple[Steps, ...] = ()
    ended: tuple[tuple[int, int, int], ...] = ()
    """Generations that are over, and the last revision of each, and how many calls were ambiguous then."""
    unknown: bool = False
    """Requests may have been made of which nothing is noted."""
    unknown_before: bool = False
    sender: Token | None = None
    """The last sender, by its token."""
    sender_then: Token | None = None
    """The same, when this generation began."""
    begun_at: int = 0
    doubt: int = 0
    """Calls with lower ids may have been in requests of which nothing is noted."""
    doubt_before: int = 0
    again: frozenset[tuple[int, int]] = frozenset()
    """Calls that were counted because they were in doubt, with the id below which all were."""
    ambiguous: int = 0
    is_lost: bool = False
    """Somebody knows of more than was there when this generation began."""
    resent: int = 0
    """Calls from before this generation that were sent in it, and were not in doubt."""
    restored: tuple[tuple[int, int], ...] = ()
    """Generations that were set back, and how many calls were known to be ambiguous in them."""


class Hand(NamedTuple):
    """The call that a sender is busy with."""

    phase: str  # read, noted, made
    call_id: int
    call: str
    number: str = ""


class Client(NamedTuple):
    """A process with the outbox open."""

    generation: int = 0
    revision: int = 0
    token: Token | None = None
    last: Token | None = None
    """The last lease it had, unless it knows that somebody else has had it since."""
    since: int = 0
    """From this step on it remembers its requests,"""
    sent: tuple[tuple[int, int], ...] = ()
    """by the step in which each was noted, and the id of the call."""
    known: int = 0
    """How many calls are ambiguous, as it has heard."""
    before: tuple[int, ...] = ()
    """The generations it knew before this one."""
    explains: tuple[int, ...] | None = None
    """What it has to say of the requests that it made after those that the data knows."""
    leading: bool = False
    to_put: tuple[str, ...] = ()
    held: tuple[str, ...] = ()
    """The client's calls that Redis has, as it answered."""
    hand: Hand | None = None
    doubt: tuple[int, bool, str] | None = None
    """A step whose answer got lost: its number, whether its next call was in it, and what was noted."""
    doubt_in: int = 0
    """The generation of that step."""
    again: bool = False
    """The next call may have been put before, in what is not there any more."""
    seq: int = 0
    numbers: int = 0
    away: bool = False
    renew: bool = False
    """Redis was away: the lease comes before anything else."""
    alive: bool = True


Command = tuple[Any, ...]  # name, client, generation, and what it says


class State(NamedTuple):
    """Everything, with what happened outside (`made`) and what only the checker remembers (`settlers`, `wrong`)."""

    server: Server
    clients: tuple[Client, ...]
    process: int = 0
    """How often the server was started again."""
    saved: Server | None = None
    astray: tuple[Command, ...] = ()
    """Commands of connections that broke: they may still arrive."""
    made: frozenset[tuple[str, str]] = frozenset()
    """Requests that were made: number, and the call in it."""
    settlers: frozenset[tuple[int, int, int]] = frozenset()
    """Generation, fence, and client, of all settles that were accepted."""
    set_back: bool = False
    wrong: str = ""
    breaks: int = 0
    expiries: int = 0
    restarts: int = 0
    saves: int = 0
    deaths: int = 0
    """How much trouble may still come."""


NAMES = "ABC"


# ── what the server does ──


class World:
    """The rules; ``without`` names one that is left out."""

    def __init__(self, without: str = "") -> None:
        self.without = without

    def _has(self, rule: str) -> bool:
        return rule != self.without

    def carry_out(self, state: State, command: Command) -> tuple[State, Any]:
        """Run one script. The answer is `OTHER` if the data is of another generation than the caller knows, and `LATE`
        if the step was done, or burnt, before."""
        name, number, generation, *said = command
        server = state.server
        if name == "open":
            return self._open(state, number, generation, *said)
        is_other = server.run != state.process or generation != server.generation
        if self._has("generation") and is_other:
            return state, OTHER
        if state.restarts:  # or nobody will ask for it
            server = server._replace(revision=server.revision + 1)
        own: Steps = server.clients[number]
        script: Callable[..., tuple[State, Any]] = getattr(self, f"_{name}")
        return script(state, server, own, number, *said)

    def _open(
        self, state: State, number: int, known: int, revision: int, token: Token | None, ambiguous: int, since: int,
        before: tuple[int, ...],
    ) -> tuple[State, Any]:  # fmt: skip
        server = state.server
        if server.run != state.process:
            server = self._begun(state)
        fate, reached, explains = "same", 0, False
        if known != server.generation:
            ended = {one: (reached, counted) for one, reached, counted in server.ended}
            fate = "kept" if revision <= ended.get(known, (-1, 0))[0] else "lost"
            _, counted = next((ended[one] for one in (known, *before) if one in ended), (0, 0))
            reached = server.clients[number].seq
            is_last = token is not None and token == server.sender_then
            if fate == "kept" and is_last:
                server = server._replace(
                    unknown=server.unknown_before and self._has("earlier loss"),
                    doubt=server.doubt_before if self._has("earlier doubt") else 0,
                )
            elif fate == "lost":
                server = self._set_back(server, known, counted, ambiguous)
                explains = is_last and since <= reached
                sent_later = token is not None and token > (server.sender_then or (0, -1)) and not explains
                if sent_later and self._has("later sender"):
                    counted = server.ambiguous + server.resent
                    server = server._replace(doubt=server.begun_at, sender_then=token, ambiguous=counted, resent=0)
        if not self._has("lost"):
            fate = "kept" if fate == "lost" else fate
        return state._replace(server=server), (server.generation, fate, server.revision, explains, reached)

    def _begun(self, state: State) -> Server:
        """Another process has the data: a generation begins, and all that waits is in doubt."""
        server = state.server
        fresh = server.generation < 0  # nothing is there
        ended = (server.generation, server.revision, server.ambiguous)
        return server._replace(
            generation=state.process, run=state.process, ended=server.ended if fresh else (*server.ended, ended),
            unknown=not fresh, unknown_before=server.unknown, begun_at=server.next_id, sender_then=server.sender,
            doubt=server.next_id if self._has("in doubt") else 0, doubt_before=server.doubt, resent=0,
            again=frozenset(), is_lost=False,
        )  # fmt: skip

    def _set_back(self, server: Server, known: int, counted: int, ambiguous: int) -> Server:
        restored = dict(server.restored)
        more = ambiguous - restored.get(known, counted)
        restored[known] = max(ambiguous, restored.get(known, counted))
        return server._replace(
            unknown=True, is_lost=True, restored=tuple(sorted(restored.items())),
            ambiguous=server.ambiguous + (max(0, more) if self._has("count restored") else 0),
        )  # fmt: skip

    def _explain(
        self, state: State, server: Server, own: Steps, number: int, token: Token, sent: tuple[int, ...]
    ) -> tuple[State, Any]:
        there = frozenset(call_id for call_id, _ in server.log if call_id in sent and call_id < server.begun_at)
        server = self._count_again(server._replace(sent=server.sent | there), there, server.begun_at)
        if server.sender_then == token:
            server = server._replace(doubt=server.doubt_before)
        return state._replace(server=server), server.revision

    def _count_again(self, server: Server, ids: Iterable[int], below: int, as_resent: bool = False) -> Server:
        new = {(below, call_id) for call_id in ids if call_id < below} - server.again
        if as_resent:
            return server._replace(again=server.again | new, resent=server.resent + len(new))
        return server._replace(again=server.again | new, ambiguous=server.ambiguous + len(new))

    def _leads(self, server: Server, token: Token | None) -> bool:
        return token is not None and server.lease == token

    def _write(
        self, state: State, server: Server, own: Steps, number: int, seq: int, token: Token | None, call: str,
        kind: str, hand: Hand, again: bool,
    ) -> tuple[State, Any]:  # fmt: skip
        """Calls come in, and the sender notes something: both, or nothing."""
        if self._has("step number") and own.seq >= seq:
            return state, LATE
        leads = self._leads(server, token)
        own = Steps(max(seq, own.seq), own.burnt, server.next_id, not leads)
        server = server._replace(clients=_with(server.clients, number, own))
        if call:
            server = server._replace(
                log=(*server.log, (server.next_id, call)), next_id=server.next_id + 1, accepted=server.accepted + 1,
                ambiguous=server.ambiguous + (again and (server.is_lost or server.doubt >= server.begun_at)),
            )  # fmt: skip
        if kind and (leads or not self._has("fence")):
            assert token is not None
            wrong = "" if leads else f"what {NAMES[number]} noted with an old token has changed something"
            server, state = (self._begin if kind == "begin" else self._settle)(server, state, token, hand, wrong)
        return state._replace(server=server), (own.put, not leads and self._has("fence"), server.revision)

    def _resolve(self, state: State, server: Server, own: Steps, number: int, seq: int) -> tuple[State, Any]:
        server = state.server
        if own.seq < seq:
            if self._has("burn"):
                server = server._replace(clients=_with(server.clients, number, own._replace(seq=seq, burnt=seq)))
            return state._replace(server=server), (None, False, server.revision)
        first = None if own.burnt == seq else own.put
        return state, (first, own.fenced and self._has("fence remembered"), server.revision)

    def _begin(self, server: Server, state: State, token: Token, hand: Hand, wrong: str) -> tuple[Server, State]:
        again = any(call == hand.call for _, call in state.made)
        if again and hand.call_id not in server.sent and not state.set_back:
            wrong = wrong or f"{hand.call} is sent again, and nobody knows that it was before"
        server = server._replace(requests=server.requests | {(hand.number, hand.call_id)})
        server = self._count_again(server, [hand.call_id], server.doubt)
        if server.begun_at > server.doubt:
            server = self._count_again(server, [hand.call_id], server.begun_at, as_resent=True)
        return server, state._replace(wrong=wrong)

    def _settle(self, server: Server, state: State, token: Token, hand: Hand, wrong: str) -> tuple[Server, State]:
        gone = [call for call_id, call in server.log if call_id == hand.call_id]
        noted = (hand.number, hand.call_id)
        server = server._replace(
            log=tuple(one for one in server.log if one[0] != hand.call_id),
            settled=tuple(sorted((*server.settled, *gone))),
            sent=server.sent - {hand.call_id},
            again=frozenset(one for one in server.again if one[1] != hand.call_id),
            requests=server.requests - {noted},
            spent=server.spent | {hand.number} if noted in server.requests else server.spent,
        )
        settlers = state.settlers | {(server.generation, *token)}
        return server, state._replace(settlers=settlers, wrong=wrong if gone else "")

    def _lease(
        self, state: State, server: Server, own: Steps, number: int, token: Token | None
    ) -> tuple[State, Token | None]:
        server = state.server  # it is no change of the calls
        if self._leads(server, token):
            return state, token
        if server.lease is not None:
            return state, None
        fence = server.fence + 1 if self._has("new fence") or not server.fence else server.fence
        server = server._replace(fence=fence, lease=(fence, number), sender=(fence, number))
        return state._replace(server=server), server.lease

    def _inherit(self, state: State, server: Server, own: Steps, number: int, token: Token) -> tuple[State, Any]:
        if not self._leads(server, token):
            return state, None
        held = server.requests if self._has("requests under way") else frozenset()
        there = {call_id for call_id, _ in server.log}
        marked = [call_id for _, call_id in held if call_id in there]
        server = server._replace(
            sent=server.sent | set(marked),
            ambiguous=server.ambiguous + len(marked),
            spent=server.spent | {name for name, _ in held},
            requests=frozenset(),
        )
        return state._replace(server=server), server.revision

    # ── what clients do ──

    def actions(self, state: State) -> Iterator[tuple[str, State, bool]]:
        """All that may happen next."""
        for number, client in enumerate(state.clients):
            if client.alive:
                yield from self._client(state, number, client)
        yield from self._trouble(state)

    def _client(self, state: State, number: int, client: Client) -> Iterator[tuple[str, State, bool]]:
        name = NAMES[number]
        hand = client.hand
        if hand is not None and hand.phase == "noted":  # whatever its connection does
            after = client._replace(hand=hand._replace(phase="made"))
            made = state.made | {(hand.number, hand.call)}
            yield f"{name} makes request {hand.number} with {hand.call}", _put(state, number, after, made=made), False
        if client.away:
            told = (client.last, client.known, client.since, client.before)
            command: Command = ("open", number, client.generation, client.revision, *told)
            yield from self._exchange(state, number, f"{name} connects again", command)
        elif client.explains is not None:
            command = ("explain", number, client.generation, client.last, client.explains)
            yield from self._exchange(state, number, f"{name} says what it has sent since", command)
        elif client.leading and client.renew:
            command = ("lease", number, client.generation, client.token)
            yield from self._exchange(state, number, f"{name} renews the lease", command)
        elif client.token is not None and not client.leading:
            command = ("inherit", number, client.generation, client.token)
            yield from self._exchange(state, number, f"{name} takes over what was left", command)
        elif client.doubt is not None and self._has("doubt"):
            seq = client.doubt[0]
            command = ("resolve", number, client.generation, seq)
            yield from self._exchange(state, number, f"{name} asks whether its step {seq} was done", command)
        else:
            if not client.leading and client.token is None and state.server.lease is None and self._is_wanted(state):
                command = ("lease", number, client.generation, None)
                yield from self._exchange(state, number, f"{name} takes the lease", command)
            if client.leading and hand is None and state.server.log:
                if state.server.generation == client.generation and state.server.run == state.process:
                    # Calls that it has heard of, and no others: or it would take one for another after a restart.
                    found = Hand("read", *state.server.log[0])
                    after = client._replace(hand=found, revision=state.server.revision)
                    yield f"{name} looks, and reads {found.call}", _put(state, number, after), False
                else:
                    yield f"{name} is not answered", _put(state, number, client._replace(away=True)), False
            yield from self._writing(state, number, client)

    def _is_wanted(self, state: State) -> bool:
        return bool(state.server.log or state.server.requests) or any(
            one.to_put or one.hand for one in state.clients if one.alive
        )

    def _writing(self, state: State, number: int, client: Client) -> Iterator[tuple[str, State, bool]]:
        """A step: a call and a note, whatever there is of them."""
        hand, call, kind = client.hand, client.to_put[0] if client.to_put else "", ""
        if client.leading and hand is not None and hand.phase != "noted":
            kind = "begin" if hand.phase == "read" else "settle"
            if not hand.number:
                hand = hand._replace(number=f"{NAMES[number]}{client.numbers + 1}")
                client = client._replace(numbers=client.numbers + 1, hand=hand)
        if not call and not kind:
            return
        client = client._replace(seq=client.seq + 1)
        client = client._replace(doubt=(client.seq, bool(call), kind), doubt_in=client.generation)
        told = [f"puts {call}"] * bool(call)
        if kind and hand is not None:
            told.append(f"notes that it {'makes' if kind == 'begin' else 'made'} request {hand.number}")
        label = f"{NAMES[number]} {' and '.join(told)} (step {client.seq})"
        token = client.token if client.leading else None
        command = ("write", number, client.generation, client.seq, token, call, kind, hand, client.again)
        yield from self._exchange(_put(state, number, client), number, label, command)

    def _exchange(self, state: State, number: int, label: str, command: Command) -> Iterator[tuple[str, State, bool]]:
        """The command is carried out and answered; or the connection breaks."""
        after, answer = self.carry_out(state, command)
        is_away = answer is OTHER or answer is LATE
        if is_away:
            after = _put(after, number, after.clients[number]._replace(away=True))
            label += ": it came late" if answer is LATE else ": the server has another generation"
        else:
            after = self._answered(after, number, command, answer)
        yield label, after, False
        if state.breaks and not is_away:
            broken = _put(
                state, number, state.clients[number]._replace(away=True), breaks=state.breaks - 1,
                astray=tuple(sorted((*state.astray, command), key=repr)),
            )  # fmt: skip
            yield f"{label}: the connection breaks, nobody knows whether it arrives", broken, True

    def _answered(self, state: State, number: int, command: Command, answer: Any) -> State:
        name, client, hand = command[0], state.clients[number], state.clients[number].hand
        if name == "open":
            generation, fate, revision, explains, reached = answer
            before = (client.generation, *client.before) if generation != client.generation else client.before
            client = client._replace(
                generation=generation, revision=revision, away=False, renew=client.leading, before=before
            )
            if fate == "lost":
                after = tuple(call_id for step, call_id in client.sent if step > reached)
                said = after if explains and self._has("explain") else () if explains else None
                client = _deposed(client)._replace(held=(), explains=said, last=client.last if explains else None)
        elif name == "explain":
            client = client._replace(explains=None, last=None)
        elif name in ("write", "resolve"):
            first, fenced, revision = answer
            assert client.doubt is not None
            step, has_call, noted = client.doubt
            client = client._replace(doubt=None, revision=revision)
            if first is not None and has_call:
                client = client._replace(held=(*client.held, client.to_put[0]), to_put=client.to_put[1:], again=False)
            elif has_call:
                client = client._replace(again=client.again or self._is_put_again(client))
            if first is not None and noted and fenced:
                client = _deposed(client)._replace(last=None)
            elif first is not None and noted and hand is not None:
                client = client._replace(hand=hand._replace(phase="noted") if noted == "begin" else None)
                if noted == "begin":
                    client = client._replace(sent=(*client.sent, (step, hand.call_id)))
        elif name == "lease":
            if client.leading and answer != client.token:
                client = _deposed(client)
            client = client._replace(token=answer, renew=False, last=answer)
        elif name == "inherit":
            led = client._replace(leading=True, revision=answer, since=client.seq, sent=())
            client = client._replace(token=None) if answer is None else led
        return _put(state, number, client._replace(known=state.server.ambiguous))

    def _is_put_again(self, client: Client) -> bool:
        return client.doubt_in != client.generation and self._has("put again")

    # ── what goes wrong ──

    def _trouble(self, state: State) -> Iterator[tuple[str, State, bool]]:
        server = state.server
        for place, command in enumerate(state.astray):
            left = state.astray[:place] + state.astray[place + 1 :]
            after, _ = self.carry_out(state._replace(astray=left), command)
            which = f" (step {command[3]})" if command[0] in ("write", "resolve") else ""
            yield f"{NAMES[command[1]]}'s {command[0]}{which} arrives late", after, True
        if server.lease is not None and server.run == state.process:
            holder = state.clients[server.lease[1]]
            is_kept = holder.alive and holder.token == server.lease
            if not is_kept or state.expiries:
                left_over = state.expiries - 1 if is_kept else state.expiries
                after = state._replace(server=server._replace(lease=None), expiries=left_over)
                why = "is stopped for long, and its lease ends" if is_kept else "does not renew the lease: it ends"
                yield f"{NAMES[server.lease[1]]} {why}", after, is_kept
        if state.saves and state.restarts and server.run == state.process:
            yield "the server writes down what it has", state._replace(saved=server, saves=state.saves - 1), True
        if state.restarts:
            cut = tuple(client._replace(away=client.alive) for client in state.clients)
            fresh = Server(generation=-1, run=-1, clients=(Steps(),) * len(cut))
            for how, there in (("", server), (", with older data", state.saved), (", with nothing", fresh)):
                if there is not None:
                    lease = there.lease if there.lease == server.lease else None  # it has ended since: by the calendar
                    after = state._replace(
                        server=there._replace(lease=lease), clients=cut, process=state.process + 1,
                        restarts=state.restarts - 1, saved=state.saved if state.restarts > 1 else None,
                        set_back=state.set_back or bool(how),
                    )  # fmt: skip
                    yield f"the server starts again{how}", after, True
        if state.deaths:
            for number in range(len(state.clients)):
                after = _put(state, number, Client(alive=False), deaths=state.deaths - 1)
                yield f"{NAMES[number]} is killed", after, True


OTHER, LATE = "other generation", "late"


def _with(values: tuple[Any, ...], place: int, value: Any) -> tuple[Any, ...]:
    return (*values[:place], value, *values[place + 1 :])


def _put(state: State, number: int, client: Client, **more: Any) -> State:
    return state._replace(clients=_with(state.clients, number, client), **more)


def _deposed(client: Client) -> Client:
    doubt = None
    if client.doubt is not None and client.doubt[1]:  # its call matters, and nothing else in that step
        doubt = (client.doubt[0], True, "")
    return client._replace(leading=False, token=None, hand=None, doubt=doubt, renew=False)


# ── what must be true ──


def invariant(state: State) -> str | None:
    """Check a state after each step; what is wrong, if anything."""
    server = state.server
    there = [*server.settled, *(call for _, call in server.log)]
    if state.wrong:
        return state.wrong
    if server.accepted != len(there):
        return f"{server.accepted} calls are accepted, and {len(there)} accounted for"
    if len(set(there)) != len(there):
        return "a call is there twice"
    calls_made = {call for _, call in state.made}
    if not set(server.settled) <= calls_made:
        return "a call is settled that was never sent"
    if len({term[:2] for term in state.settlers}) != len(state.settlers):
        return "two clients have settled under the same term"
    if server.run == state.process and not server.unknown and not any(client.away for client in state.clients):
        noted = {number for number, _ in server.requests} | server.spent
        if not {number for number, _ in state.made} <= noted:
            return "a request was made of which nothing is noted"
    for number, client in enumerate(state.clients):
        knows = not client.away and client.generation == server.generation
        if knows and not set(client.held) <= set(there):
            return f"{NAMES[number]} believes that its calls are held, and they are not"
    return None


def at_the_end(state: State) -> str | None:
    """When nothing more fails, and nobody has anything to do."""
    if not any(client.alive for client in state.clients):
        return None
    if state.server.log:
        return "a call was never settled"
    if any(client.alive and client.to_put for client in state.clients):
        return "a call was never put"
    twice = len(state.made) - len({call for _, call in state.made})
    if twice > state.server.ambiguous and all(client.alive for client in state.clients):
        return f"{twice} calls were sent once too often, and {state.server.ambiguous} counted"
    return None
