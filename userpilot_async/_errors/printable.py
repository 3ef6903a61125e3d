"""Text that others have written, made fit for a terminal, a log or a message: the one place that does it.

What a terminal would obey, or what would make a line look like another, is written out as in a string of Python's:
``\\x1b``, ``\\n``, ``\\u202e``. That is whatever `str.isprintable` does not call so: control characters of either set
(C0 and C1), line and paragraph separators, overrides of the direction of writing, lone surrogates (which stand for
bytes of a file name that are no UTF-8), and what has no meaning in Unicode. Spaces of other scripts, and what joins
letters or keeps them apart, stay: names in Japanese, French and Persian have them.
"""

from __future__ import annotations

import unicodedata

JOINERS = "\u200c\u200d"  # ZERO WIDTH NON-JOINER and JOINER


def printable(text: str, instead: str | None = None) -> str:
    """The text on one line, with ``instead`` of each character that is not to be printed; by default its escape."""
    if text.isprintable():
        return text
    return "".join(one if _is_harmless(one) else _escaped(one) if instead is None else instead for one in text)


def _is_harmless(one: str) -> bool:
    return one.isprintable() or one in JOINERS or unicodedata.category(one) == "Zs"


def _escaped(one: str) -> str:
    return one.encode("unicode_escape").decode("ascii")
