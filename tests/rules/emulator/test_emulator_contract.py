"""The contract of the Userpilot side, rule by rule, and the tests that hold the emulator to each.

A rule is a sentence about the API, in the order of the vendor's pages: the calls, jobs, errors, limits, values, and the
rows of imports. `file::test` is a test in this folder's `test_emulator_<file>.py`.
"""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

HERE = Path(__file__).parent

RULES: dict[str, tuple[str, ...]] = {
    # ── headers ──
    "A call needs `Authorization: Token <key>`, the scheme in any case; any other key than the account's is 401.": (
        "admission::test_any_key_is_accepted_unless_keys_were_given",
        "admission::test_a_call_without_a_key_is_refused",
        "admission::test_an_unknown_key_is_refused_and_the_error_has_the_documented_shape",
        "admission::test_the_scheme_is_token_in_any_case",
        "bounds::test_without_a_key_a_large_body_is_refused_for_that",
    ),
    "The realtime calls and deletions need `X-API-Version: 2020-09-22`.": (
        "admission::test_the_api_version_is_required",
        "admission::test_the_realtime_calls_and_deletions_ask_for_the_version",
    ),
    "Bulk, imports and jobs do not ask for the version.": (
        "admission::test_bulk_imports_and_jobs_do_not_ask_for_the_version",
    ),
    "Bodies are `application/json`, files `multipart/form-data`.": (
        "realtime::test_a_body_of_another_content_type_is_refused",
        "jobs::test_an_upload_needs_the_field_file_and_a_readable_body",
        "imports::test_an_import_must_be_a_file",
    ),
    # ── calls ──
    "identify, companies/identify and track are answered with 202.": (
        "realtime::test_a_realtime_call_is_answered_202_with_an_empty_body",
    ),
    "Ids and event names are strings, and required; a `company` needs its id.": (
        "realtime::test_a_call_against_the_rules_is_refused_with_400_and_changes_nothing",
    ),
    "A bulk call takes an array in JSON, or NDJSON in the field `file`: 202 and the job.": (
        "jobs::test_a_submit_answers_202_with_the_job",
        "jobs::test_an_ndjson_file_is_taken_and_its_name_echoed",
        "jobs::test_a_malformed_file_is_refused",
    ),
    "One malformed row refuses the whole bulk call.": ("jobs::test_one_malformed_row_refuses_the_whole_request",),
    "An import is CSV or NDJSON in the field `file`: 200 and the job.": (
        "imports::test_an_import_answers_200_and_gives_its_numbers_as_strings",
        "imports::test_csv_is_taken_too_with_metadata_as_json",
        "imports::test_a_file_that_is_neither_ndjson_nor_csv_is_refused",
    ),
    "The list shows all jobs, an array of job objects, in pages.": (
        "jobs::test_the_newest_job_is_listed_first",
        "jobs::test_the_list_shows_so_many_jobs_a_page_newest_first",
        "jobs::test_a_page_that_is_no_number_is_the_first",
        "jobs::test_a_list_cannot_be_paged_in_another_way",
    ),
    "A job is found by its id, whose colons may be quoted.": (
        "jobs::test_a_job_is_found_by_its_id_quoted_or_not",
        "jobs::test_a_job_id_that_names_no_job_is_404_whatever_path_it_spells",
    ),
    "A deletion is answered with 202 and a message that says how many are scheduled; the list shows its job.": (
        "deletions::test_a_deletion_is_answered_202_with_how_many_are_scheduled_and_no_job",
        "deletions::test_the_list_shows_the_job_of_a_deletion_through_its_stages",
        "deletions::test_a_deletion_needs_ids",
    ),
    "A deletion removes the users and their events, or the companies.": (
        "deletions::test_a_deletion_removes_users_and_their_events_when_it_completes",
        "deletions::test_a_deletion_whose_job_does_not_complete_removes_nothing",
        "deletions::test_a_deleted_company_leaves_its_users_without_one",
    ),
    # ── jobs ──
    "A job is queued, validating, processing, pending_refresh, and completed or failed.": (
        "jobs::test_a_job_lives_by_its_timetable_divided_by_speed",
        "jobs::test_a_finished_job_names_its_end_and_its_length",
        "faults::test_a_failed_job_ends_failed_and_applies_nothing",
        "faults::test_a_scripted_life_may_go_anywhere_and_is_applied_at_completed",
    ),
    "A job's numbers are integers, an import's are strings.": (
        "jobs::test_a_submit_answers_202_with_the_job",
        "imports::test_an_import_answers_200_and_gives_its_numbers_as_strings",
    ),
    "A failed job does not say which row was at fault.": (
        "jobs::test_a_failed_job_does_not_say_which_row_was_at_fault",
    ),
    # ── errors ──
    "An error has a list of objects with error, error_code, message and details.": (
        "admission::test_every_refusal_has_the_documented_body_and_every_answer_the_headers",
        "admission::test_an_unknown_key_is_refused_and_the_error_has_the_documented_shape",
    ),
    "An unknown path is 404, an unknown method 405.": (
        "admission::test_an_unknown_path_is_404_and_a_wrong_method_405",
    ),
    "A body that is no JSON object is 400; NaN and what is infinite is no JSON.": (
        "realtime::test_a_body_that_is_no_json_object_is_refused",
        "realtime::test_a_number_that_is_infinite_is_refused_wherever_it_comes_and_the_store_can_be_read",
        "bounds::test_packed_bodies_are_not_unpacked",
    ),
    "A plan without imports is 401 there, and only there.": (
        "imports::test_a_plan_without_imports_answers_401_and_realtime_goes_on",
    ),
    "Answers carry x-request-id, cache-control and server.": (
        "admission::test_every_refusal_has_the_documented_body_and_every_answer_the_headers",
        "admission::test_each_answer_has_an_id_of_its_own_that_the_request_log_knows",
    ),
    # ── limits ──
    "identify calls are 600 a minute for a key, track calls 600 more; the minute is the clock's.": (
        "admission::test_the_601st_request_of_a_minute_is_refused_and_the_next_minute_starts_anew",
        "admission::test_identify_and_track_have_a_window_each_for_each_key",
        "admission::test_a_refused_request_spends_the_window_too",
        "admission::test_a_401_spends_nothing",
    ),
    "Bulk, import and job requests have no limit a minute.": (
        "admission::test_bulk_imports_jobs_and_deletions_have_no_limit_a_minute",
    ),
    "Every answer has the rate headers; the reset is the end of the clock's minute in milliseconds.": (
        "admission::test_the_headers_count_down_and_name_the_end_of_the_minute_in_milliseconds",
        "admission::test_every_answer_carries_date_and_rate_headers",
        "admission::test_every_refusal_has_the_documented_body_and_every_answer_the_headers",
    ),
    "One bulk job at a time for a key, users and companies together; 409 otherwise.": (
        "jobs::test_one_bulk_job_runs_at_a_time_users_and_companies_together",
        "jobs::test_the_slot_belongs_to_one_key",
        "faults::test_a_stuck_job_processes_for_ever_and_holds_its_slot",
    ),
    "One import at a time for a key; 409 otherwise.": ("imports::test_one_import_runs_at_a_time_apart_from_bulk_jobs",),
    "Deletions hold no slot.": (
        "deletions::test_deletions_hold_no_slot_and_wait_for_none",
        "deletions::test_a_deletion_keeps_no_bulk_job_waiting",
    ),
    "A bulk call has 10,000 rows at most, of users or of companies; 413 otherwise.": (
        "jobs::test_10_000_rows_are_accepted_and_10_001_are_too_many",
    ),
    "A file has 50 MB at most, in bulk and in imports; 413 otherwise.": (
        "jobs::test_a_file_has_50_mb_and_not_a_byte_more",
        "jobs::test_rows_as_json_have_50_mb_and_not_a_byte_more",
        "bounds::test_a_body_without_a_length_is_read_up_to_the_limit_of_its_route",
        "bounds::test_nothing_is_read_of_a_body_that_announces_more",
    ),
    "Rows are worked off at 1,800 a minute, in their order.": (
        "jobs::test_a_job_lives_by_its_timetable_divided_by_speed",
        "jobs::test_rows_are_applied_one_after_another_each_at_its_own_moment",
    ),
    "500 properties; 255 characters of a name, 65,535 of a value.": (
        "realtime::test_an_identify_at_the_limits_is_accepted",
        "realtime::test_a_call_against_the_rules_is_refused_with_400_and_changes_nothing",
        "bounds::test_a_user_with_all_the_properties_there_may_be_fits",
        "imports::test_500_properties_of_65_535_characters_fit_into_a_cell",
    ),
    "10 KB of an event's metadata; 413 otherwise.": (
        "realtime::test_event_metadata_may_have_10_kb_and_not_a_byte_more",
    ),
    "512 KB of all event names together.": ("realtime::test_event_names_beyond_512_kb_are_accepted_and_counted",),
    # ── values ──
    "Metadata values are strings, numbers, booleans and null; no arrays, no objects.": (
        "realtime::test_an_identify_at_the_limits_is_accepted",
        "realtime::test_a_call_against_the_rules_is_refused_with_400_and_changes_nothing",
    ),
    "Properties merge into what is stored; null removes one.": (
        "realtime::test_metadata_merges_key_by_key_and_null_removes",
        "jobs::test_a_bulk_row_merges_and_moves_like_an_identify",
        "model::test_the_store_holds_what_the_sequential_model_holds",
        "worlds::test_calls_in_a_row_leave_what_the_sequential_model_says",
    ),
    "The company of an identify has its id under `id` or `company_id`.": (
        "realtime::test_the_company_of_an_identify_is_merged_and_its_id_is_no_property",
    ),
    "A user belongs to one company; a new id moves the user, and later events are booked there.": (
        "realtime::test_events_are_booked_on_the_company_of_their_moment",
        "worlds::test_calls_in_a_row_leave_what_the_sequential_model_says",
    ),
    "In bulk rows the company is only a `company_id`: a `company` has no effect.": (
        "jobs::test_a_company_object_in_a_bulk_row_has_no_effect",
    ),
    "A track is dated on arrival, and accepted for an unknown user.": (
        "realtime::test_an_event_is_dated_on_arrival",
        "realtime::test_an_event_of_an_unknown_user_is_accepted_and_marked",
    ),
    "A request that is sent twice is counted twice.": (
        "realtime::test_a_repeated_event_counts_twice_and_is_reported_as_a_duplicate",
    ),
    # ── the rows of imports ──
    "There are four types of rows, each with its required fields.": (
        "imports::test_each_row_type_is_stored_as_what_it_is",
        "imports::test_a_complete_row_is_accepted",
        "imports::test_an_incomplete_row_refuses_the_whole_file",
    ),
    "`inserted_at` is ISO 8601, with a T or a space; the event happened then.": (
        "imports::test_an_imported_event_happened_at_inserted_at",
        "import_rows::test_inserted_at_is_iso_8601_with_a_t_or_a_space",
        "import_rows::test_another_time_is_refused_on_every_python",
    ),
    "A row without `metadata` has none.": ("imports::test_a_row_without_metadata_has_none",),
    "A later row blanks the properties that it leaves out.": (
        "imports::test_a_later_row_blanks_the_properties_it_leaves_out",
        "worlds::test_calls_in_a_row_leave_what_the_sequential_model_says",
    ),
    "Of an identify_company row only four fields are read.": ("imports::test_a_complete_row_is_accepted",),
    "`company_id` of another row is a string, and may be empty.": (
        "import_rows::test_a_company_id_of_a_row_is_a_string",
        "imports::test_a_complete_row_is_accepted",
    ),
    "`url` overrides `hostname` and `pathname`.": (
        "import_rows::test_a_url_overrides_hostname_and_pathname",
        "import_rows::test_a_url_is_a_string",
    ),
    "`browser` and `operating_system` are derived from `user_agent`.": (
        "import_rows::test_browser_and_system_are_derived_from_the_user_agent",
        "import_rows::test_a_row_that_does_not_say_where_it_happened_has_no_context",
    ),
    "`source` is one of six; web-client needs a page and a `user_agent`.": (
        "imports::test_a_complete_row_is_accepted",
        "imports::test_an_incomplete_row_refuses_the_whole_file",
    ),
    "A cell of a CSV is as long as a file may be.": (
        "imports::test_a_cell_may_be_longer_than_pythons_limit_of_131_072",
    ),
}

OURS = {
    "realtime::test_the_applied_log_keeps_every_write_in_order_with_its_payload",
    "realtime::test_first_and_last_seen_are_stamps_of_the_servers_clock",
    "admission::test_the_request_log_shows_refused_requests_and_never_the_key",
    "admission::test_latency_holds_the_answer_back_after_the_call_was_applied",
}
"""Tests beside the rules: of what the emulator shows that the API does not."""

BY_RULES = ("realtime", "admission", "imports", "import_rows", "jobs", "deletions")
"""The files whose tests each hold to a rule."""


@cache
def named_in(file: str) -> frozenset[str]:
    """The tests that a file of this folder has; none if there is no such file."""
    path = HERE / f"test_emulator_{file}.py"
    body = ast.parse(path.read_text(encoding="utf-8")).body if path.exists() else []
    functions = (one.name for one in body if isinstance(one, (ast.FunctionDef, ast.AsyncFunctionDef)))
    return frozenset(name for name in functions if name.startswith("test_"))


@pytest.mark.parametrize("rule", RULES)
def test_a_rule_has_tests_that_exist(rule):
    missing = [name for name in RULES[rule] if name.partition("::")[2] not in named_in(name.partition("::")[0])]

    assert RULES[rule], "no test holds the emulator to this rule"
    assert [] == missing


def test_each_test_of_these_files_holds_to_a_rule():
    there = {f"{file}::{name}" for file in BY_RULES for name in named_in(file)}
    named = {name for tests in RULES.values() for name in tests}

    assert set() == there - named - OURS
    assert OURS <= there - named
