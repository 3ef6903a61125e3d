"""Texts as the server's database compares them."""

from __future__ import annotations

import unicodedata

MARKS = range(1, 37)  # canonical combining classes of overlays, nuktas, voiced sound marks, Hebrew and Arabic points
VIRAMA = 9  # a letter to the collation
ACCENTS = range(200, 241)  # of accents around a letter
KATAKANA = {code: code - 0x60 for code in range(0x30A1, 0x30F7)}  # to hiragana


def fold(text: str) -> str:
    """The text without case, accents and invisible characters: what folds to the same is the same key or id there.

    The database's collation is MySQL's utf8mb4_0900_ai_ci, which compares the primary level of the Unicode Collation
    Algorithm and takes a space for a character. This comes near it without its tables.
    """
    plain = unicodedata.normalize("NFKD", text).casefold()
    return "".join(one for one in plain if not _is_ignored(one)).translate(KATAKANA)


def _is_ignored(one: str) -> bool:
    if unicodedata.category(one) in ("Cc", "Cf"):
        return not one.isspace()
    combining = unicodedata.combining(one)
    return combining in ACCENTS or (combining in MARKS and combining != VIRAMA)
