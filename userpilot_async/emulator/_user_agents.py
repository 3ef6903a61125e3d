"""The browser and the system behind a user agent: what the vendor derives by rules that it does not give.

Ours are the tokens of RFC 9110, 10.1.5, that the browsers in use write; "Chrome" and "Mac" are spelled as in the
vendor's samples. The first that is found counts, since most browsers name those, too, which they want to be taken for.
"""

from __future__ import annotations

import re

_BROWSERS = (
    ("Edge", re.compile(r"\bEdg(?:e|A|iOS)?/")),
    ("Opera", re.compile(r"\b(?:OPR|OPT|Opera)/")),
    ("Samsung Internet", re.compile(r"\bSamsungBrowser/")),
    ("Firefox", re.compile(r"\b(?:Firefox|FxiOS)/")),
    ("Chrome", re.compile(r"\b(?:Chrome|Chromium|CriOS)/")),
    ("Safari", re.compile(r"\bVersion/.*\bSafari/")),
    ("Internet Explorer", re.compile(r"\b(?:MSIE |Trident/)")),
)
_SYSTEMS = (
    ("Windows", re.compile(r"\bWindows\b")),
    ("iOS", re.compile(r"\b(?:iPhone|iPad|iPod)\b")),
    ("Android", re.compile(r"\bAndroid\b")),
    ("Chrome OS", re.compile(r"\bCrOS\b")),
    ("Mac", re.compile(r"\b(?:Macintosh|Mac OS X)\b")),
    ("Linux", re.compile(r"\b(?:Linux|X11)\b")),
)
READ = 1_024  # characters; no browser writes more


def derived_from(user_agent: str) -> dict[str, str]:
    """The `browser` and the `operating_system` of a user agent, as far as they are known."""
    return {
        field: name
        for field, known in (("browser", _BROWSERS), ("operating_system", _SYSTEMS))
        if (name := next((name for name, token in known if token.search(user_agent[:READ])), ""))
    }
