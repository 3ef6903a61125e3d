"""Arrays that go to PostgreSQL as text: psycopg, which shares no code with us, reads back what was written."""

from __future__ import annotations

import pytest

pytest.importorskip("psycopg")

from hypothesis import example, given
from hypothesis import strategies as st
from psycopg import adapters, pq
from psycopg.adapt import Transformer

from userpilot_async.postgres._arrays import numbers, texts

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]))


def read(written: str, kind: str) -> object:
    """The array of this type that PostgreSQL would send in these words."""
    return Transformer().get_loader(adapters.types[kind].array_oid, pq.Format.TEXT).load(written.encode())


@given(st.lists(TEXTS | st.none()))
@example([])
@example(["", "NULL", "null", None])
@example(['{"a":"b\\"c\\\\"}', "{}", "{,}", ", ", " x ", "a,b", '"', "\\", "\\\\", "\n\t", "ü", "'", "%s"])
def test_texts_are_read_back_unchanged(some: list[str | None]) -> None:
    assert some == read(texts(some), "text")


@given(st.lists(st.floats(allow_nan=False)))
def test_numbers_are_read_back_unchanged(some: list[float]) -> None:
    assert some == read(numbers(some), "float8")


@given(st.lists(st.integers(0, 2**31 - 1)))
def test_whole_numbers_are_read_back_unchanged(some: list[int]) -> None:
    assert some == read(numbers(some), "int4")
