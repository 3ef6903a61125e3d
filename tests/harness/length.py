"""How long the long tests run: `LENGTH` in the environment, one knob for all of them.

`push` is what `nox` runs: a fifth of the full length. `edge` is a tenth, for a Python that a push looks at by turns,
`full` is for `nox -s nightly`, and `soak` is for sessions that look for what is rare. Programs that a test starts
inherit it.
"""

from __future__ import annotations

import os

SHARES = {"edge": 0.1, "push": 0.2, "full": 1.0, "soak": 1.0}
CHOSEN = os.environ.get("LENGTH", "push")
assert CHOSEN in SHARES, f"LENGTH is {CHOSEN}: it may be {', '.join(SHARES)}"


def of(full: int, *, least: int = 1, soak: int | None = None) -> int:
    """So much of `full` as was asked for; never less than `least`, with which the test still says something."""
    if CHOSEN == "soak" and soak is not None:
        return soak
    return max(least, round(full * SHARES[CHOSEN]))


def step() -> int:
    """Of many places in a row every so many-th is tried: each one at full length."""
    return round(1 / SHARES[CHOSEN])
