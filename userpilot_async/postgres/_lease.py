"""The lease in PostgreSQL, in the state's row, and what a sender finds there of the one before it."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from typing import LiteralString

from psycopg import sql

from .._outbox.lease import Lease
from .._outbox.remote_listener import RemoteListener
from .._outbox.store import Lead, Notify
from .._runtime.clocks import steady
from ._access import ClientState
from ._connection import Rows


class PostgresLease(Lease):
    """A token in the state's row, which ends by the server's clock. Raises what `Connection.run` raises.

    Tokens are numbered: whatever a deposed holder still writes says which one it means.
    """

    def __init__(
        self, access: ClientState, outbox: RemoteListener, notify: Notify, warn: Callable[[str], None], *,
        may_send: bool, ttl: float,
    ) -> None:  # fmt: skip
        super().__init__(outbox, notify, warn, may_send=may_send, ttl=ttl)
        self._access = access

    def _ask(self, *, wants: bool) -> str:
        if self.token and self._access.connection.run_alone(self.renewal()):
            return self.token
        if not wants or steady() < self._access.lease_free_at:
            return ""
        about = {"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}
        taken = self._at_once(
            "UPDATE {state} SET fence = fence + 1, lease = {client} || ':' || (fence + 1), holder = {holder}, "
            "lease_until = clock_timestamp() + {ttl} * interval '1 second' "
            "WHERE lease = '' OR lease_until <= clock_timestamp() RETURNING lease",
            ttl=sql.Literal(self._ttl),
            client=sql.Literal(self._access.client),
            holder=sql.Literal(json.dumps(about)),
        )
        return str(taken[0][0]) if taken else ""

    def renewal(self) -> sql.Composed:
        """The statement that renews the lease, if it is ours."""
        return self._access.names.sql(
            "UPDATE {state} SET lease_until = clock_timestamp() + {ttl} * interval '1 second' "
            "WHERE lease = {token} RETURNING lease",
            ttl=sql.Literal(self._ttl),
            token=sql.Literal(self.token),
        )

    def _give_back(self) -> None:
        self._at_once(
            "UPDATE {state} SET lease = '', lease_until = 'epoch', holder = '' WHERE lease = {token}",
            token=sql.Literal(self.token),
        )

    def _at_once(self, statement: LiteralString, **values: sql.Composable) -> Rows:
        """Run one statement, in a transaction of its own, and in one round trip."""
        return self._access.connection.run_alone(self._access.names.sql(statement, **values))

    def _take_over(self, token: str, now: float) -> Lead | None:
        access = self._access
        with access.row.locked() as state:
            access.check(state)
            if state.lease != token:
                return None
            heard = access.news(state)
            takeover = access.send_log.inherit(state)
            access.admit(state)  # or who sends what there is, and ends, would end without it
            access.hear_pairs(state, self._outbox.learn_pairs)  # those of calls that the one before has settled
            access.row.write(state)
        self.token = self.last_token = token
        self.renewed(now)
        self.leading = True
        return Lead(takeover, access.learned(state, heard=heard))
