"""Answers of Redis to each command and script, checked and typed: the border at which answers become ours.

Whatever has another shape raises `OddAnswer`. What is stored may be damaged all the same, by other programs that write
into the database: that is no odd answer, which a new connection would mend, and is passed over or set aside.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import count

import attrs

from .._calls.outcome import Outcome
from .._calls.stored import UNREADABLE, Concluded
from .._outbox.owner import Owner
from ._codec import Entry, State, entry_of
from ._failures import OddAnswer
from ._shapes import entry_name, listed, measured, number, pairs, raw, text, texts, whole


@attrs.frozen
class Server:
    """A server, as ``INFO`` shows it."""

    version: tuple[int, ...]
    run_id: str
    """New each time it starts."""


def info_of(answer: object) -> Mapping[str, str]:
    """Of ``INFO``: lines of names and values."""
    lines = [line.partition(":") for line in text(answer).splitlines()]
    return {name: value for name, colon, value in lines if colon}


def server_of(about: object) -> Server:
    """The server, of the section ``server``. Raises `OddAnswer`."""
    info = about if isinstance(about, dict) else {}
    version = str(info.get("redis_version", "")).split(".")[:2]
    run_id = str(info.get("run_id", ""))
    if not run_id or not all(part.isdecimal() and len(part) < 10 for part in version):
        raise OddAnswer("its version and its run id were expected, and something else came")
    return Server(tuple(int(part) for part in version), run_id)


def evicts(about: object) -> bool:
    """Redis may throw keys away when its memory is full; of the section ``memory``."""
    info = about if isinstance(about, dict) else {}
    return bool(info.get("maxmemory_policy", "noeviction") != "noeviction")


@attrs.frozen
class Opened:
    """The answer of the script ``open``."""

    generation: str
    outcome: str
    """Of the calls that were known before: ``same``, ``kept`` or ``lost``."""
    lost_from: int
    """The first id that was not there when the data of now was written."""
    explains_since: int | None
    """The caller is to say what it has sent since this step of its own, of which the data knows nothing."""
    owner: Owner | None
    """The owner of the calls; ``None`` if that was deleted, or is damaged."""
    state: State


def opened_of(answer: object) -> Opened:
    """Read the answer of the script ``open``."""
    generation, outcome, lost_from, explains, since, owner, _, state = listed(answer, 8)
    if text(outcome) not in ("same", "kept", "lost"):
        raise OddAnswer("what became of the calls was expected, and another text came")
    explains_since = number(since) if number(explains) else None
    found = _owner_of(listed(owner, 3))
    return Opened(text(generation), text(outcome), number(lost_from), explains_since, found, State(state))


def _owner_of(fields: Sequence[object]) -> Owner | None:
    if None in fields:
        return None
    destination, salt, fingerprint = (raw(one) for one in fields)
    try:
        return Owner(destination.decode(), bytes.fromhex(salt.decode()), fingerprint.decode())
    except ValueError:
        return None


@attrs.frozen
class Made:
    """A step that was made, and its ids."""

    first_put: int
    first_refused: int
    fenced: bool
    """But for the sender's notes: another process has the lease."""
    repeated: Mapping[int, tuple[int, Outcome | None]]
    """Calls, by their places in the step, with the key of an earlier one: its id, and its outcome if it is settled."""

    def ids(self, puts: int) -> list[int]:
        """The ids of so many calls that were in the step."""
        fresh = count(self.first_put)
        return [self.repeated[place][0] if place in self.repeated else next(fresh) for place in range(puts)]


def written_of(answer: object) -> tuple[Made, bool, State] | None:
    """Of ``write`` and ``note``: with whether lost calls were forgotten; ``None`` if the step came late."""
    if answer is None:
        return None
    *numbers, forgotten, state, repeated = listed(answer, 6)
    return _made_of([*numbers, repeated]), bool(number(forgotten)), State(state)


def resolved_of(answer: object) -> Made | None:
    """Of ``resolve``: ``None`` if the step was not made, and never will be."""
    return None if answer is None else _made_of(listed(answer, 4))


def _made_of(step: Sequence[object]) -> Made:
    *numbers, repeated = step
    first_put, first_refused, fenced = (number(one) for one in numbers)
    return Made(first_put, first_refused, bool(fenced), dict(_repeated_of(one) for one in listed(repeated)))


def _repeated_of(answer: object) -> tuple[int, tuple[int, Outcome | None]]:
    place, first_id, ending = listed(answer, 3)
    status, _, label = text(ending).partition(" ")
    with suppress(*UNREADABLE):  # "", of one that is held; or another program wrote the note
        return number(place), (number(first_id), Concluded.read((status, label or None, [], [])).outcome)
    return number(place), (number(first_id), None)


@attrs.frozen
class Left:
    """Tokens and files that the sender before has left: the answer of ``inherit``."""

    tokens: Sequence[tuple[str, float]]
    """Budgets, and when each token comes back."""
    files: Sequence[tuple[str, str, Sequence[int]]]
    """Names, kinds of rows, and the last calls in them."""
    unknown_until: float
    """Until then tokens may be spent of which nothing is known."""
    state: State


def left_of(answer: object) -> Left | None:
    """Of ``inherit``: ``None`` if the lease was lost meanwhile."""
    if answer is None:
        return None
    spent, files, unknown_until, state = listed(answer, 4)
    tokens = [(text(name).partition(" ")[2], measured(back)) for name, back in pairs(spent)]
    unknown = 0.0
    with suppress(OddAnswer):  # "" is written there where all is known, and what is damaged says nothing
        unknown = measured(unknown_until)
    return Left(tokens, _files_of(files), unknown, State(state))


def _files_of(answer: object) -> list[tuple[str, str, Sequence[int]]]:
    found = [_file_of(name, noted) for name, noted in pairs(answer)]
    return [one for one in found if one is not None]


def _file_of(name: bytes, noted: bytes) -> tuple[str, str, Sequence[int]] | None:
    try:
        kind, last_calls = json.loads(noted)
        if type(kind) is str:
            return name.decode(), kind, [int(one) for one in last_calls or ()]
    except (*UNREADABLE, OverflowError):
        pass
    return None  # no client of ours has noted that: there is no such file


def reconciled_of(answer: object) -> tuple[int, int | None]:
    """Of ``reconcile``: how many calls are missing, and the first that is to be read again."""
    missing, first = listed(answer, 2)
    return number(missing), None if first is None else int(entry_name(first).partition(b"-")[0])


def pairs_of(answer: object) -> Sequence[tuple[bytes, int]]:
    """Of ``pairs``: as they are kept, each with its number."""
    return [(text, int(measured(number))) for text, number in pairs(answer)]


def retried_of(answer: object) -> tuple[int, int]:
    """Of ``retry``: the first id, and how many calls wait again."""
    first, count = listed(answer, 2)
    return number(first), number(count)


def scanned_of(answer: object) -> tuple[str, bool, Sequence[Entry]]:
    """Of ``scan``: the last entry that was read, whether there may be more, and those that were found."""
    last, more, found = listed(answer, 3)
    return text(last), bool(number(more)), [entry_of(one) for one in listed(found)]


def sender_of(answer: object) -> bytes | None:
    """Of ``rebind``, and what is noted of a lease: the sender, if there is one."""
    return None if answer is None else raw(answer)


def replicas_of(answer: object) -> int:
    """Of ``WAIT``: how many have it."""
    return number(answer)


def found_of(call_id: int, answer: object) -> Entry | None:
    """Of ``XRANGE`` for one call: its entry, if it is there."""
    entries = listed(answer)
    if not entries:
        return None
    entry = entry_of(entries[0])
    if entry[0] != b"%d-1" % call_id:
        raise OddAnswer("one call was expected, and another one came")
    return entry


@attrs.frozen
class Snapshot:
    """The outbox at one moment: the answer of ``show``."""

    about: Mapping[str, str]
    counts: Mapping[str, int]
    first: Entry | None
    lease: bytes | None
    under_way: int
    lost: int
    memory: int | None
    now: float
    """By the clock of the server."""
    spent: Mapping[str, int]
    """Tokens that are not back yet, by their budget."""
    files: Sequence[tuple[str, str, Sequence[int]]]
    """Names, kinds of rows, and the last calls in them, as in `Left`."""

    @property
    def destination(self) -> str | None:
        """To which server its calls go; ``None`` if that is not known any more."""
        return self.about.get("destination")

    @property
    def version(self) -> int:
        """Of keys and scripts; 0 where nothing is. Raises `OddAnswer`."""
        return whole(self.about.get("version", "0").encode())


def snapshot_of(answer: object) -> Snapshot:
    """Read the answer of the script ``show``."""
    about, counts, first, lease, under_way, lost, memory, now, landed, requests, files = listed(answer, 11)
    entries = [entry_of(one) for one in listed(first)]
    return Snapshot(
        about={text(name): text(value) for name, value in pairs(about)},
        counts={text(name): whole(count) for name, count in pairs(counts)},
        first=entries[0] if entries else None,
        lease=sender_of(lease),
        under_way=number(under_way),
        lost=number(lost),
        memory=None if memory is None else number(memory),
        now=measured(now),
        spent=Counter([*map(_budget_of_token, texts(landed)), *map(_budget_of_request, texts(requests))]),
        files=_files_of(files),
    )


def _budget_of_token(name: bytes) -> str:
    """The budget in the name of a spent token, behind the number of its request."""
    return name.decode("utf-8", "replace").partition(" ")[2]


def _budget_of_request(noted: bytes) -> str:
    """The budget of a request under way; "" where its note is damaged."""
    try:
        budget = json.loads(noted)[0]
        return budget if isinstance(budget, str) else ""
    except UNREADABLE:
        return ""


def echoed(answer: object, asked: bytes) -> object:
    """The answer of a script, if that is its answer to ``asked``, and to no other command on this connection."""
    echo, own = listed(answer, 2)
    if raw(echo) != asked:
        raise OddAnswer("the answer to another command came")
    return own
