"""Whether files of the Import API may be waited for: the account may lack them, and they may come to nothing."""

from __future__ import annotations

import math

REOPEN = 3_600.0  # seconds until an account that had no imports is asked again
FORGIVEN = 300.0  # seconds after the last failure until one more file is waited for


class ImportBreaker:
    """Gets what became of files, and of other requests; ``wanted`` is what the settings say."""

    def __init__(self, wanted: bool) -> None:
        self.wanted = wanted
        self.closed: str | None = None
        """Why no files go, as the server has said."""
        self._closed_at = self._failed_at = -math.inf
        self._failing_since = math.inf
        self._confirmed = True

    def close(self, why: str, now: float) -> None:
        """The server refuses files: everything goes through the realtime endpoint; after a while one file is tried."""
        self.closed, self._closed_at, self._confirmed = why, now, False

    def heard(self, *, denied: bool, begun_at: float) -> None:
        """An answer of any endpoint: if that refuses the key, too, nothing is known of imports."""
        if self.closed is not None and not self._confirmed and begun_at > self._closed_at:
            self._confirmed = True
            if denied:
                self.closed = None

    def went(self) -> None:
        """The server has taken a file."""
        self.closed, self._failing_since = None, math.inf

    def failed(self, now: float) -> None:
        """A file has not come to the server, or to nothing there."""
        self._failing_since, self._failed_at = min(self._failing_since, now), now

    def forgive(self) -> None:
        """An outage is over: files were not to blame for its failures."""
        self._failing_since = math.inf

    def is_open(self, now: float) -> bool:
        """A file may be tried."""
        return self.wanted and (self.closed is None or now - self._closed_at >= REOPEN)

    def holds(self, now: float, patience: float) -> bool:
        """A file may be waited for: none has failed, or for no longer than this, or that is long ago."""
        failing = now - self._failing_since > patience and now - self._failed_at < FORGIVEN
        return self.is_open(now) and not failing
