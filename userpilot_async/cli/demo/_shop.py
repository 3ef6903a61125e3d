"""The processes of `demo --transactions`: a shop that writes orders into PostgreSQL, and an event in each transaction.

Each process sells at three tills, and may send. Every third payment is refused, and its transaction rolled back. It
prints which transactions begin and end, and the client's counts; on SIGTERM it sells no more, and goes on sending.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator
from itertools import count

import anyio
import psycopg

from ..._client import UserpilotClient
from . import _app, _pod

EVENT = "order_paid"
TILLS = 3
CUSTOMERS = 20
REFUSED_EVERY = 3  # orders
NUMBERS = 10_000  # orders of one process at most: the next one's begin there
ORDERS = "CREATE TABLE orders (id integer PRIMARY KEY, customer text NOT NULL, amount integer NOT NULL)"
INSERT = "INSERT INTO orders (id, customer, amount) VALUES (%s, %s, %s)"


class PaymentRefused(Exception):
    """The bank refuses a payment; the order, and the event about it, are not to be."""


async def sell(url: str, database: str, outbox: str, number: int) -> None:
    """Sell, as process number ``number`` of the shop, until it gets SIGTERM; send until it is killed."""
    async with _pod.client_of(url, outbox) as client:
        closing = anyio.Event()
        orders = count(NUMBERS * number)

        async with anyio.create_task_group() as beside:
            beside.start_soon(_app.keep_printing, lambda: _app.print_state(client))
            beside.start_soon(_close_on_sigterm, closing)
            async with anyio.create_task_group() as tills:
                for _ in range(TILLS):
                    tills.start_soon(_till, client, database, orders, closing.is_set)
            _app.print_state(client, closed=True)


async def _close_on_sigterm(closing: anyio.Event) -> None:
    with anyio.open_signal_receiver(signal.SIGTERM) as signals:
        async for _ in signals:
            closing.set()


async def _till(client: UserpilotClient, database: str, orders: Iterator[int], is_closing: Callable[[], bool]) -> None:
    async with await psycopg.AsyncConnection.connect(database, autocommit=True) as connection:
        while not is_closing():
            order = next(orders)
            _app.print_state(client, began=order)
            try:
                await _take(client, connection, order)
            except PaymentRefused:
                _app.print_state(client, rolled_back=order)
            else:
                _app.print_state(client, committed=order)


async def _take(client: UserpilotClient, connection: psycopg.AsyncConnection, order: int) -> None:
    """Take an order: a row, and the event about it, in one transaction. Raises `PaymentRefused`."""
    customer, amount = f"customer-{order % CUSTOMERS}", 5 + order % 90
    async with connection.transaction():
        await connection.execute(INSERT, (order, customer, amount))
        await client.within(connection).track(customer, EVENT, {"order": order, "amount": amount})
        await anyio.sleep(0.1 + order % 5 * 0.05)  # the bank thinks
        if order % REFUSED_EVERY == 0:
            raise PaymentRefused


def main() -> None:
    """Run one process; its arguments are three URLs and a number."""
    url, database, outbox, number = sys.argv[1:]
    anyio.run(sell, url, database, outbox, int(number))
