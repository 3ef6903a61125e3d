"""Rows of callers as lines of NDJSON files, each checked; an error names the row by its number, from 1."""

from __future__ import annotations

from collections.abc import Callable, Collection, Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, TypeVar

from .._calls.values import checked_id, checked_name, encode_json, quoted
from .._errors.foreign import is_a, items_of, must_be, raised, type_name
from .._errors.tree import InvalidCall
from .calls import Identify, IdentifyCompany

T = TypeVar("T")


def each(given: Iterable[T], field: str) -> Iterator[T]:
    """An iterator over what the caller has given for ``field``; raises `InvalidCall` if it is no iterable.

    Errors of the iterable itself come later, and are the application's own.
    """
    try:
        return iter(given)
    except TypeError:
        raise InvalidCall(field, must_be("an iterable", given)) from None


def each_id(ids: Iterable[str], field: str) -> Iterator[str]:
    """An iterator over ids; raises `InvalidCall` also for a single str."""
    if is_a(ids, str):
        raise InvalidCall(field, "must be an iterable of ids, not one str")
    return each(ids, field)


def user_line(row: Mapping[str, Any], number: int, check: Callable[[Mapping[str, Any]], object]) -> bytes:
    """The line of ``row``, the ``number``-th one, in a bulk file of users; raises `InvalidCall`.

    ``check`` gets the properties that the row sets.
    """
    with _at_row(row, number, {"user_id", "company_id", "metadata"}) as fields:
        company_id = fields.get("company_id")
        call = Identify(
            checked_id(fields.get("user_id"), "user_id"),
            fields.get("metadata"),
            None if company_id is None else {"id": company_id},
        )
    check(call.metadata)
    line: dict[str, object] = {"user_id": call.user_id, "metadata": call.metadata}
    if call.company is not None:
        line["company_id"] = call.company["id"]
    return encode_json(line).encode() + b"\n"


def company_line(row: Mapping[str, Any], number: int) -> bytes:
    """The line of ``row``, the ``number``-th one, in a bulk file of companies; raises `InvalidCall`."""
    with _at_row(row, number, {"company_id", "metadata"}) as fields:
        call = IdentifyCompany(checked_id(fields.get("company_id"), "company_id"), fields.get("metadata"))
    return encode_json({"company_id": call.company_id, "metadata": call.metadata}).encode() + b"\n"


def import_line(row: Mapping[str, Any], number: int) -> bytes:
    """The line of ``row``, the ``number``-th one, in an import file, as it is; raises `InvalidCall`."""
    with _at_row(row, number) as fields:
        return encode_json(fields).encode() + b"\n"


@contextmanager
def _at_row(row: object, number: int, known: Collection[str] | None = None) -> Generator[dict[str, Any], None, None]:
    """The fields of a row, of which only ``known`` ones are allowed; raises `InvalidCall` with its number, from 1."""
    field = f"rows[{number}]"
    try:
        if not isinstance(row, Mapping):
            raise InvalidCall(field, must_be("a mapping", row))
        fields = {checked_name(name, field): value for name, value in items_of(row)}
    except InvalidCall:
        raise
    except Exception as error:  # of the row's own methods
        raise raised(field, error) from None
    stray = next((name for name in fields if known is not None and name not in known), None)
    if stray is not None:
        raise InvalidCall(f"{field}[{quoted(stray)}]", "is no field of a row; properties go into 'metadata'")
    try:
        yield fields
    except InvalidCall as error:
        raise InvalidCall(f"{field}.{error.field}", error.reason) from None
    except Exception as error:  # the encoder's, or of values in it: its text may hold them
        raise InvalidCall(field, f"cannot be written as JSON ({type_name(error)})") from None
