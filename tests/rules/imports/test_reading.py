"""Import files: every line is read, or named with what is wrong with it; memory is that of one line."""

from __future__ import annotations

import csv
import gzip
import json
import os
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness import length
from tests.harness.examples.strategies import ids, names, plain_values
from userpilot_async._errors.tree import InvalidCall, UserpilotError
from userpilot_async.imports import _physical_lines, _reading
from userpilot_async.imports._csv_records import MAX_COLUMNS
from userpilot_async.imports._physical_lines import MAX_LINE, REST, UnreadableFile
from userpilot_async.imports._reading import Lines, lines
from userpilot_async.imports._rows import IdentifyUser, checked
from userpilot_async.imports._writing import write_csv, write_ndjson

TRACK = {"event_type": "track", "user_id": "u1", "event_name": "opened", "inserted_at": "2024-12-01T08:55:43"}
LINE = json.dumps(TRACK)
HEADER = "event_type,user_id,event_name,inserted_at"
RECORD = "track,u1,opened,2024-12-01T08:55:43"


@pytest.fixture
def file(tmp_path):
    """Makes a file of this content."""

    def file(content, name="rows"):
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return file


def seen(path, **options):
    """(number, fields or what is wrong) of each line."""
    return [(line.number, line.fields or str(line.error)) for line in lines(path, **options)]


# ── NDJSON ──


def test_lines_are_numbered_from_1_and_blank_ones_counted(file):
    path = file(f"{LINE}\n\n  \t\n{LINE}\r\n{LINE}")

    assert [(1, TRACK), (4, TRACK), (5, TRACK)] == seen(path)
    assert [LINE] * 3 == [line.raw for line in lines(path)]


def test_a_bad_line_is_named_and_the_next_is_read(file):
    bad = [b'{"event_type":', b"[1]", b"null", b'{"a":"\xff"}', b'"\xe2\x82"', b"{}{}", b"[" * 100_000]
    path = file(b"\n".join([LINE.encode(), *bad, LINE.encode()]))

    assert [
        (1, TRACK),
        (2, "line is not JSON"),
        (3, "line must be a JSON object, not list"),
        (4, "line must be a JSON object, not NoneType"),
        (5, "line is not UTF-8"),
        (6, "line is not UTF-8"),
        (7, "line is not JSON"),
        (8, "line is not JSON"),
        (9, TRACK),
    ] == seen(path)
    assert '{"a":"\\xff"}' == list(lines(path))[4].raw


def test_each_error_is_one_of_its_own(file):
    """Or whoever raises one would hang a traceback on all."""
    errors = [line.error for line in lines(file(f"{LINE}\nx\nx"))]

    assert errors[1] is not errors[2]


def test_a_byte_order_mark_is_no_part_of_the_first_line(file):
    assert [(1, TRACK)] == seen(file(b"\xef\xbb\xbf" + LINE.encode()))
    assert [(2, TRACK)] == seen(file(b"\xef\xbb\xbf" + f"{HEADER}\n{RECORD}\n".encode()))


@pytest.mark.parametrize("name", ["rows.ndjson.gz", "rows.ndjson"])
def test_gzip_is_known_by_what_is_in_it(file, name):
    path = file(gzip.compress(f"{LINE}\n".encode()) + gzip.compress(b"x\n"), name)

    assert [(1, TRACK), (2, "line is not JSON")] == seen(path)


def test_a_file_that_a_browser_has_unpacked_is_read_all_the_same(file):
    assert [(1, TRACK)] == seen(file(LINE, "rows.ndjson.gz"))


def test_lines_up_to_a_number_are_passed_over(file):
    path = file(f"{LINE}\n\nx\n{LINE}\n")

    assert [(4, TRACK)] == seen(path, skip=3)
    assert [] == seen(path, skip=4)
    assert [] == seen(path, skip=99)


@pytest.mark.parametrize("end", [b"", b"\n", b"\r\n"])
def test_a_line_of_a_mebibyte_is_read_and_one_byte_more_is_not(file, end):
    fits = b'{"a":"' + b"a" * (MAX_LINE - 8) + b'"}'
    path = file(LINE.encode() + b"\n" + fits + end)
    longer = file(LINE.encode() + b"\n" + fits + b" " + end + (LINE.encode() if end else b""), "longer")

    assert MAX_LINE == len(list(lines(path))[1].raw)
    assert [(2, "line has more than 1,048,576 bytes"), *([(3, TRACK)] if end else [])] == seen(longer)[1:]
    assert fits[:1_000].decode() == list(lines(longer))[1].raw


def test_an_endless_line_takes_no_memory(file):
    path = file(LINE.encode() + b"\n" + b'{"a":"' + b"\n".join([b"a" * 40 * MAX_LINE, LINE.encode()]))
    tracemalloc.start()
    try:
        result = seen(path)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()

    assert [(1, TRACK), (2, "line has more than 1,048,576 bytes"), (3, TRACK)] == result
    assert 6 * MAX_LINE > peak


def test_a_file_of_many_lines_takes_no_more_memory_than_one_of_few(file):
    def peak(count):
        path = file(f"{LINE}\n" * count)
        tracemalloc.start()
        try:
            assert count == sum(1 for _ in lines(path))
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    few, many = peak(5_000), peak(50_000)

    assert few + 50_000 > many


# ── CSV ──


def test_a_header_names_the_fields_of_a_record(file):
    assert [(2, TRACK), (4, TRACK)] == seen(file(f"{HEADER}\n{RECORD}\r\n\r\n{RECORD}"))


def test_blank_lines_may_stand_before_the_header(file):
    assert [(4, TRACK)] == seen(file(f"\r\n\n{HEADER}\n{RECORD}"))


@pytest.mark.parametrize("delimiter", [";", "\t"])
def test_spreadsheets_have_other_delimiters(file, delimiter):
    assert [(2, TRACK)] == seen(file(f"{HEADER}\n{RECORD}".replace(",", delimiter)))


def test_metadata_is_a_json_object_or_a_column_for_each_property(file):
    header = f"{HEADER},metadata, metadata.plan ,metadata.seats"
    path = file(
        f'{header}\n{RECORD},"{{""a"":1,""plan"":""free""}}",pro,\n{RECORD},,,\n{RECORD},[1],,\n{RECORD},{{,,\n'
    )

    assert [
        (2, {**TRACK, "metadata": {"a": 1, "plan": "pro"}}),
        (3, TRACK),
        (4, "metadata must be a JSON object"),
        (5, "metadata must be a JSON object"),
    ] == seen(path)


def test_a_record_is_numbered_by_the_line_it_begins_at(file):
    path = file(f'{HEADER}\ntrack,"u\n\n1",opened,2024\n{RECORD}\n')

    assert [(2, "u\n\n1"), (5, "u1")] == [(line.number, line.fields["user_id"]) for line in lines(path)]
    assert 'track,"u\n\n1",opened,2024' == next(lines(path)).raw
    assert [(5, TRACK)] == seen(path, skip=2) == seen(path, skip=4)


def test_a_quote_that_is_never_closed_costs_its_own_line_only(file):
    users = ["u1", "u2", "u3"]
    path = file(f'{HEADER}\ntrack,"u1,opened,2024\n' + "".join(f"{RECORD.replace('u1', user)}\n" for user in users))
    good = [(number, {**TRACK, "user_id": user}) for number, user in enumerate(users, 3)]

    assert [(2, "line is not CSV: unexpected end of data"), *good] == seen(path)


def test_a_quote_that_is_never_closed_is_not_followed_for_ever(file):
    path = file(f'{HEADER}\ntrack,"u1,opened,2024\n' + f"{RECORD}\n" * 40_000)
    result = seen(path)

    assert (2, "line has more than 1,048,576 bytes") == result[0]
    assert [(number, TRACK) for number in range(3, 40_003)] == result[1:]


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ('track,"u1"x,opened,2024', "line is not CSV: ',' expected after '\"'"),
        ("track,u1,opened", "line has 3 cells, and the header 4"),
        ("track,u1,opened,2024,", "line has 5 cells, and the header 4"),
        (b"track,\xff,opened,2024", "line is not UTF-8"),
        (b"track," + b"a" * MAX_LINE, "line has more than 1,048,576 bytes"),
    ],
)
def test_a_bad_record_is_named_and_the_next_is_read(file, record, reason):
    record = record if isinstance(record, bytes) else record.encode()

    assert [(2, reason), (3, TRACK)] == seen(file(b"\n".join([HEADER.encode(), record, RECORD.encode()])))


def test_a_cell_may_hold_more_than_pythons_own_limit(file):
    before = csv.field_size_limit()
    metadata = {"a": "b" * 200_000}
    path = file(f"{HEADER},metadata\n{RECORD}," + '"' + json.dumps(metadata).replace('"', '""') + '"\n')

    assert [(2, {**TRACK, "metadata": metadata})] == seen(path)
    assert before <= csv.field_size_limit()


def test_an_unknown_column_is_refused_with_the_row_that_uses_it(file):
    first, second = lines(file(f"{HEADER},userid\n{RECORD},\n{RECORD},u1\n"))

    assert "u1" == checked(first.fields)["user_id"]
    with pytest.raises(InvalidCall, match="'userid' is no field"):
        checked(second.fields)


# ── what is no import file ──


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"", "is empty"),
        (b"\n \r\n\n", "is empty"),
        (b"\x89PNG\r\n\x1a\n\0\0\0", "not text in UTF-8"),
        (b"PK\x03\x04\x14\0\0\0", "zero bytes"),
        (LINE.encode("utf-16"), "zero bytes"),
        (b"\xff\xfa text", "not text in UTF-8"),
        (b"Dear reader,\nthis is a letter.\n", "neither a JSON object nor a CSV header"),
        (b"user_id,name\nu1,Ann\n", "neither a JSON object nor a CSV header"),
        (b'"event_type,user_id\n', "neither a JSON object nor a CSV header"),
        (b"{\n", "neither a JSON object nor a CSV header"),
        (b"[\n", "is a JSON array"),
        (f"[{LINE}]".encode(), "is a JSON array"),
        (b"event_type,user_id,user_id\n", "two columns 'user_id'"),
        (gzip.compress(b"", mtime=0), "is empty"),
        (gzip.compress(LINE.encode(), mtime=0)[:-20], "breaks off"),
        (b"\x1f\x8b but no gzip", "breaks off"),
    ],
)
def test_what_is_no_import_file_is_refused_before_the_first_line(file, content, reason):
    with pytest.raises(UnreadableFile, match=reason):
        lines(file(content))


def header_of(columns):
    return ",".join(["event_type", *(f"metadata.property_{number}" for number in range(1, columns))])


@pytest.mark.parametrize(
    ("header", "reason"),
    [
        (header_of(40_000), f"the header has 40,000 columns; the limit is {MAX_COLUMNS:,}"),
        (header_of(40_000) + ",event_type", "40,001 columns"),
        (header_of(MAX_COLUMNS - 1) + ",metadata.property_7", "two columns 'metadata.property_7'"),
        ("event_type" + "," * 9_000, "two columns ''"),
        (header_of(60_000), "the header has more than 1,048,576 bytes"),
        ("event_type," + "a" * MAX_LINE, "neither a JSON object nor a CSV header|more than 1,048,576 bytes"),
    ],
)
def test_a_header_is_bounded(file, header, reason):
    """Each name was compared with all others: 40,000 of them took 22 s, in which no signal was heard."""
    with pytest.raises(UnreadableFile, match=reason):
        lines(file(f"{header}\ntrack\n"))


def test_a_header_of_as_many_columns_as_there_may_be_is_read(file):
    path = file(f"{header_of(MAX_COLUMNS)}\ntrack,{'x,' * 3}{',' * (MAX_COLUMNS - 5)}\n")

    assert [(2, {"event_type": "track", "metadata": {f"property_{n}": "x" for n in (1, 2, 3)}})] == seen(path)


def test_lines_may_be_passed_over_on_the_way(file):
    for path in (file("".join(f'{{"n": {n}}}\n' for n in range(1, 21))), file(f"{HEADER}\n" + f"{RECORD}\n" * 20)):
        reading = lines(path)
        numbers = [next(reading).number]
        for passed in (7, 7, 12, 3):
            reading.skip(passed)
            numbers.append(next(reading).number)
        reading.close()

        begun = numbers[0]
        assert [begun, 8, 9, 13, 14] == numbers


def test_a_format_that_was_asked_for_is_insisted_on(file):
    with pytest.raises(UnreadableFile):
        lines(file(f"{HEADER}\n{RECORD}"), format="ndjson")
    with pytest.raises(UnreadableFile):
        lines(file(LINE), format="csv")


def test_a_file_that_is_not_there_is_said_so(tmp_path):
    with pytest.raises(FileNotFoundError):
        lines(tmp_path / "nowhere")


def test_a_gzip_that_breaks_off_gives_what_there_was(file):
    whole = gzip.compress(b"".join(f'{{"n":{n * 7919 % 100_003}}}\n'.encode() for n in range(200_000)))
    read = []
    with pytest.raises(UnreadableFile, match="breaks off") as caught:
        for line in lines(file(whole[: len(whole) // 2])):
            read.append(line.number)  # noqa: PERF401  # what was read before it breaks off is what this is about

    assert 10_000 < len(read)
    assert isinstance(caught.value, UserpilotError)


def test_how_far_reading_has_come_is_told(file):
    path = file(f"{LINE}\n" * 20_000)
    source = lines(path)

    assert 0 == source.bytes_read
    next(source)
    assert 0 < source.bytes_read < path.stat().st_size
    assert 19_999 == sum(1 for _ in source)
    assert path.stat().st_size == source.bytes_read


def test_a_file_that_is_let_go_of_has_no_more_lines(file):
    source = lines(file(f"{LINE}\n" * 3))
    next(source)
    source.close()

    assert isinstance(source, Lines)
    assert [] == list(source)


# ── written and read again ──

rows = st.builds(
    lambda row, metadata, more: checked({**row, **more, "metadata": metadata}),
    st.sampled_from([TRACK, {**TRACK, "event_type": "identify_user", "event_name": ""}]),
    st.dictionaries(names, plain_values, max_size=4),
    st.fixed_dictionaries(
        {},
        optional={
            # Python 3.10's csv knows no NUL.
            "user_id": st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1).filter(str.strip),
            "browser": st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1),
            "company_id": ids.filter(lambda one: "\0" not in one),
            "screen_width": st.integers(0, 10_000),
        },
    ),
)


@pytest.mark.parametrize("write", [write_ndjson, write_csv])
@pytest.mark.parametrize("name", ["rows", "rows.gz"])
@given(given_rows=st.lists(rows, min_size=1, max_size=4))
def test_what_is_written_is_read_as_it_was(tmp_path_factory, write, name, given_rows):
    path = tmp_path_factory.getbasetemp() / f"{write.__name__}-{name}"

    assert len(given_rows) == write(path, given_rows)
    assert given_rows == [checked(line.fields) for line in lines(path)]
    assert name.endswith(".gz") == (path.read_bytes()[:2] == b"\x1f\x8b")


@pytest.mark.parametrize("write", [write_ndjson, write_csv])
def test_rows_of_python_are_written_too(tmp_path, write):
    row = IdentifyUser(user_id="u1", inserted_at="2024-12-01T08:55:43", metadata={"plan": None, "seats": 2})
    write(tmp_path / "rows", [row])

    assert [row.as_dict()] == [checked(line.fields) for line in lines(tmp_path / "rows")]


@given(st.binary(max_size=200), st.sampled_from([LINE + "\n", HEADER + "\n"]))
def test_whatever_follows_a_good_beginning_is_read_or_named(tmp_path_factory, rest, beginning):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(beginning.encode() + rest)

    for line in lines(path):
        assert (line.fields is None) != (line.error is None)
        line.raw.encode()


# ── what must not hold anybody up, or show what is in it ──


@pytest.mark.parametrize(("piece", "end", "skip"), [("\n", "", 1), ("x", "\n", 1), (f"{LINE}\n", "", 1_000_000)])
def test_reading_takes_a_rest_where_there_is_long_nothing_to_give_out(file, piece, end, skip, monkeypatch):
    """A step that takes a minute cannot be cancelled for a minute."""
    shorter = length.step()  # a rest after so much less, in a file that is so much smaller
    for module in (_physical_lines, _reading):
        monkeypatch.setattr(module, "REST", REST // shorter)
    times = 30_000_000 // shorter // len(piece)
    path = file(f"{LINE}\n{piece * times}{end}{LINE}\n", "a.ndjson")
    reading = lines(path, skip=min(skip, times + 1))
    found = []
    while True:
        try:
            found.append(reading.next_or_rest())
        except StopIteration:
            break
    given = [line for line in found if line is not None and line.error is None]

    assert 2 <= found.count(None) <= 10
    assert 1 == len(given)


def test_a_file_that_begins_with_nothing_but_blank_lines_is_none(file):
    path = file(gzip.compress(b"\n" * 30_000_000), "a.ndjson.gz")

    with pytest.raises(UnreadableFile, match="begins with more than 4,194,304 bytes of blank lines"):
        lines(path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="a POSIX pipe")
def test_a_pipe_is_refused_with_the_reason():
    reading, writing = os.pipe()
    try:
        with pytest.raises(UnreadableFile, match="must be a file that can be read again, not a pipe"):
            lines(f"/dev/fd/{reading}")
    finally:
        os.close(reading)
        os.close(writing)


def test_a_line_does_not_show_what_is_in_it(file):
    (line,) = lines(file(b'{"email": "alice@example.com"}\n', "a.ndjson"))

    assert "alice" not in repr(line)


@pytest.mark.parametrize(
    ("write", "name"), [(write_ndjson, "a.ndjson.gz"), (write_ndjson, "a.ndjson"), (write_csv, "a.csv")]
)
def test_a_new_file_of_rows_is_only_its_owners(tmp_path, write, name):
    write(tmp_path / name, [])

    assert 0o600 == (tmp_path / name).stat().st_mode & 0o777


@pytest.mark.parametrize("write", [write_ndjson, write_csv])
def test_a_file_of_rows_that_others_could_read_is_written_anew_for_its_owner_alone(tmp_path, write):
    path = tmp_path / "a"
    path.write_text("what was there before, and is longer than a line of names " * 10)
    path.chmod(0o644)
    write(path, [])

    assert 0o600 == path.stat().st_mode & 0o777
    assert "before" not in path.read_text()


def test_rows_go_where_a_link_of_ones_own_leads_and_into_a_pipe(tmp_path):
    (tmp_path / "rows.ndjson").touch()
    (tmp_path / "link").symlink_to("rows.ndjson")
    reading, writing = os.pipe()
    with os.fdopen(reading) as pipe, os.fdopen(writing, "w") as end:
        counts = [
            write_ndjson(path, [IdentifyUser(user_id="u1", inserted_at="2024-12-01T08:55:43")])
            for path in (tmp_path / "link", f"/dev/fd/{end.fileno()}")
        ]
        end.close()
        piped = pipe.read()

    assert [1, 1] == counts
    assert piped == (tmp_path / "rows.ndjson").read_text() != ""
    assert 1 == write_ndjson(os.devnull, [IdentifyUser(user_id="u1", inserted_at="2024-12-01T08:55:43")])


@pytest.mark.parametrize("write", [write_ndjson, write_csv])
@pytest.mark.parametrize("name", ["a", "a.gz"])
def test_a_file_of_rows_is_not_written_where_a_link_leads(tmp_path, write, name):
    (tmp_path / "victim").write_text("precious")
    (tmp_path / name).symlink_to("victim")
    tmp_path.chmod(0o777)  # anybody may have put it there

    with pytest.raises(OSError, match="is a symbolic link"):
        write(tmp_path / name, [])
    assert "precious" == (tmp_path / "victim").read_text()
