"""Values whose own code fails while they are checked: made by hand, and by the thousand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal
from enum import Enum
from random import Random
from typing import Any
from uuid import UUID

from userpilot_async import Track

CANARY = "canary"


class Misbehaves(Exception):
    """What a value raises; its text is somebody's data."""


class OverflowingStack(RecursionError):
    """As it ends where a method calls itself."""


ERRORS = [Misbehaves, ValueError, TypeError, KeyError, AttributeError, RuntimeError, OverflowError, OverflowingStack]


def fails(error: type[Exception]) -> Any:
    """A method that raises this."""

    def method(*arguments: object, **options: object) -> Any:
        raise error(CANARY)

    return method


def gives(result: object) -> Any:
    """A method that returns this."""

    def method(*arguments: object, **options: object) -> Any:
        return result

    return method


BASES: dict[type[Any], tuple[tuple[Any, ...], tuple[str, ...]]] = {
    str: (
        (CANARY,),
        ("__len__", "__str__", "__eq__", "__hash__", "__bool__", "__iter__", "isspace", "isascii", "encode", "strip"),
    ),
    int: ((7,), ("__int__", "__index__", "__lt__", "__le__", "__gt__", "__ge__", "__eq__", "__sub__", "__bool__")),
    float: ((7.5,), ("__float__", "__sub__", "__rsub__", "__ne__", "__eq__", "__lt__", "__abs__")),
    Decimal: (("7.5",), ("__str__", "is_finite", "__eq__", "__format__")),
    UUID: ((f"{7:032x}",), ("__str__", "__eq__", "__hash__")),
    datetime: (
        (2026, 1, 2, 3, 4, 5, 6, UTC),
        ("utcoffset", "astimezone", "isoformat", "__sub__", "__add__", "__eq__", "__ne__", "replace", "__str__"),
    ),
    date: ((2026, 1, 2), ("isoformat", "__str__", "__eq__")),
}
"""Types that are taken; how to make one; and the methods that a subclass may have of its own."""

ASKED = [
    (str, "__len__"),
    (int, "__int__"), (int, "__le__"),
    (float, "__float__"), (float, "__sub__"),
    (Decimal, "__str__"), (Decimal, "is_finite"),
    (UUID, "__str__"),
    (datetime, "utcoffset"), (datetime, "astimezone"), (datetime, "__ne__"),
    (date, "isoformat"),
]  # fmt: skip
"""The methods among them that a check calls: a value that fails in one is refused."""


def repr_is_never_asked(self: object) -> str:
    raise AssertionError("its repr was asked for")


def with_method(base: type[Any], name: str, method: Any) -> Any:
    """An instance of a subclass of ``base`` whose method of that name is this one."""
    arguments, _ = BASES[base]
    namespace: dict[str, Any] = {"__repr__": repr_is_never_asked, name: method}
    if name == "__eq__":
        namespace["__hash__"] = base.__hash__
    cls: Any = type(f"Awkward{base.__name__.capitalize()}", (base,), namespace)
    return cls(*arguments)


class NaTType(datetime):
    """As pandas' NaT, which is a datetime of the year 1 that has no time zone and equals nothing."""

    year = property(gives(float("nan")))  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return False

    def __ne__(self, other: object) -> bool:
        return True

    __hash__ = datetime.__hash__
    __repr__ = repr_is_never_asked
    utcoffset = fails(ValueError)

    def astimezone(self, tz: Any = None) -> Any:
        return self


class Nothing(datetime):
    """The same by another library: all that is known of it is that it equals nothing."""

    def __ne__(self, other: object) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return False

    __hash__ = datetime.__hash__


class Far(datetime):
    """As a `pandas.Timestamp` of the year 20000, which holds it beside a datetime of 1972."""

    year = property(gives(20_000))  # type: ignore[assignment]


class Zone(tzinfo):
    """A time zone whose offset is what one makes it."""

    def __init__(self, offset: Any) -> None:
        self._offset = offset

    def utcoffset(self, moment: datetime | None) -> Any:
        return self._offset()

    def dst(self, moment: datetime | None) -> timedelta | None:
        return None

    def tzname(self, moment: datetime | None) -> str | None:
        return None


class Lazy(Mapping[str, Any]):
    """A mapping that fetches what it has, and fails at it."""

    def __init__(self, method: str, error: type[Exception], items: dict[str, Any] | None = None) -> None:
        self._items = items or {"plan": CANARY}
        self._method, self._error = method, error

    def _meet(self, method: str) -> None:
        if method == self._method:
            raise self._error(CANARY)

    def __len__(self) -> int:
        self._meet("__len__")
        return len(self._items)

    def __iter__(self) -> Iterator[str]:
        self._meet("__iter__")
        return iter(self._items)

    def __getitem__(self, name: str) -> Any:
        self._meet("__getitem__")
        return self._items[name]

    def items(self) -> Any:
        self._meet("items")
        return super().items()

    __repr__ = repr_is_never_asked


class Pairless(Lazy):
    """A mapping whose items are no pairs."""

    def items(self) -> Any:
        return [1, 2, 3]


class Endless(Lazy):
    """A mapping that says that it has one property, and never stops giving them."""

    def items(self) -> Any:
        while True:
            yield "plan", 1


class Late(Enum):
    """An enum whose value is fetched when it is asked for."""

    PRO = "pro"

    @property
    def value(self) -> Any:
        raise Misbehaves(CANARY)


class Liar:
    """Says that it is of another class, as mocks and lazy proxies do."""

    def __init__(self, cls: Any) -> None:
        self._cls = cls

    @property
    def __class__(self) -> Any:
        if issubclass(self._cls, Exception):
            raise self._cls(CANARY)
        return self._cls

    @__class__.setter
    def __class__(self, cls: Any) -> None: ...

    __repr__ = repr_is_never_asked


class _Nameless(type):
    @property
    def __name__(cls) -> Any:
        raise Misbehaves(CANARY)


class Nameless(metaclass=_Nameless):
    """A value whose class has a name that cannot be read."""

    __repr__ = repr_is_never_asked


# ── by the thousand: of a `Random`, because Hypothesis would ask what it draws for its repr ──

RESULTS = [None, 5, -1, 2**70, 0.5, float("nan"), "text", b"bytes", [], {}, object(), True, CANARY * 20_000]
KINDS = [(base, name) for base, (_, names) in BASES.items() for name in names]
MASKS = [str, int, float, bool, datetime, date, Decimal, UUID, dict, list, Enum, Track, Misbehaves]
ASKED_OF_MAPPINGS = ["__len__", "__iter__", "__getitem__", "items"]
ASKED_OF_NAMES = ["__len__", "__str__", "isascii", "strip"]


def method(chance: Random) -> Any:
    """A method that raises, or returns anything."""
    return fails(chance.choice(ERRORS)) if chance.random() < 0.5 else gives(chance.choice(RESULTS))


def value(chance: Random) -> Any:
    """A value that misbehaves, nearly always."""
    makes: list[Callable[[], Any]] = [
        lambda: with_method(*chance.choice(KINDS), method(chance)),
        lambda: with_method(*chance.choice(KINDS), method(chance)),
        lambda: datetime(2026, 1, 2, tzinfo=Zone(method(chance))),
        lambda: chance.choice(
            [Late.PRO, NaTType(1, 1, 1), Nothing(2026, 1, 2, tzinfo=UTC), Far(2026, 1, 2, tzinfo=UTC), Nameless()]
        ),
        lambda: Liar(chance.choice(MASKS)),
        lambda: mapping(chance),
        lambda: chance.choice(["plain", 1, None]),
    ]
    return chance.choice(makes)()


def mapping(chance: Random) -> Any:
    """A mapping that misbehaves when it is read."""
    makes: list[Callable[[], Any]] = [
        lambda: Lazy(chance.choice(ASKED_OF_MAPPINGS), chance.choice(ERRORS), {"plan": value(chance)}),
        lambda: Pairless("", ValueError),
        lambda: Endless("", ValueError),
        lambda: Liar(dict),
    ]
    return chance.choice(makes)()


def properties(chance: Random) -> Any:
    """In the place of all properties: a dict of values and names that misbehave, or worse."""
    if chance.random() < 0.3:
        return value(chance)
    name = chance.choice(["plan", with_method(str, chance.choice(ASKED_OF_NAMES), method(chance))])
    return {"at": value(chance), name: value(chance)}
