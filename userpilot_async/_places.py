"""Where an outbox is, written as a URL."""

from __future__ import annotations

from importlib import import_module

from ._outbox import MemoryOutbox, Outbox

# By scheme: a module, and what in it makes an outbox of a URL. By name, so that nobody loads what is not asked for.
_SCHEMES = {"sqlite": ("sqlite", "SQLiteOutbox")}


def outbox_at(place: Outbox | str | None) -> Outbox:
    """The outbox itself, or the one at a URL: ``memory://``, ``sqlite:///events.db``. Raises `ValueError`."""
    if place is None or place == "memory://":
        return MemoryOutbox()
    if not isinstance(place, str):
        return place
    scheme = place.partition("://")[0]
    if "://" not in place:
        raise ValueError(f"outbox must be an Outbox or a URL; a file is sqlite:///{place}")
    if scheme not in _SCHEMES:
        known = ", ".join(f"{name}://…" for name in ("memory", *_SCHEMES))
        raise ValueError(f"outbox is {scheme}://…, and this version knows {known}")
    module, name = _SCHEMES[scheme]
    made: Outbox = getattr(import_module(f".{module}", __package__), name).from_url(place)
    return made
