"""All that an error tells, to whoever reports it with the locals of its frames."""

from __future__ import annotations

import traceback
from pathlib import Path

TESTS = Path(__file__).parents[1]


def told_by(error: BaseException) -> dict[str, str]:
    """Texts by name: words and arguments, also of what it was raised for, and locals, but for those of tests."""
    texts: dict[str, str] = {}
    seen: list[BaseException] = []
    waiting: list[BaseException | None] = [error]
    while waiting:
        one = waiting.pop()
        if one is None or any(one is other for other in seen):
            continue
        seen.append(one)
        name = f"{type(one).__name__} {len(seen)}"
        texts[name] = f"{one!r} {one} {one.args!r} {getattr(one, '__notes__', '')}"
        for frame, line in traceback.walk_tb(one.__traceback__):
            if not Path(frame.f_code.co_filename).is_relative_to(TESTS):
                for local, value in frame.f_locals.items():
                    texts[f"{name}, {local} in {frame.f_code.co_qualname}:{line}"] = _shown(value)
        waiting += [one.__cause__, one.__context__, *getattr(one, "exceptions", ())]
    return texts


def _shown(value: object) -> str:
    try:
        return repr(value)
    except Exception as error:  # of an object that is not complete: its constructor has raised
        return f"no repr: {type(error).__name__}"
