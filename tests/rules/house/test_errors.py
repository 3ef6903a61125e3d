"""The error tree: who is who, what each says, and that it survives the way between processes."""

from __future__ import annotations

import copy
import pickle

import pytest

from userpilot_async import (
    ClientClosed,
    DeliveryError,
    InvalidCall,
    JobFailed,
    OutboxError,
    QueueFull,
    Rejected,
    Unavailable,
    UserpilotError,
)

ERRORS = [
    (InvalidCall("metadata['plan']", "must be str, not list"), "metadata['plan'] must be str, not list"),
    (QueueFull("100,000 calls wait"), "100,000 calls wait"),
    (ClientClosed("the client is closed"), "the client is closed"),
    (
        OutboxError("/var/events.db cannot be written: database or disk is full"),
        "/var/events.db cannot be written: database or disk is full",
    ),
    (Rejected(401, "wrong API key"), "the server answered 401: wrong API key"),
    (Rejected(409), "the server answered 409"),
    (Unavailable("no answer: ReadError", ambiguous=True), "no answer: ReadError"),
    (JobFailed("bulk:jobs:1"), "background job bulk:jobs:1 failed"),
]


@pytest.mark.parametrize(
    ("error", "parent"),
    [
        (UserpilotError, Exception),
        (InvalidCall, UserpilotError),
        (QueueFull, UserpilotError),
        (ClientClosed, UserpilotError),
        (OutboxError, UserpilotError),
        (DeliveryError, UserpilotError),
        (Rejected, DeliveryError),
        (Unavailable, DeliveryError),
        (JobFailed, DeliveryError),
    ],
)
def test_the_tree_is_the_one_in_the_docstring(error, parent):
    assert (parent,) == error.__bases__


@pytest.mark.parametrize(("error", "message"), ERRORS)
def test_an_error_says_what_happened(error, message):
    assert message == str(error)


@pytest.mark.parametrize("error", [error for error, _ in ERRORS])
@pytest.mark.parametrize("sent", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy], ids=["pickle", "copy"])
def test_an_error_stays_whole_between_processes(error, sent):
    """Process pools and task queues pickle what a job raises."""
    there = sent(error)

    assert (type(error), str(error), vars(error)) == (type(there), str(there), vars(there))
