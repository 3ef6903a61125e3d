"""Archives and folders as they come from a tool: their files are read as one."""

from __future__ import annotations

import gzip
import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from userpilot_async.imports._containers import files_in, size_of
from userpilot_async.imports._physical_lines import UnreadableFile
from userpilot_async.imports._reading import lines
from userpilot_async.imports._sources import fingerprint

BOM = b"\xef\xbb\xbf"


def line(n: int) -> bytes:
    return json.dumps({"n": n}).encode() + b"\n"


# as an export of hours is packed: hours have no leading zero, and not every file ends with a line end
FILES = {
    "1/1_2022-01-11_10#0.json.gz": gzip.compress(line(4) + line(5)),
    "1/1_2022-01-11_4#0.json.gz": gzip.compress(line(1).rstrip()),
    "1/1_2022-01-11_9#0.json": BOM + line(2) + line(3),
    "1/empty.json.gz": gzip.compress(b""),
    "__MACOSX/1/._x.json": b"\x00\x05",
    "1/.DS_Store": b"\x00\x01",
}
TAR = b"x.json".ljust(257, b"\0") + b"ustar\x0000"  # as one begins
IN_ORDER, AS_THEY_LIE = [1, 2, 3, 4, 5], [4, 5, 1, 2, 3]


def as_zip(path: Path, files: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def as_tar(path: Path, files: dict[str, bytes], mode: str = "w:gz") -> Path:
    with tarfile.open(path, mode) as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


def as_folder(path: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
    return path


PACKED = [
    pytest.param(as_zip, IN_ORDER, id="zip"),
    pytest.param(as_tar, AS_THEY_LIE, id="tar.gz"),
    pytest.param(lambda path, files: as_tar(path, files, "w"), AS_THEY_LIE, id="tar"),
    pytest.param(as_folder, IN_ORDER, id="folder"),
]
EACH = pytest.mark.parametrize("packed", [one.values[0] for one in PACKED], ids=[one.id for one in PACKED])


@pytest.mark.parametrize(("packed", "order"), PACKED)
def test_its_files_are_read_as_one_whatever_its_name(tmp_path, packed, order):
    path = packed(tmp_path / "export", FILES)
    reading = lines(path)

    assert [(number, {"n": n}) for number, n in enumerate(order, 1)] == [(one.number, one.fields) for one in reading]
    assert 0 < reading.bytes_read <= size_of(path)


@EACH
def test_lines_that_were_read_are_passed_over(tmp_path, packed):
    path = packed(tmp_path / "export", FILES)
    numbers = [one.number for one in lines(path, skip=3)]

    assert [4, 5] == numbers


@EACH
@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"PAR1....", "x.json, within export, is a Parquet file"),
        (b"PK\x03\x04....", "x.json, within export, is an archive"),
        (gzip.compress(b"PK\x03\x04....", mtime=0), "x.json, within export, is an archive"),
        (TAR, "x.json, within export, is an archive"),
        (gzip.compress(TAR, mtime=0), "x.json, within export, is an archive"),
        (b"event_type,user_id\ntrack,u1\n", "CSV files in an archive or a folder are not read"),
        (b"", "the file is empty"),
        (gzip.compress(line(1) * 10_000, mtime=0)[:-20], "the file breaks off"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path, packed, content, words):
    path = packed(tmp_path / "export", {"x.json": content})

    with pytest.raises(UnreadableFile, match=words):
        list(lines(path))


def test_an_archive_that_breaks_off_is_said(tmp_path):
    path = as_zip(tmp_path / "export.zip", FILES)
    path.write_bytes(path.read_bytes()[:-40])

    with pytest.raises(UnreadableFile, match="breaks off"):
        lines(path)


def test_an_encrypted_archive_is_said(tmp_path):
    path = as_zip(tmp_path / "export.zip", {"x.json": line(1)})
    content = bytearray(path.read_bytes())
    for header, flags in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(header) + flags] |= 1
    path.write_bytes(content)

    with pytest.raises(UnreadableFile, match="is encrypted"):
        lines(path)


def test_what_an_import_leaves_in_a_folder_is_not_of_it(tmp_path):
    ours = ("a.json.import", "a.json.rejected.ndjson", "a.json.upload/a-000001.ndjson")
    as_folder(tmp_path, {"a.json": line(1), **dict.fromkeys(ours, line(9))})

    assert ["a.json"] == [name for name, _ in files_in(tmp_path)]


@pytest.mark.anyio
async def test_a_folder_is_known_by_the_names_and_bytes_of_its_files(tmp_path):
    folder = as_folder(tmp_path / "export", FILES)
    before = await fingerprint(folder)
    (folder / "1/.DS_Store").write_bytes(b"other")

    assert before == await fingerprint(folder)

    (folder / "1/more.json").write_bytes(b"")

    assert before != await fingerprint(folder)


@pytest.mark.parametrize(
    ("header", "tool"),
    [
        ("uuid,event_type,amplitude_id,user_id,event_time", "Amplitude"),
        ("Event,Time,Distinct ID,Browser", "Mixpanel"),
        ("event,distinct_id,time,$insert_id", "Mixpanel"),
        ("uuid,event,properties,timestamp,distinct_id,elements_chain", "PostHog"),
        ("anonymous_id;user_id;received_at;event_text", "Segment"),
        ("id,anonymous_id,channel,sent_at,context_ruddersdk", "RudderStack"),
    ],
)
def test_a_csv_export_of_a_tool_is_told_apart(tmp_path, header, tool):
    path = tmp_path / "x.csv"
    path.write_text(header + "\n")

    with pytest.raises(UnreadableFile, match=f"looks like a CSV export of {tool}: only exports as JSON lines"):
        lines(path)


def test_a_csv_file_of_rows_is_one_still(tmp_path):
    path = tmp_path / "x.csv"
    path.write_text("event_type,user_id,event_name,inserted_at\ntrack,u,e,2024-01-01T00:00:00Z\n")

    assert ["u"] == [one.fields["user_id"] for one in lines(path)]
