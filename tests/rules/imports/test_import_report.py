"""What an import says of itself, as values and in words."""

from __future__ import annotations

import pickle

import pytest

from userpilot_async import InvalidCall, UserpilotError
from userpilot_async.imports import AlreadyImported, ImportConflict, ImportReport, InvalidRow, JournalError


def test_a_report_in_words():
    report = ImportReport(read=1_500, valid=1_400, refused=100, uploaded=1_400, files=2, possible_duplicates=7)

    assert (
        "1,500 read, 1,400 valid, 100 refused, 1,400 uploaded in 2 files, 7 possible duplicates, not complete"
        == str(report)
    )
    assert "0 read, 0 valid, 0 refused" == str(ImportReport(complete=True))


def test_errors_survive_pickling():
    for error in (InvalidRow(3, "user_id", "is missing"), AlreadyImported("done", ImportReport(read=5))):
        again = pickle.loads(pickle.dumps(error))
        assert (str(error), type(error)) == (str(again), type(again))


@pytest.mark.parametrize("error", [JournalError, ImportConflict, AlreadyImported, InvalidRow])
def test_every_error_is_a_userpilot_error(error):
    assert issubclass(error, UserpilotError)


def test_a_bad_row_is_an_invalid_call_with_its_line():
    error = InvalidRow(3, "user_id", "is missing")

    assert isinstance(error, InvalidCall)
    assert (3, "user_id", "is missing") == (error.line, error.field, error.reason)
    assert "line 3: user_id is missing" == str(error)


def test_a_line_that_is_bad_as_a_whole_is_named_once():
    assert ["line 2: is not JSON", "line 3: user_id is missing"] == [
        str(InvalidRow(2, "line", "is not JSON")),
        str(InvalidRow(3, "user_id", "is missing")),
    ]
