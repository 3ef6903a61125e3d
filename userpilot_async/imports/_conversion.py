"""The way from the lines of a file to rows: which tool's export they are of, and what is asked for beyond that."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs

from ._anonymous import ANONYMOUS, Anonymous, dropping, joining
from ._identity_store import IdentityStore
from ._mapping import RowMapping
from .converters._convert import converter
from .converters._rows import Rows

Convert = Callable[[dict[str, Any]], Rows]


@attrs.frozen
class Conversion:
    """How the lines of a file become rows: for ``converted_from``, where the name of a tool is not enough.

    ``tool`` is one of `CONVERTERS`; ``None`` for a file of rows. ``company_group`` is the type of the tool's groups
    that are companies, instead of the likeliest one. With ``shorten``, properties are left out of an event over 10 KB,
    the largest first, and the report says of how many events. ``anonymous`` is what becomes of rows of people who were
    not known yet: ``"keep"`` sends them under their anonymous id, ``"drop"`` leaves them out, and ``"join"`` sends them
    under the id of the person whom the anonymous one became, as a line of the files says. ``mapping`` changes the rows
    that come out of all this; `mapping_of` reads one from a file. Raises `ValueError` for a tool that is not known.
    """

    tool: str | None = None
    company_group: str | None = attrs.field(default=None, kw_only=True)
    shorten: bool = attrs.field(default=False, kw_only=True)
    anonymous: Anonymous = attrs.field(default="keep", kw_only=True)
    mapping: RowMapping | None = attrs.field(default=None, kw_only=True)
    _of_tool: Convert | None = attrs.field(init=False, repr=False, eq=False)
    """The function before people are joined and rows are mapped."""
    convert: Convert | None = attrs.field(init=False, repr=False, eq=False)
    """The function for each line; ``None`` if a line is a row."""

    def __attrs_post_init__(self) -> None:
        if self.tool is None and self.company_group is not None:
            raise ValueError("company_group is of another tool's export: name the tool, too")
        if self.anonymous not in ANONYMOUS:
            raise ValueError(f"anonymous must be one of {', '.join(ANONYMOUS)}")
        if self.tool is None and self.anonymous != "keep":
            raise ValueError("anonymous is of another tool's export: name the tool, too")
        convert = None if self.tool is None else converter(self.tool, self.company_group)
        if convert is not None and self.tool is not None and self.anonymous == "drop":
            convert = dropping(convert, self.tool)
        object.__setattr__(self, "_of_tool", convert)
        object.__setattr__(self, "convert", self._mapped(convert))

    @classmethod
    def of(cls, given: str | Conversion | None) -> Conversion:
        """The conversion that a caller has named; raises `ValueError` for a tool that is not known."""
        return given if isinstance(given, Conversion) else cls(given)

    def joined(self, store: IdentityStore) -> Conversion:
        """The same conversion, with each anonymous id's rows under the person whom it became by the ``store``."""
        if self._of_tool is None or self.tool is None:
            return self
        joined = attrs.evolve(self)
        object.__setattr__(joined, "convert", self._mapped(joining(self._of_tool, self.tool, store)))
        return joined

    def _mapped(self, convert: Convert | None) -> Convert | None:
        return convert if self.mapping is None else self.mapping.around(convert)

    @property
    def words(self) -> str | None:
        """The words for it in a journal: an import must go on as it was begun. ``None`` for rows as they are."""
        more = ", shortened" if self.shorten else ""
        if self.mapping is not None:
            more += f", mapped by {self.mapping.digest}"
        if self.tool is None:
            return f"import rows{more}" if more else None
        people = {"keep": "", "drop": ", without anonymous people", "join": ", with anonymous people joined"}
        named = "" if self.company_group is None else f" with the company group {self.company_group!r}"
        return f"{self.tool}{named}{people[self.anonymous]}{more}"
