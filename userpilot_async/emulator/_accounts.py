"""Accounts, each with its data: one account for each key, or one for all keys."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import sha256

from userpilot_async.emulator._saved import Saved
from userpilot_async.emulator._store import Store


class SeveralAccounts(ValueError):
    """A state with several accounts, where all keys are to share one."""


class Accounts:
    """Stores by the fingerprint of a key.

    With `per_key` the first key of each kind finds the first store, since an application that sends to both APIs has a
    key of each, and of Parcelvoy's a public and a secret one; every further key has a store of its own. Without it
    there is one store, and every key finds it.
    """

    def __init__(self, make: Callable[[], Store], *, per_key: bool) -> None:
        """Begin with one empty store; `make` makes further ones."""
        self.first: Store = make()
        self.per_key = per_key
        self._make = make
        self._stores: dict[str, Store] = {}
        self._all = [self.first]
        self._kinds: set[str] = set()  # those of which a key was seen

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
            "kinds": sorted(self._kinds),
            "keys": {account: stores.index(store) for account, store in self._stores.items()},
            "stores": [store.saved() for store in stores],
        }

    def restore(self, saved: Saved) -> None:
        """Fill empty accounts with what was saved; raises KeyError, TypeError or ValueError for what was not.

        Keys that shared an account go on sharing it. Accounts are not thrown together: `SeveralAccounts`.
        """
        if len(saved["stores"]) > 1 and not self.per_key:
            raise SeveralAccounts("the state has several accounts, and all keys are to share one")
        stores = [self.first, *(self._make() for _ in saved["stores"][1:])]
        for store, one in zip(stores, saved["stores"], strict=True):
            store.restore(one)
        self._all, self._kinds = stores, set(saved["kinds"])
        self._stores = {account: stores[place] for account, place in saved["keys"].items()}

    def open(self, account: str, kind: str) -> Store:
        """The store of a key of this kind, which is accepted; it gets one if it has none."""
        store = self._stores.get(account)
        if store is None:
            is_first = not self.per_key or kind not in self._kinds
            self._kinds.add(kind)
            if not is_first:
                self._all.append(self._make())
            store = self._stores[account] = self.first if is_first else self._all[-1]
        return store

    def find(self, account: str) -> Store:
        """The store of a key, or the first one for a key that was never accepted."""
        return self._stores.get(account, self.first)

    def only(self) -> Store:
        """The one store that there is; raises LookupError if there are several."""
        if len(self._all) > 1:
            raise LookupError(
                f"{len(self._stores)} keys have {len(self._all)} accounts: take `store_of(key)`, or"
                " `account_per_key=False` for one account of all keys"
            )
        return self.first

    def of_key(self, key: str) -> Store:
        """The store of a key; raises LookupError if no call with it was accepted."""
        store = self.get(fingerprint(key))
        if store is None:
            raise LookupError("no call with this key was accepted")
        return store

    def keys(self) -> list[list[str]]:
        """The fingerprints of the keys of each store that any key has found, in the order of the stores."""
        found = [[account for account, its in self._stores.items() if its is store] for store in self._all]
        return [accounts for accounts in found if accounts]

    def get(self, account: str) -> Store | None:
        """The store of a key that was accepted, else None."""
        return self._stores.get(account)


def fingerprint(key: str) -> str:
    """Eight characters that tell keys apart in logs and job ids, and do not give them away."""
    return sha256(key.encode()).hexdigest()[:8] if key else "anonymous"
