"""Many calls that are handed in at once: the loop goes on meanwhile, and a durable outbox commits many together."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from anyio import create_task_group
from anyio.lowlevel import checkpoint

from .._errors.tree import UserpilotError
from .._outbox.receipt import Receipt
from .client import Checked, DeliveryClient

TOGETHER = 200  # calls that are held at once: about a millisecond of the loop, and one commit of a durable outbox


def as_checked(checked: Checked | Receipt) -> Checked | Receipt:
    """Give what was checked before, where a check is asked for."""
    return checked


async def hand_in_all(
    client: DeliveryClient, check: Callable[[str], Checked | Receipt], ids: Sequence[str]
) -> list[Receipt]:
    """Check a call for each of these ``ids``, and hand them in; a receipt for each.

    Raises what ``check`` raises, before any of them is accepted, or else the first error of the client's.
    """
    checked: list[Checked | Receipt] = []
    for start in range(0, len(ids), TOGETHER):
        checked += map(check, ids[start : start + TOGETHER])
        await checkpoint()
    receipts: dict[int, Receipt] = {}
    failed: list[UserpilotError] = []

    async def hand_in(at: int) -> None:
        try:
            receipts[at] = await client._hand_in(None, as_checked, checked[at])
        except UserpilotError as error:  # as itself, not in a group
            failed.append(error)

    for start in range(0, len(ids), TOGETHER):
        async with create_task_group() as tasks:
            for at in range(start, min(start + TOGETHER, len(ids))):
                if client._outbox.durable:
                    tasks.start_soon(hand_in, at)
                else:
                    await hand_in(at)
        if failed:
            raise failed[0]
    return [receipts[at] for at in range(len(ids))]
