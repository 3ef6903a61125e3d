"""The questions to the realtime endpoints: rate limits, what a success looks like, null, and unknown users.

Pure: a question is a generator of requests, which is sent the answers. Its findings are sentences without ids and
values. What a server shows to people only is a `Look`.
"""

from __future__ import annotations

from ._shapes import answer_text, number_in
from ._terms import Answered, Look, Session, Steps, identify, identify_company, job_list, needed, track

RATE = "x-ratelimit-"


# ── rate limits ──


def rate_limits(test: Session) -> Steps:
    """Learn which requests carry the headers of a rate limit, and what shares a budget."""
    user, company = test.user("rate"), test.company("rate")
    first = needed((yield identify(user, {"check_number": 1})))
    test.found(f"identify: {_rate_text(first)}")
    for ask in (track(user), identify_company(company, {"check_number": 1}), job_list()):
        seen = yield ask
        test.found(f"{ask.what}: {_rate_text(seen)}")
    last = yield identify(user, {"check_number": 2})
    before, after = (number_in(seen.headers, f"{RATE}remaining") for seen in (first, last))
    if before is not None and after is not None:
        if before < after:
            test.found("a new window began meanwhile: what shares a budget cannot be told")
        else:
            shared = before - after - 1
            test.found(f"of track, company and job list (3 requests), {shared} came off the budget of identify")


def _rate_text(seen: Answered) -> str:
    if seen.status is None:
        return answer_text(seen)
    others = sorted(name for name in seen.headers if "ratelimit" in name and not name.startswith(RATE))
    limit, remaining, reset = (number_in(seen.headers, f"{RATE}{name}") for name in ("limit", "remaining", "reset"))
    if limit is None and remaining is None and reset is None and not others:
        return f"{seen.status}, no headers of a rate limit"
    unit = "" if reset is None else ", reset in milliseconds" if reset > 10**11 else ", reset in seconds"
    used = "" if limit is None or remaining is None else f", {limit - remaining} used"
    more = f", also {', '.join(others)}" if others else ""
    return f"{seen.status}, limit {limit if limit is not None else 'unknown'}{used}{unit}{more}"


# ── realtime ──


def realtime(test: Session) -> Steps:
    """Learn what a success of each realtime call looks like."""
    user, company = test.user("realtime"), test.company("realtime")
    asks = [
        identify(user, {"check_number": 1}), track(user), identify_company(company, {"check_number": 1}),
        identify(user, {"check_number": 2}, company),
    ]  # fmt: skip
    answers = []
    for ask in asks:
        seen = yield ask
        test.found(f"{ask.what}: {answer_text(seen)}")
        answers.append(seen)
        if seen.status is None:
            break
    needed(next((seen for seen in answers if seen.ok), answers[-1]))


def null_removes(test: Session) -> Steps:
    """Learn whether null as a property's value is taken, and removes it."""
    user = test.user("null")
    needed((yield identify(user, {"check_kept": 1, "check_removed": 1})))
    seen = yield identify(user, {"check_removed": None})
    test.found(f"null as a value: {answer_text(seen)}")
    needed(seen)
    test.looks.append(Look("null", "Is there still a property check_removed, which was set to null?", user))


def unknown_user(test: Session) -> Steps:
    """Learn what becomes of an event of somebody who was never identified."""
    user = test.user("unknown")
    seen = yield track(user)
    test.found(f"track of an unknown user: {answer_text(seen)}")
    needed(seen)
    test.looks.append(Look("unknown", "Is there such a user, who was never identified and has one event?", user))
