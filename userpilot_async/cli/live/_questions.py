"""The questions of a live check, with their prices, and the price of the deletion at its end."""

from __future__ import annotations

from ._files import POLLS, deletion, importing, paging, without_version
from ._realtime import null_removes, rate_limits, realtime, unknown_user
from ._terms import Cost, Question

QUESTIONS = (
    Question(
        name="rate_limits", text="Which requests carry rate-limit headers, and what shares a budget?",
        cost=Cost(requests=5, users=1, companies=1), steps=rate_limits,
    ),
    Question(
        name="realtime", text="What does a success of identify, track and company look like?",
        cost=Cost(requests=4, users=1, companies=1), steps=realtime,
    ),
    Question(
        name="null", text="Does null as a property's value remove it?",
        cost=Cost(requests=2, users=1), steps=null_removes,
    ),
    Question(
        name="unknown_user", text="What becomes of an event of an unknown user?",
        cost=Cost(requests=1, users=1), steps=unknown_user,
    ),
    Question(
        name="version", text="Is bulk taken without X-API-Version, and what is its job like?",
        cost=Cost(requests=2 + POLLS, jobs=1, users=1), steps=without_version,
    ),
    Question(
        name="import", text="What does an import answer, and does its row blank what it leaves out?",
        cost=Cost(requests=2 + POLLS, jobs=1, users=1), steps=importing,
    ),
    Question(
        name="deletion", text="What does a deletion answer, and how does its job show?",
        cost=Cost(requests=3 + POLLS, jobs=1, users=1), steps=deletion,
    ),
    Question(
        name="paging", text="How is the job list paged?",
        cost=Cost(requests=4), steps=paging,
    ),
)  # fmt: skip
"""The questions in the order in which they are asked; the list is read last, when there are jobs in it."""

DELETION = Cost(requests=6, jobs=2)
"""The most that deleting the test users and companies costs at the end: three attempts each."""
