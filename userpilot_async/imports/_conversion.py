"""The way from the lines of a file to rows: which tool's export they are of, and what is asked for beyond that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from ._mapping import RowMapping
from .converters._convert import converter
from .converters._rows import Rows

Convert = Callable[[dict[str, Any]], Rows]


@attrs.frozen
class Conversion:
    """How the lines of a file become rows: for ``converted_from``, where the name of a tool is not enough.

    ``tool`` is one of `CONVERTERS`; ``None`` for a file of rows. ``company_group`` is the type of the tool's groups
    that are companies, instead of the likeliest one. With ``shorten``, properties are left out of an event over 10 KB,
    the largest first, and the report says of how many events. ``mapping`` changes the rows that come out; `mapping_of`
    reads one from a file. Raises `ValueError` for a tool that is not known.
    """

    tool: str | None = None
    company_group: str | None = attrs.field(default=None, kw_only=True)
    shorten: bool = attrs.field(default=False, kw_only=True)
    mapping: RowMapping | None = attrs.field(default=None, kw_only=True)
    convert: Convert | None = attrs.field(init=False, repr=False, eq=False)
    """The function for each line; ``None`` if a line is a row."""

    def __attrs_post_init__(self) -> None:
        if self.tool is None and self.company_group is not None:
            raise ValueError("company_group is of another tool's export: name the tool, too")
        convert = None if self.tool is None else converter(self.tool, self.company_group)
        object.__setattr__(self, "convert", convert if self.mapping is None else self.mapping.around(convert))

    @classmethod
    def of(cls, given: str | Conversion | None) -> Conversion:
        """The conversion that a caller has named; raises `ValueError` for a tool that is not known."""
        return given if isinstance(given, Conversion) else cls(given)

    @property
    def words(self) -> str | None:
        """The words for it in a journal: an import must go on as it was begun. ``None`` for rows as they are."""
        more = ", shortened" if self.shorten else ""
        if self.mapping is not None:
            more += f", mapped by {self.mapping.digest}"
        if self.tool is None:
            return f"import rows{more}" if more else None
        named = "" if self.company_group is None else f" with the company group {self.company_group!r}"
        return f"{self.tool}{named}{more}"
