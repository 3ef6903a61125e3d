"""What the writer's thread does, and tells the loop of."""

from __future__ import annotations

import json
import os
import socket
import time
from typing import TYPE_CHECKING

from .._errors.tree import OutboxError
from .._outbox.batch import Batch, Lead
from .._outbox.protocol import Opening
from .._outbox.window import Reading
from .._runtime.log import RateLimitedLog
from ._store import PATIENCE, File, Interrupted

if TYPE_CHECKING:
    from ._outbox import SQLiteOutbox


class Errands:
    """Between a file, which blocks, and an outbox, which must not be touched from here but by `tell`."""

    file: File

    def __init__(self, outbox: SQLiteOutbox, opening: Opening, *, may_send: bool, rebind: bool) -> None:
        self._outbox = outbox
        self._opening = opening
        self._may_send = may_send
        self._rebind = rebind
        self._leading = False
        self._notices = RateLimitedLog(time.monotonic)
        self._last_read: Reading | None = None

    def warn(self, message: str, lost: int = 0) -> None:
        """Into the log, once in a while; of calls that are ``lost``, ``message`` says why, and they are counted."""
        if lost:
            self._notices.lost("damaged", lost, why=lambda: message)
        else:
            self._notices.warn(message, message)

    def begin(self) -> bool:
        """Open the file, and take the lease if nobody has it."""
        try:
            opening = self._opening
            now = self.file.open(opening.destination, opening.fingerprint, opening.old_fingerprint, rebind=self._rebind)
            lead = self._lead()
        except (OutboxError, OSError, Interrupted) as error:
            refusal = error if isinstance(error, OutboxError) else OutboxError(f"{self.file.path}: {_in_words(error)}")
            self._outbox.tell(self, self._outbox.refused, refusal)
            return False
        self._outbox.tell(self, self._outbox.began, now, lead)
        return True

    def look(self) -> None:
        """See what others have done, and whether the lease is free."""
        self._notices.flush_due()
        try:
            if self._leading and not self.file.lease.still_held():
                self._leading = self._may_send = False
                self.warn(f"{self.file.lease.path} was deleted: this process sends no more; start it anew")
                self._outbox.tell(self, self._outbox.lost_lease)
            lead = self._lead()
            if lead is not None:
                self._outbox.tell(self, self._outbox.leads, lead)
            now = self.file.look()
            if now is not None:
                self._outbox.tell(self, self._outbox.heard, now)
            elif self._leading:
                self._outbox.tell(self, self._outbox.looked)
                read_to = self._outbox.misses_calls
                overlooked = self.file.reconcile(read_to) if read_to is not None else None
                if overlooked is not None:
                    self._outbox.tell(self, self._outbox.overlooked, read_to, overlooked)
        except (OSError, OutboxError) as error:
            self.warn(str(error))
        except Interrupted:  # the end is near, and `work` sees to it
            return

    def _lead(self) -> Lead | None:
        """Take the lease, and over from whoever had it."""
        if self._leading or not self._may_send or not self.file.lease.try_take():
            return None
        self.file.lease.note(json.dumps({"pid": os.getpid(), "host": socket.gethostname(), "since": time.time()}))
        try:
            lead = Lead(*self.file.inherit())
        except (OutboxError, Interrupted):
            self.file.lease.release()
            raise
        self._leading = True
        return lead

    def work(self) -> bool:
        """Write a batch, read a window; true if there is more."""
        more = self._outbox.has_batch() and self._write() and self._outbox.has_batch()
        self._read()
        return more

    def _write(self) -> bool:
        """Write a batch; false if that failed. It is taken as late as can be: until then callers may withdraw."""
        taken: list[Batch] = []

        def take() -> Batch:
            taken.append(self._outbox.next_batch())
            return taken[0]

        try:
            now = self.file.commit(take)
        except OutboxError as error:
            self.warn(str(error))
            if not taken:
                taken.append(self._outbox.next_batch())
            self._outbox.again(taken[0])
            self._outbox.tell(self, self._outbox.failed, taken[0], error)
            return False
        except Interrupted:
            return False
        self._outbox.tell(self, self._outbox.written, taken[0], now)
        return True

    def _read(self) -> None:
        reading = self._outbox.reading
        if reading is None or reading is self._last_read:
            return
        try:
            read = self.file.read(reading)
        except OutboxError as error:
            self.warn(str(error))
        except Interrupted:
            return
        else:
            self._last_read = reading
            self._outbox.tell(self, self._outbox.arrived, read)

    def end(self) -> None:
        """Close the file."""
        self.file.close()

    def ended(self) -> None:
        """Whoever still waits is told."""
        self._notices.close()
        self._outbox.tell(self, self._outbox.closed)


def _in_words(error: Exception) -> str:
    if isinstance(error, Interrupted):
        return f"another process has kept it locked for {PATIENCE:.0f} s"
    return f"{getattr(error, 'strerror', None) or type(error).__name__}"
