"""Short names that stand for ids where these are hidden: the same for an id while the console runs, and no longer."""

from __future__ import annotations

import base64
import hashlib
import hmac
from collections import OrderedDict

MOST = 20_000  # ids that are remembered by their aliases: more than anybody has on the screen
LENGTH = 8  # characters of 5 bits each


class Aliases:
    """Names made with a ``secret`` of this run: whoever sees one cannot find its id by trying."""

    def __init__(self, secret: bytes) -> None:
        self._secret = secret
        self._ids: OrderedDict[str, tuple[str, ...]] = OrderedDict()

    def alias(self, ids: tuple[str, ...]) -> str:
        """The alias of a person or company, by all ids of the key; it can be looked up again for a while."""
        text = "\0".join(ids).encode("utf-8", "surrogatepass")
        digest = hmac.digest(self._secret, text, hashlib.sha256)
        name = base64.b32encode(digest)[:LENGTH].decode().lower()
        self._ids[name] = ids
        self._ids.move_to_end(name)
        if len(self._ids) > MOST:
            self._ids.popitem(last=False)
        return name

    def ids(self, alias: str) -> tuple[str, ...] | None:
        """The ids behind an alias; ``None`` if it was never given, or too long ago."""
        return self._ids.get(alias)
