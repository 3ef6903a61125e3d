"""Faults scripted from outside: which calls they befall, and what happens to them."""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Any, Literal, TypeAlias

import attrs

from userpilot_async.emulator._bodies import Body
from userpilot_async.emulator._jobs import SCRIPTED, JobScript
from userpilot_async.emulator._saved import Saved
from userpilot_async.emulator._wire import FAMILIES, Answer, Api, Family, Payload, WireError, json_answer

JobFault: TypeAlias = Literal["failed", "stuck"] | Mapping[str, Sequence[str | Sequence[str | float]]]
"""How the job ends, or `{"status_sequence": ["queued", ["processing", 600], "completed"]}`; a pair gives seconds."""

# `Any` is attrs' own type for a field of any type, and for a value that is still to be checked.
Field: TypeAlias = "attrs.Attribute[Any]"


# ── what the fields of a fault must be: it is often typed by hand, and a wrong one must say so at once ──


def _check_text(fault: Fault, field: Field, value: Any) -> None:
    if not (isinstance(value, str) or (value is None and field.default is None)):
        raise ValueError(f"{field.name} must be a string")


def _check_count(fault: Fault, field: Field, value: Any) -> None:
    if value is None and field.name in ("times", "body_over"):
        return
    if type(value) is not int or value < 0:
        raise ValueError(f"{field.name} must be an integer, 0 or more")


def _check_seconds(fault: Fault, field: Field, value: Any) -> None:
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ValueError(f"{field.name} must be a number of seconds, 0 or more")


def _check_probability(fault: Fault, field: Field, value: Any) -> None:
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ValueError("probability must be a number from 0 to 1")


def _check_family(fault: Fault, field: Field, value: Any) -> None:
    if value is not None and value not in FAMILIES:
        raise ValueError(f"family must be one of {', '.join(FAMILIES)}")


def _check_status(fault: Fault, field: Field, value: Any) -> None:
    if value is not None and (type(value) is not int or not 200 <= value <= 599):
        raise ValueError("status must be an integer from 200 to 599")


def _check_headers(fault: Fault, field: Field, value: Any) -> None:
    if not isinstance(value, Mapping) or not all(_is_header(text) for text in (*value, *value.values())):
        raise ValueError("headers must map names to printable ASCII strings or null")


def _check_cut(fault: Fault, field: Field, value: Any) -> None:
    if value not in (None, "before", "after"):
        raise ValueError('cut must be "before" or "after"')
    if value is not None and fault.status is not None:
        raise ValueError("a fault has either a cut or a status: who is cut off sees none")
    if value == "before" and fault.apply:
        raise ValueError('a cut "before" applies nothing')


def _check_job(fault: Fault, field: Field, value: Any) -> None:
    if value in (None, "failed", "stuck"):
        return
    steps = value.get("status_sequence") if isinstance(value, Mapping) and len(value) == 1 else None
    if not isinstance(steps, Sequence) or isinstance(steps, str) or not steps:
        raise ValueError('job must be "failed", "stuck" or {"status_sequence": [status or [status, seconds], ...]}')
    for step in steps:
        _stage(step)


def _check_apply(fault: Fault, field: Field, value: Any) -> None:
    if value is not None and not isinstance(value, bool):
        raise ValueError("apply must be true, false or null")


def _stage(step: object) -> tuple[str, float]:
    """A step of a `status_sequence`: a status, and the seconds for which the job shows it."""
    if isinstance(step, str):
        return step, SCRIPTED
    if isinstance(step, Sequence) and len(step) == 2:
        status, seconds = step
        if isinstance(status, str) and type(seconds) in (int, float) and 0 <= seconds < math.inf:
            return status, seconds
    raise ValueError("a step of status_sequence must be a status, or a pair of a status and seconds")


def _is_header(text: object) -> bool:
    return text is None or (isinstance(text, str) and text.isascii() and text.isprintable())


# ── faults ──


@attrs.frozen
class Fault:
    """A scripted failure: first which calls it befalls, then what becomes of them.

    Faults are asked in the order they were added; the first that fires ends the asking, so that a call meets one fault.
    """

    name: str = attrs.field(default="", validator=_check_text)
    """Shows in the request log; `Faults.add` gives one if it is empty."""
    method: str = attrs.field(default="*", validator=_check_text)
    path: str = attrs.field(default="*", validator=_check_text)
    """A glob over the path as sent, still percent-quoted."""
    family: Family | None = attrs.field(default=None, validator=_check_family)
    user_id: str | None = attrs.field(default=None, validator=_check_text)
    """The JSON or NDJSON body has this `user_id` in it; to Parcelvoy, this `external_id` or `anonymous_id`."""
    body_contains: str | None = attrs.field(default=None, validator=_check_text)
    fail_if_row_contains: str | None = attrs.field(default=None, validator=_check_text)
    """Like `body_contains`, and the job that the call creates fails."""
    body_over: int | None = attrs.field(default=None, validator=_check_count)
    """The body has more bytes than this: a limit that is in no document."""
    skip: int = attrs.field(default=0, validator=_check_count)
    """So many calls that match pass unharmed first."""
    times: int | None = attrs.field(default=1, validator=_check_count)
    """Fires so often and then never again; None: for ever."""
    probability: float = attrs.field(default=1.0, validator=_check_probability)

    status: int | None = attrs.field(default=None, validator=_check_status)
    headers: Mapping[str, str | None] = attrs.field(factory=dict, validator=_check_headers)
    """Over the headers of any answer, scripted or not; None removes one."""
    body: Any = None
    """Goes with `status`: a string is sent as it is, as HTML (which a browser shows and does not run); anything else as
    JSON. None: the usual error body."""
    delay: float = attrs.field(default=0.0, validator=_check_seconds)
    """Seconds on the way here: before the server stamps, counts and applies the call."""
    latency: float = attrs.field(default=0.0, validator=_check_seconds)
    """Seconds on the way back: after the call was applied."""
    cut: Literal["before", "after"] | None = attrs.field(default=None, validator=_check_cut)
    """The connection ends without an answer, before the call is applied or after."""
    job: JobFault | None = attrs.field(default=None, validator=_check_job)
    """The course of the job that the call creates. It holds its slot until its last status begins, and for ever if
    that is neither `completed` nor `failed`. Rows of a scripted life are applied together, at its first `completed`."""
    apply: bool | None = attrs.field(default=None, validator=_check_apply)
    """False: answer as always, change nothing. True: change what the call says, in spite of `status` or a failing job.
    None: a call with a scripted `status` or a cut "before" changes nothing, and no more does a job that fails."""

    @property
    def refuses(self) -> bool:
        """The call never gets as far as the endpoint."""
        return self.cut == "before" or (self.status is not None and not self.apply)

    def befalls(self, method: str, path: str, family: str, body: Body) -> bool:
        """Whether the call is one of those meant. Of a body that is too large only its size is known."""
        return (
            self.method in ("*", method)
            and (self.path == "*" or fnmatchcase(path, self.path))
            and self.family in (None, family)
            and all(_in_json(text, body.content) for text in (self.body_contains, self.fail_if_row_contains) if text)
            and (self.body_over is None or body.size > self.body_over)
            and (self.user_id is None or _names_user(self.user_id, body.content))
        )

    def script(self) -> JobScript:
        """The course of the job, if the call creates one."""
        if self.job is None:
            return JobScript("failed" if self.fail_if_row_contains else "completed")
        if isinstance(self.job, Mapping):
            return JobScript(stages=tuple(_stage(step) for step in self.job["status_sequence"]))
        return JobScript(self.job)

    def disguise(self, answer: Answer, api: Api) -> Answer:
        """The answer with the scripted status and body; headers are overridden later, over all the others."""
        if self.status is None:
            return answer
        if self.body is None and self.status < 400:
            scripted = Answer(self.status)
        elif self.body is None:
            scripted = api.complain([WireError(self.status, f"scripted fault {self.name}")])
        elif isinstance(self.body, str):
            scripted = Answer(self.status, self.body.encode(), {"content-type": "text/html"})
        else:
            scripted = json_answer(self.status, self.body)
        return attrs.evolve(scripted, rows=answer.rows, filename=answer.filename, applied=answer.applied)

    @classmethod
    def from_json(cls, spec: object) -> Fault:
        """Build one from its JSON object, whose keys are the fields; ValueError says what is wrong with it."""
        if not isinstance(spec, dict):
            raise ValueError("a fault must be a JSON object")
        fields = [field.name for field in attrs.fields(cls)]
        unknown = sorted(map(repr, set(spec).difference(fields)))
        if unknown:
            raise ValueError(f"a fault has no {', '.join(unknown)}; its fields are {', '.join(fields)}")
        try:
            return cls(**spec)
        except TypeError as exc:
            raise ValueError(f"a fault's field has the wrong type: {exc}") from exc

    def as_json(self) -> Payload:
        return attrs.asdict(self, recurse=False)


NO_FAULT = Fault()


@attrs.define
class Armed:
    """A fault in place, and what it has met so far."""

    fault: Fault
    seen: int = 0  # calls that matched
    fired: int = 0

    def fires(self, chance: random.Random) -> bool:
        self.seen += 1
        exhausted = self.fault.times is not None and self.fired >= self.fault.times
        if exhausted or self.seen <= self.fault.skip or chance.random() >= self.fault.probability:
            return False
        self.fired += 1
        return True


class Faults:
    """The faults in place, in the order they were added."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance
        self._armed: list[Armed] = []
        self._added = 0

    def __iter__(self) -> Iterator[Armed]:
        return iter(self._armed)

    def add(self, fault: Fault) -> Fault:
        """Put a fault in place; returns it with its name."""
        self._added += 1
        if not fault.name:
            fault = attrs.evolve(fault, name=f"fault-{self._added}")
        self._armed.append(Armed(fault))
        return fault

    def remove(self, name: str) -> None:
        self._armed = [armed for armed in self._armed if armed.fault.name != name]

    def saved(self) -> list[Saved]:
        """The faults in place as JSON, each with what it has met."""
        return [{"fault": armed.fault.as_json(), "seen": armed.seen, "fired": armed.fired} for armed in self._armed]

    def restore(self, saved: list[Saved]) -> None:
        """Put faults in place that were saved; raises KeyError, TypeError or ValueError for what is none."""
        for armed in saved:
            self._armed.append(Armed(Fault.from_json(armed["fault"]), armed["seen"], armed["fired"]))
        self._added += len(saved)

    def clear(self) -> None:
        self._armed.clear()

    def fired(self, name: str) -> int:
        """How often the faults of this name have fired: a test that promised a fault should check that."""
        return sum(armed.fired for armed in self._armed if armed.fault.name == name)

    def meet(self, method: str, path: str, family: str, body: Body) -> Fault:
        """The fault that fires on this call, or `NO_FAULT`."""
        for armed in self._armed:
            if armed.fault.befalls(method, path, family, body) and armed.fires(self._chance):
                return armed.fault
        return NO_FAULT


def _in_json(text: str, body: bytes) -> bool:
    """`text` is in the body, as it is or as JSON writers escape it."""
    return any(form in body for form in _written(text))


def _names_user(user_id: str, body: bytes) -> bool:
    name = rb'"(?:user_id|external_id|anonymous_id)"\s*:\s*"'
    return any(re.search(name + re.escape(form) + b'"', body) for form in _written(user_id)[1:])


def _written(text: str) -> tuple[bytes, bytes, bytes]:
    """The text raw, and inside JSON with and without `\\u` escapes."""
    escaped = json.dumps(text)[1:-1].encode()
    plain = json.dumps(text, ensure_ascii=False)[1:-1].encode("utf-8", "surrogatepass")
    return text.encode("utf-8", "surrogatepass"), escaped, plain
