"""Accounts, each with its data: one account for all keys, or one for each key."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256

from userpilot_async.emulator._saved import Saved
from userpilot_async.emulator._store import Store


class Accounts:
    """Stores by the fingerprint of a key. Shared, there is one store, and every key finds it.

    With `per_key` the first key of each API finds the first store, since an application that sends to both has a key
    of each; every further key has a store of its own.
    """

    def __init__(self, make: Callable[[], Store], *, per_key: bool = False) -> None:
        """Begin with one empty store; `make` makes further ones."""
        self.first = make()
        self.per_key = per_key
        self._make = make
        self._stores: dict[str, Store] = {}
        self._all = [self.first]
        self._apis: set[str] = set()  # those of which a key was seen, by their scheme

    def __iter__(self) -> Iterator[tuple[str, Store]]:
        """Fingerprint and store of each key that was accepted, in the order of their first calls."""
        return iter(self._stores.items())

    def stores(self) -> list[Store]:
        """Every store once, the first one first."""
        return self._all

    def saved(self) -> Saved:
        """Every store as JSON, and which keys find it."""
        stores = self.stores()
        return {
            "per_key": self.per_key,
            "apis": sorted(self._apis),
            "keys": {account: stores.index(store) for account, store in self._stores.items()},
            "stores": [store.saved() for store in stores],
        }

    def restore(self, saved: Saved) -> None:
        """Fill empty accounts with what was saved; raises KeyError, TypeError or ValueError for what was not."""
        if saved["per_key"] != self.per_key:
            raise ValueError("saved with another choice of accounts")
        stores = [self.first, *(self._make() for _ in saved["stores"][1:])]
        for store, one in zip(stores, saved["stores"], strict=True):
            store.restore(one)
        self._all, self._apis = stores, set(saved["apis"])
        self._stores = {account: stores[place] for account, place in saved["keys"].items()}

    def open(self, account: str, api: str) -> Store:
        """The store of a key that is accepted; it gets one if it has none. `api`: the scheme of its API."""
        store = self._stores.get(account)
        if store is None:
            is_first = not self.per_key or api not in self._apis
            self._apis.add(api)
            if not is_first:
                self._all.append(self._make())
            store = self._stores[account] = self.first if is_first else self._all[-1]
        return store

    def find(self, account: str) -> Store:
        """The store of a key, or the first one for a key that was never accepted."""
        return self._stores.get(account, self.first)

    def get(self, account: str) -> Store | None:
        """The store of a key that was accepted, else None."""
        return self._stores.get(account)


def fingerprint(key: str) -> str:
    """Eight characters that tell keys apart in logs and job ids, and do not give them away."""
    return sha256(key.encode()).hexdigest()[:8] if key else "anonymous"
