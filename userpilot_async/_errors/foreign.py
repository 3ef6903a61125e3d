"""Values are the application's: their classes may lie, and their methods may raise, or return anything.

Code of theirs runs in a ``try`` whose ``except Exception`` makes an `InvalidCall` of it with `raised`.
Nothing here asks a value for its `repr`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, TypeGuard, TypeVar

from .tree import InvalidCall

T = TypeVar("T")

# As `type` has them: a metaclass may have a `__name__` of its own, which may raise.
_name_of = type.__dict__["__name__"].__get__
_module_of = type.__dict__["__module__"].__get__


def is_a(value: object, kind: type[T]) -> TypeGuard[T]:
    """Ask as `isinstance` does, by the value's type, and not by its ``__class__``: that may lie, and may raise."""
    return issubclass(type(value), kind)


def type_name(value: object) -> str:
    """Give the name of the value's type, without its module."""
    name: str = _name_of(type(value))
    return name


def beside(allowed: str, value: object) -> str:
    """`type_name`, with the module before it if it occurs among what is ``allowed``: ``numpy.bool`` is no ``bool``."""
    name, module = type_name(value), _module_of(type(value))
    qualified = name in re.findall(r"\w+", allowed) and type(module) is str and module != "builtins"
    return f"{module}.{name}" if qualified else name


def must_be(allowed: str, value: object) -> str:
    """``must be str, not int``: for an `InvalidCall`, or for a `ConfigurationError`."""
    return f"must be {allowed}, not {beside(allowed, value)}"


def items_of(mapping: Mapping[Any, Any]) -> Iterator[tuple[Any, Any]]:
    """Iterate over the mapping's items. Raises `TypeError` if there are more than it says: they may have no end."""
    most = len(mapping)
    for count, item in enumerate(mapping.items()):
        if count == most:
            raise TypeError
        yield item


def raised(field: str, error: Exception) -> InvalidCall:
    """Make the refusal of a value whose own code has failed.

    The error's text may hold the value, so only its type is named.
    """
    return InvalidCall(field, f"raised {type_name(error)} while it was checked")
