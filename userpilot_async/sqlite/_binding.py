"""The owner of a file's calls: read, compared with who opens it, and written."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping
from typing import Any

from .._errors.tree import OutboxError
from .._outbox.owner import Claim, Owner, rebinding
from ._failures import is_full
from ._file import File

About = Mapping[str, Any]
"""The owner, and by which calendar calls were dated, as the file has them."""

REBIND = rebinding("SQLiteOutbox")


def bind(file: File, claim: Claim) -> About:
    """See that the file is the claimant's; one without an owner becomes it. The caller holds the turn.

    Raises `OutboxError` if it has another account's calls, and one of `FAILURES`.
    """
    tables = file.tables
    about = tables.about()
    if about is None and tables.account().waiting and not claim.rebind:
        raise OutboxError(f"does not say any more whose calls it has, for that is damaged; {REBIND}")
    if about is None or claim.rebind:
        before = about
        dates = tables.read_dates()
        if dates.offset is None:
            dates.opened(file.boot(), file.offset, 0)
        about = {**_fields_of(claim.owner()), "dates": dates.as_dict()}
        with file.transaction():
            if before is not None and before["destination"] != claim.destination:
                tables.pairs.forget()  # of another server's people
            tables.write_about(about)
        return about
    noted = Owner(about["destination"], bytes.fromhex(about["salt"]), about["fingerprint"])
    if claim.check(noted, str(file.path), REBIND):
        about = {**about, **_fields_of(claim.owner())}
        try:
            with file.transaction():
                tables.write_about(about)
        except sqlite3.OperationalError as error:
            if not is_full(error):
                raise  # else it is written when it is opened again, and calls can be delivered before
    return about


def _fields_of(owner: Owner) -> dict[str, str]:
    return {"destination": owner.destination, "salt": owner.salt.hex(), "fingerprint": owner.fingerprint}
