"""What the fields of a fault must be: a fault is often typed by hand, and a wrong one must say so at once."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

from userpilot_async.emulator._jobs import SCRIPTED
from userpilot_async.emulator._wire import FAMILIES

if TYPE_CHECKING:
    import attrs

    from userpilot_async.emulator._faults import Fault

# `Any` is attrs' own type for a field of any type, and for a value that is still to be checked.
Field: TypeAlias = "attrs.Attribute[Any]"


def check_text(fault: Fault, field: Field, value: Any) -> None:
    if not (isinstance(value, str) or (value is None and field.default is None)):
        raise ValueError(f"{field.name} must be a string")


def check_count(fault: Fault, field: Field, value: Any) -> None:
    if value is None and field.name in ("times", "body_over"):
        return
    if type(value) is not int or value < 0:
        raise ValueError(f"{field.name} must be an integer, 0 or more")


def check_seconds(fault: Fault, field: Field, value: Any) -> None:
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ValueError(f"{field.name} must be a number of seconds, 0 or more")


def check_probability(fault: Fault, field: Field, value: Any) -> None:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ValueError("probability must be a number from 0 to 1")


def check_family(fault: Fault, field: Field, value: Any) -> None:
    if value is not None and value not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}")


def check_status(fault: Fault, field: Field, value: Any) -> None:
    if value is not None and (type(value) is not int or not 200 <= value <= 599):
        raise ValueError("status must be an integer from 200 to 599")


def check_headers(fault: Fault, field: Field, value: Any) -> None:
    if not isinstance(value, Mapping) or not all(_is_header(text) for text in (*value, *value.values())):
        raise ValueError("headers must map names to printable ASCII strings or null")


def check_cut(fault: Fault, field: Field, value: Any) -> None:
    if value not in (None, "before", "after"):
        raise ValueError('cut must be "before" or "after"')
    if value is not None and fault.status is not None:
        raise ValueError("a fault has either a cut or a status: who is cut off sees none")
    if value == "before" and fault.apply:
        raise ValueError('a cut "before" applies nothing')


def check_job(fault: Fault, field: Field, value: Any) -> None:
    if value in (None, "failed", "stuck"):
        return
    steps = value.get("status_sequence") if isinstance(value, Mapping) and len(value) == 1 else None
    if not isinstance(steps, Sequence) or isinstance(steps, str) or not steps:
        raise ValueError('job must be "failed", "stuck" or {"status_sequence": [status or [status, seconds], ...]}')
    for step in steps:
        stage(step)


def check_apply(fault: Fault, field: Field, value: Any) -> None:
    if value is not None and not isinstance(value, bool):
        raise ValueError("apply must be true, false or null")


def stage(step: object) -> tuple[str, float]:
    """One step of a `status_sequence`: a status, and for how long the job shows it."""
    if isinstance(step, str):
        return step, SCRIPTED
    if isinstance(step, Sequence) and len(step) == 2:
        status, seconds = step
        if isinstance(status, str) and type(seconds) in (int, float) and 0 <= seconds < math.inf:
            return status, seconds
    raise ValueError("a step of status_sequence must be a status, or a pair of a status and seconds")


def _is_header(text: object) -> bool:
    return text is None or (isinstance(text, str) and text.isascii() and text.isprintable())
