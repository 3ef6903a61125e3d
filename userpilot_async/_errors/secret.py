"""The API key, hidden in all that shows our values, and taken out of what servers say.

Error reporters (Sentry, rich, ``pytest -l``) show the `repr` of all locals of the frames that an exception came
through. So the key is in no local variable as plain text, but for functions that neither wait nor raise.
"""

from __future__ import annotations

import html
import json
import re
from base64 import b64encode
from collections.abc import Iterable, Iterator
from typing import Any, AnyStr, Generic, TypeVar
from urllib.parse import quote, unquote

T_co = TypeVar("T_co", covariant=True)

SHOWN = "(the API key)"  # in place of it
SHORT = 6  # characters; what is shorter turns up in other words by chance
# Servers choose what is searched by these, up to a megabyte of it: each must end in a time that grows as the text does.
_BASE64 = "[A-Za-z0-9+/_=-]"
_ESCAPED = re.compile(r"(?<!\\)\\+(?:u([0-9a-fA-F]{4})|x([0-9a-fA-F]{2})|[bfnrt])")
_NUMBERED = re.compile(r"&#0*([0-9]{1,7})[0-9]*")
_LAYERS = 4  # of quoting that are searched: a proxy quotes what a server has quoted
# What may stand between the characters of a key: lines are folded, and what is not printed is printed as a space.
_BETWEEN = bytes(range(33)) + b"\\\x7f"


class Hidden(Generic[T_co]):
    """A value that no `repr` shows, and `reveal` gives."""

    __slots__ = ("_value",)

    def __init__(self, value: T_co) -> None:
        self._value = value

    def reveal(self) -> T_co:
        """The value: not for a local variable."""
        return self._value

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Hidden) and bool(self._value == other._value)

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return f"<{type(self).__name__}>"

    def __reduce__(self) -> str | tuple[object, ...]:
        raise TypeError("an API key is not for pickling")


class HiddenBytes(bytes):
    """A header's value with the key in it: on the wire as it is, but not for `repr` and `str`."""

    __slots__ = ()

    def __repr__(self) -> str:
        return SHOWN

    __str__ = __repr__


class Secret(Hidden[str]):
    """An API key: a printable ASCII text, which `clean` takes out of other texts."""

    __slots__ = ("_bare_forms", "_forms")

    _forms: tuple[tuple[str, str], ...]
    _bare_forms: tuple[bytes, ...]

    def header(self, value: str) -> bytes:
        """A header's value, hidden if the key is in it."""
        return HiddenBytes(value.encode("ascii")) if self._value in value else value.encode("ascii")

    def may_be_in(self, data: bytes) -> bool:
        """False only if `clean` has nothing to do in what ``data`` says, in JSON.

        One search, where a long list has 100,000 texts. A zero is of UTF-16.
        """
        text = data.decode(errors="replace")
        # Once more than in a text: a JSON text's own escapes are a layer of quoting, the outermost one.
        return (
            "\0" in text
            or _any_in(text.lower(), [form for form, _ in self._all_forms()])
            or self._is_within(text, _LAYERS + 1)
            or ("\\" in text and self._is_within(_unescaped(text)))
        )

    def clean(self, text: str) -> str:
        """The text, with `SHOWN` wherever the key is: as it is, quoted for a URL, JSON or HTML, in hex or in base64.

        A text in which it stands in some other way, such as partly quoted, or broken into lines, is replaced as a
        whole. Of a key below `SHORT` characters, only what stands by itself is the key.
        """
        if len(self._value) < SHORT:
            return re.sub(rf"(?<![\w-]){re.escape(self._value)}(?![\w-])", SHOWN, text)
        low = text.lower()
        for form, pattern in self._all_forms():
            if form in low:
                text = re.sub(pattern, SHOWN, text, flags=re.IGNORECASE)
        return SHOWN if self._is_within(text) else text

    def _all_forms(self) -> tuple[tuple[str, str], ...]:
        if not hasattr(self, "_forms"):
            self._forms = tuple(_forms(self._value))
            data = self._value.encode()  # the key itself, and codes of it that are written on several lines
            coded = (form for form, found in self._forms if form == data.hex() or _BASE64 in found)
            self._bare_forms = tuple(dict.fromkeys((_bare(self._value) or data, *(_bare(form) for form in coded))))
        return self._forms

    def _is_within(self, text: str, layers: int = _LAYERS) -> bool:
        """Below quotation marks of some kind, or in pieces with nothing to be seen between them."""
        self._all_forms()
        forms = self._bare_forms
        for _ in range(layers):
            before = text
            for unquoted in (unquote, _from_html, _unescaped):
                if _any_in(_bare(text), forms):
                    return True
                forms = forms[:1]  # codes have no quotation marks
                if not any(sign in text for sign in "%&\\"):
                    return False
                text = unquoted(text)
            if text == before:
                break
        return _any_in(_bare(text), forms)

    def clean_json(self, value: Any) -> Any:
        """Clean all names and texts in what was decoded from JSON, however deep, in place; gives the cleaned value."""
        around = [value]
        waiting: list[Any] = [around]
        while waiting:
            one = waiting.pop()
            if isinstance(one, dict):
                entries = [(self.clean(name), self._cleaned(inner)) for name, inner in one.items()]
                one.clear()
                one.update(entries)
                waiting += [inner for _, inner in entries if isinstance(inner, (dict, list))]
            else:
                one[:] = map(self._cleaned, one)
                waiting += [inner for inner in one if isinstance(inner, (dict, list))]
        return around[0]

    def _cleaned(self, value: Any) -> Any:
        if type(value) in (int, float) and self._value.isdecimal():  # a key may be a number, and be said as one
            cleaned = self.clean(str(value))
            return value if cleaned == str(value) else cleaned
        return self.clean(value) if isinstance(value, str) else value


def _from_html(text: str) -> str:
    """Python's own raises `ValueError` for a character whose number has thousands of digits."""
    return html.unescape(_NUMBERED.sub(r"&#\1", text))


def _unescaped(text: str) -> str:
    """Without the ``\\u0041`` and the ``\\n`` of JSON, and ``\\x41``."""
    return _ESCAPED.sub(lambda found: chr(int(found[1] or found[2] or "20", 16)), text)


def _bare(text: str) -> bytes:
    return text.lower().encode("ascii", "ignore").translate(None, _BETWEEN)


def _any_in(text: AnyStr, forms: Iterable[AnyStr]) -> bool:
    return any(form in text for form in forms)


def _forms(key: str) -> Iterator[tuple[str, str]]:
    """The ways in which the key is likely to be said, in lower case, each with the pattern of what to replace."""
    data = key.encode()
    for form in dict.fromkeys((key, quote(key, safe=""), json.dumps(key)[1:-1], html.escape(key), data.hex())):
        yield form.lower(), re.escape(form)
    for shift in range(3):  # bytes by which it is off a triple, in whatever text was encoded
        whole = b64encode(bytes(shift) + data).decode().rstrip("=")
        # The first characters are also of what comes before, the last one of what comes after.
        inside = whole[(0, 2, 3)[shift] : len(whole) - (1 if (shift + len(data)) % 3 else 0)]
        for form in {inside, inside.replace("+", "-").replace("/", "_")}:
            yield form.lower(), f"(?<!{_BASE64}){_BASE64}*{re.escape(form)}{_BASE64}*"
