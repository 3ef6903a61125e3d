"""The names that users and tests outside this repository rely on, and what each takes."""

from __future__ import annotations

import inspect
from pathlib import Path
from types import GenericAlias

import attrs
import pytest

import userpilot_async
from userpilot_async import (
    ClientClosed,
    ClientNotOpen,
    DeadCall,
    DeliveryError,
    Identify,
    IdentifyCompany,
    InvalidCall,
    Job,
    JobFailed,
    JobStatus,
    MemoryOutbox,
    OutboxError,
    Outcome,
    QueueFull,
    Receipt,
    Rejected,
    Report,
    Settings,
    Statistics,
    Track,
    Unavailable,
    UserpilotAPI,
    UserpilotClient,
    UserpilotError,
    WrongLoop,
    imports,
    parcelvoy,
    sqlite,
    testing,
)
from userpilot_async._userpilot.within import Within
from userpilot_async.parcelvoy import ParcelvoyClient, ParcelvoySettings
from userpilot_async.testing import Capture

PUBLIC = {
    "Call", "ClientClosed", "ClientNotOpen", "ConfigurationError", "DeadCall", "DeleteCompany", "DeleteUser",
    "DeliveryError", "Identify", "IdentifyCompany", "InvalidCall", "Job", "JobFailed", "JobStatus",
    "MemoryOutbox", "Metadata", "OnDead", "OutboxError", "Outcome", "QueueFull", "Receipt",
    "Rejected", "Report", "Settings", "Statistics", "Track", "Unavailable", "UserpilotAPI", "UserpilotClient",
    "UserpilotError", "WrongLoop", "blocking",
}  # fmt: skip


PUBLIC_OF_IMPORTS = {
    "CONVERTERS", "SOURCES", "AlreadyImported", "Conversion", "IdentifyCompany", "IdentifyUser", "ImportConflict",
    "ImportProgress", "ImportReport", "InvalidRow", "JournalError", "Line", "Lines", "OnProgress", "PageView", "Row",
    "Series", "Source", "TrackEvent", "UnreadableFile", "check_file", "checked", "import_file", "import_rows",
    "InvalidMapping", "RowMapping", "check_stream", "import_stream", "mapping_from", "mapping_of",
    "journal_path", "lines", "rejected_path", "write_csv", "write_ndjson",
}  # fmt: skip
PUBLIC_OF_PARCELVOY = {
    "CLEAR", "Alias", "DeadCall", "Device", "Identify", "ParcelvoyClient", "ParcelvoySettings", "Track",
}  # fmt: skip


def shape(function: object) -> str:
    """The parameters with their kinds and defaults, without the types."""
    signature = inspect.signature(function)
    bare = [one.replace(annotation=inspect.Parameter.empty) for one in signature.parameters.values()]
    kind = "async " if inspect.iscoroutinefunction(function) else ""
    return kind + str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))


def public_methods(cls: type) -> set[str]:
    """Methods of a class and of its bases in this package."""
    own = [base for base in cls.__mro__ if base.__module__.startswith("userpilot_async")]
    return {name for base in own for name in vars(base) if not name.startswith("_") and callable(getattr(base, name))}


def test_all_is_exactly_what_is_promised():
    assert PUBLIC == set(userpilot_async.__all__)


def test_all_of_parcelvoys_is_exactly_what_is_promised():
    assert PUBLIC_OF_PARCELVOY == set(parcelvoy.__all__)


def test_all_of_imports_is_exactly_what_is_promised():
    assert PUBLIC_OF_IMPORTS == set(imports.__all__)
    assert all(hasattr(imports, name) for name in imports.__all__)


def test_all_of_testings_is_exactly_what_is_promised():
    assert ["Capture", "EmulatorServer", "capture"] == testing.__all__


def test_all_of_sqlites_is_exactly_what_is_promised():
    assert ["SQLiteOutbox"] == sqlite.__all__


@pytest.mark.parametrize("module", [userpilot_async, parcelvoy, sqlite, testing], ids=lambda module: module.__name__)
def test_all_is_sorted_and_everything_in_it_exists(module):
    assert sorted(module.__all__, key=lambda name: (not name.isupper(), name)) == module.__all__
    assert all(hasattr(module, name) for name in module.__all__)


def test_nothing_else_looks_public():
    # There once they are imported.
    modules = {"emulator", "cli", "testing", "sqlite", "redis", "postgres", "imports", "parcelvoy", "guides"}
    visible = {name for name in vars(userpilot_async) if not name.startswith(("_", "@"))}  # pytest's: @

    assert PUBLIC == visible - modules


CLIENT = {
    "track": "async (self, user_id, event_name, metadata=None, *, occurred_at=None, dedupe=None)",
    "track_nowait": "(self, user_id, event_name, metadata=None, *, occurred_at=None, dedupe=None)",
    "identify": "async (self, user_id, metadata=None, *, company=None, dedupe=None)",
    "identify_nowait": "(self, user_id, metadata=None, *, company=None, dedupe=None)",
    "identify_company": "async (self, company_id, metadata=None, *, dedupe=None)",
    "identify_company_nowait": "(self, company_id, metadata=None, *, dedupe=None)",
    "delete_users": "async (self, user_ids)",
    "delete_users_nowait": "(self, user_ids)",
    "delete_companies": "async (self, company_ids)",
    "delete_companies_nowait": "(self, company_ids)",
    "enqueue": "async (self, call)",
    "within": "(self, connection)",
    "import_rows": "async (self, rows, *, strict=False, journal=None, rebind=False, on_progress=None, max_rows=100000)",
    "import_file": "async (self, path, *, converted_from=None, strict=False, journal=None, rejected=None, force=False,"
    " rebind=False, on_progress=None, max_rows=100000, series=None)",
    "flush": "async (self, timeout=None)",
    "aclose": "async (self, timeout=None)",
    "start": "async (self)",
    "statistics": "(self)",
}
WITHIN = {
    "track": "async (self, user_id, event_name, metadata=None, *, occurred_at=None, dedupe=None)",
    "identify": "async (self, user_id, metadata=None, *, company=None, dedupe=None)",
    "identify_company": "async (self, company_id, metadata=None, *, dedupe=None)",
}
WITHIN |= {f"{name}_nowait": parameters.removeprefix("async ") for name, parameters in list(WITHIN.items())}
PARCELVOY = {
    "track": "async (self, name, *, external_id=None, anonymous_id=None, data=None, occurred_at=None, dedupe=None)",
    "identify": "async (self, external_id=None, *, anonymous_id=None, email=None, phone=None, timezone=None,"
    " locale=None, data=None, dedupe=None)",
    "alias": "async (self, anonymous_id, external_id, *, dedupe=None)",
    "register_device": "async (self, device_id, *, external_id=None, anonymous_id=None, os, model, app_build,"
    " app_version, token=None, os_version=None, dedupe=None)",
    "enqueue": "async (self, call)",
    "flush": "async (self, timeout=None)",
    "aclose": "async (self, timeout=None)",
    "start": "async (self)",
    "statistics": "(self)",
}
PARCELVOY |= {f"{name}_nowait": PARCELVOY[name].removeprefix("async ") for name in list(PARCELVOY)[:4]}
API = {
    "identify": "async (self, user_id, metadata=None, *, company=None)",
    "identify_company": "async (self, company_id, metadata=None)",
    "track": "async (self, user_id, event_name, metadata=None)",
    "bulk_identify_users": "async (self, rows, *, filename=None)",
    "bulk_identify_companies": "async (self, rows, *, filename=None)",
    "import_rows": "async (self, rows, *, filename=None)",
    "jobs": "async (self)",
    "job": "async (self, job_id)",
    "wait_for_job": "async (self, job, *, timeout=None, on_progress=None)",
    "delete_users": "async (self, user_ids)",
    "delete_companies": "async (self, company_ids)",
    "start": "async (self)",
}
# Public for the client's sake.
API_FOR_THE_CLIENT = {"open", "aclose", "lose_tasks", "reserve"}


@pytest.mark.parametrize(("name", "parameters"), CLIENT.items())
def test_a_method_of_the_client_takes(name, parameters):
    assert parameters == shape(getattr(UserpilotClient, name))


@pytest.mark.parametrize(("name", "parameters"), WITHIN.items())
def test_a_method_of_what_within_gives_takes(name, parameters):
    assert parameters == shape(getattr(Within, name))


@pytest.mark.parametrize(("name", "parameters"), PARCELVOY.items())
def test_a_method_of_parcelvoys_client_takes(name, parameters):
    assert parameters == shape(getattr(ParcelvoyClient, name))


@pytest.mark.parametrize(("name", "parameters"), API.items())
def test_a_method_of_the_api_takes(name, parameters):
    assert parameters == shape(getattr(UserpilotAPI, name))


def test_the_client_has_no_other_methods():
    assert set(CLIENT) == public_methods(UserpilotClient)
    assert set(WITHIN) == public_methods(Within)
    assert set(PARCELVOY) == public_methods(ParcelvoyClient)


def test_the_api_has_no_other_methods():
    assert set(API) | API_FOR_THE_CLIENT == public_methods(UserpilotAPI)


@pytest.mark.parametrize(
    ("make", "parameters"),
    [
        (
            UserpilotClient,
            "(api_key=None, *, region=None, base_url=None, outbox=None, settings=None, on_dead=None, transport=None,"
            " disabled=None, allow_http=None)",
        ),
        (
            ParcelvoyClient,
            "(api_key=None, base_url=None, *, outbox=None, settings=None, on_dead=None, transport=None, disabled=None,"
            " allow_http=None)",
        ),
        (
            UserpilotAPI,
            "(api_key=None, *, region=None, base_url=None, transport=None, request_timeout=15.0, upload_timeout=120.0,"
            " attempts=3, connections=8, allow_http=None)",
        ),
        (Track, "(user_id, event_name, metadata=None, occurred_at=None, *, dedupe=None)"),
        (Identify, "(user_id, metadata=None, company=None, *, dedupe=None)"),
        (IdentifyCompany, "(company_id, metadata=None, *, dedupe=None)"),
        (parcelvoy.Track, "(name, *, external_id=None, anonymous_id=None, data=None, occurred_at=None, dedupe=None)"),
        (
            parcelvoy.Identify,
            "(external_id=None, *, anonymous_id=None, email=None, phone=None, timezone=None, locale=None, data=None,"
            " dedupe=None)",
        ),
        (parcelvoy.Alias, "(anonymous_id, external_id, *, dedupe=None)"),
        (
            parcelvoy.Device,
            "(device_id, *, external_id=None, anonymous_id=None, os, model, app_build, app_version, token=None,"
            " os_version=None, dedupe=None)",
        ),
        (parcelvoy.from_line, "(line)"),
        (MemoryOutbox, "()"),
        (
            sqlite.SQLiteOutbox,
            "(path, *, durability='power', sender=True, max_bytes=1073741824, rebind=False)",
        ),
        (sqlite.SQLiteOutbox.from_url, "(url)"),
        (
            imports.import_file,
            "async (api, path, *, converted_from=None, strict=False, journal=None, rejected=None, force=False,"
            " rebind=False, dry_run=None, on_progress=None, max_rows=100000, series=None)",
        ),
        (
            imports.import_rows,
            "async (api, rows, *, strict=False, journal=None, rebind=False, on_progress=None, max_rows=100000)",
        ),
        (
            imports.check_file,
            "async (path, *, converted_from=None, strict=False, rejected=None, on_progress=None, series=None)",
        ),
        (
            imports.import_stream,
            "async (api, stream, *, journal=None, converted_from=None, rejected=None, force=False, rebind=False,"
            " dry_run=None, on_progress=None, max_rows=100000)",
        ),
        (
            imports.check_stream,
            "async (stream, *, converted_from=None, strict=False, rejected=None, on_progress=None)",
        ),
        (imports.mapping_of, "(path)"),
        (imports.mapping_from, "(said)"),
        (testing.capture, "()"),
        (testing.EmulatorServer, "(emulator=None, *, host='127.0.0.1', port=0, **options)"),
        (Capture.flush, "async (self, timeout=30.0)"),
        (Capture.flush_blocking, "(self, timeout=30.0)"),
        (Capture.assert_tracked, "(self, user_id, event_name, metadata=None, /, **properties)"),
        (Capture.assert_not_tracked, "(self, user_id=None, event_name=None, metadata=None, /, **properties)"),
        (Capture.assert_identified, "(self, user_id, metadata=None, /, *, company=None, **properties)"),
        (Capture.assert_company_identified, "(self, company_id, metadata=None, /, **properties)"),
        (Capture.fail, "(self, path='*', **fault)"),
        (Capture.allow_lost, "(self, *reasons)"),
        (InvalidCall, "(field, reason)"),
        (Rejected, "(status, detail='', *, error_code=None, request_id=None)"),
        (Unavailable, "(detail, *, ambiguous=False, status=None, error_code=None, request_id=None)"),
        (JobFailed, "(job_id)"),
        (Receipt.outcome, "async (self, timeout=None)"),
        (Receipt.wait, "(self, timeout=None)"),
        (userpilot_async.blocking, "(client, backend='asyncio')"),
    ],
    ids=lambda given: getattr(given, "__qualname__", None),
)
def test_it_is_made_with(make, parameters):
    assert parameters == shape(make)


def test_the_client_tells_its_rate_limits():
    assert {"track": 600, "identify": 600} == UserpilotClient("KEY").rate_limits


def test_the_client_has_an_api():
    assert UserpilotAPI is type(UserpilotClient("KEY").api)


@pytest.mark.parametrize(
    ("cls", "names"),
    [
        (Receipt, {"id", "status", "reason", "outcome", "wait"}),
        (Job, {"job_id", "status", "type", "filename", "file_size", "total_rows", "completed_rows", "submitted_at",
               "start_time", "end_time", "elapsed_time", "links"}),
        (Outcome, {"status", "reason", "row"}),
        (Report, {"complete", "elapsed", "remaining", "jobs", "statistics", "persisted_in"}),
        (DeadCall, {"status", "reason", "call", "merged", "error", "arguments", "detail", "error_code", "request_id"}),
        (parcelvoy.DeadCall, {"status", "reason", "call", "merged", "error", "arguments", "detail", "error_code",
                              "request_id"}),
        (Statistics, {"accepted", "delivered", "dead", "dropped", "merged", "pending", "submitted", "lost_by_reason",
                      "rate_limit_remaining", "paused", "outage", "unpersisted", "outbox_resets", "is_sender"}),
        (Settings, {"track_per_minute", "identify_per_minute", "flush_interval", "bulk_threshold", "max_queue_calls",
                    "max_queue_bytes", "when_full", "burst", "max_wait", "close_timeout", "request_timeout", "max_age",
                    "concurrency", "on_invalid", "on_ambiguous"}),
    ],
    ids=lambda given: getattr(given, "__name__", ""),
)  # fmt: skip
def test_a_value_has(cls, names):
    has = {field.name for field in attrs.fields(cls)} if attrs.has(cls) else set(dir(cls))

    assert set() == names - has


def test_the_statuses_of_a_job_are():
    known = {"queued", "validating", "processing", "pending_refresh", "completed", "failed", "unknown"}

    assert known == {status.value for status in JobStatus}


@pytest.mark.parametrize(
    "cls",
    [
        *(Settings, Statistics, Report, Job, Outcome, DeadCall, Track, Identify, IdentifyCompany, ParcelvoySettings),
        *(parcelvoy.DeadCall, parcelvoy.Track, parcelvoy.Identify, parcelvoy.Alias, parcelvoy.Device),
    ],
)
def test_what_is_said_is_frozen(cls):
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(cls.__new__(cls), attrs.fields(cls)[0].name, None)


@pytest.mark.parametrize(
    "error",
    [
        *(InvalidCall, QueueFull, ClientNotOpen, ClientClosed, WrongLoop, OutboxError),
        *(DeliveryError, Rejected, Unavailable, JobFailed),
    ],
)
def test_every_error_is_a_userpilot_error(error):
    assert issubclass(error, UserpilotError)


# ── words ──


CLASSES = {
    f"{module.__name__}.{name}": getattr(module, name)
    for module in (userpilot_async, imports, parcelvoy, sqlite, testing)
    for name in module.__all__
    if inspect.isclass(getattr(module, name)) and not isinstance(getattr(module, name), GenericAlias)
}


@pytest.mark.parametrize("name", sorted(CLASSES))
def test_every_public_class_has_a_docstring_of_its_own(name):
    cls = CLASSES[name]

    assert cls.__doc__
    assert all(cls.__doc__ != base.__doc__ for base in cls.__bases__)


METHODS = [
    pytest.param(method, id=f"{name}.{attribute}")
    for name, cls in sorted(CLASSES.items())
    for attribute, method in vars(cls).items()
    if not attribute.startswith("_") and (inspect.isfunction(method) or isinstance(method, (property, classmethod)))
] + [pytest.param(parcelvoy.from_line, id="from_line")]


@pytest.mark.parametrize("method", METHODS)
def test_every_public_method_has_a_docstring(method):
    assert (method.__doc__ or "").strip()


@pytest.mark.parametrize("method", METHODS)
def test_the_first_line_of_a_docstring_is_a_sentence_of_its_own(method):
    first, _, rest = method.__doc__.strip().partition("\n")

    assert 120 >= len(first)
    assert not rest or rest.startswith("\n")


# ── the package ──


def test_type_checkers_are_told_that_there_are_types():
    assert (Path(userpilot_async.__file__).parent / "py.typed").is_file()


def test_the_version_is_three_numbers():
    assert 3 == len([int(part) for part in userpilot_async.__version__.split(".")])
