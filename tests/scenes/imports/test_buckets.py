"""Exports in a bucket, by way of the file systems of `fsspec`: here one in memory that is registered as ``s3``."""

from __future__ import annotations

import gzip
import io
import json
import sys
import zipfile
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.scenes.imports.conftest import marks, track, uploads
from userpilot_async import Rejected
from userpilot_async.emulator import Fault
from userpilot_async.imports import (
    AlreadyImported,
    Conversion,
    ImportConflict,
    ImportReport,
    UnreadableFile,
    check_file,
    import_file,
)
from userpilot_async.imports._anonymous import JOINED
from userpilot_async.imports._remote import RemoteFile

fsspec = pytest.importorskip("fsspec")
pytestmark = [pytest.mark.anyio, pytest.mark.virtual]


@pytest.fixture
def bucket(monkeypatch) -> Iterator[Any]:
    """A file system in memory, which is what ``s3://`` means meanwhile."""
    from fsspec.implementations.memory import MemoryFileSystem
    from fsspec.registry import _registry

    monkeypatch.setitem(_registry, "s3", MemoryFileSystem)
    system = MemoryFileSystem()
    yield system
    system.store.clear()
    system.pseudo_dirs[:] = [""]


@pytest.fixture
def export(bucket) -> str:
    """Eight packed files of an export."""
    for hour in range(8):
        content = "".join(f"{json.dumps(track(hour * 2 + n))}\n" for n in range(2)).encode()
        bucket.pipe(f"/exports/2024/{hour}.json.gz", gzip.compress(content))
    bucket.pipe("/exports/2024/.hidden", b"\0")
    return "s3://exports/2024/"


@pytest.fixture
def run(new_api, tmp_path) -> Callable[..., Any]:
    async def run(path: Any, **options: Any) -> ImportReport:
        async with new_api() as api:
            return await import_file(api, path, journal=tmp_path / "2024.import", **options)

    return run


async def test_a_folder_is_read_as_one_and_gone_on_with(run, export, emulator):
    emulator.faults.add(Fault(path="/v1/imports", status=401, skip=1))
    with pytest.raises(Rejected):
        await run(export, max_rows=5)
    report = await run(export, max_rows=5)

    assert list(range(16)) == marks(emulator)
    assert (16, 4) == (report.completed, len(uploads(emulator)))
    with pytest.raises(AlreadyImported):
        await run(export)


async def test_a_folder_that_has_changed_is_not_gone_on_with(run, export, bucket, emulator):
    emulator.faults.add(Fault(path="/v1/imports", status=401, skip=1))
    with pytest.raises(Rejected):
        await run(export, max_rows=5)
    bucket.pipe("/exports/2024/3.json.gz", gzip.compress(json.dumps(track(99)).encode()))
    with pytest.raises(ImportConflict, match="has changed since"):
        await run(export, max_rows=5)


async def test_files_and_archives_are_read_where_they_lie(run, bucket, written, emulator, tmp_path):
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("a.json", json.dumps(track(1)))
        archive.writestr("b.json", "{}")
    bucket.pipe("/exports/x.zip", packed.getvalue())
    bucket.pipe("/exports/y.json", json.dumps(track(2)).encode())
    report = await run([written([track(0)]), "s3://exports/x.zip", "s3://exports/y.json"])

    assert [0, 1, 2] == marks(emulator)
    assert ("s3://exports/x.zip/b.json",) == report.first_errors_in
    assert tmp_path / "history.ndjson.and-more.rejected.ndjson" == report.rejected


async def test_refused_rows_lie_beside_the_journal(run, bucket, tmp_path):
    bucket.pipe("/exports/y.json", b'{"event_type": "track"}')
    report = await run("s3://exports/y.json")

    assert tmp_path / "2024.import.rejected.ndjson" == report.rejected


async def test_a_check_needs_no_journal_and_an_import_does(export, new_api):
    assert 16 == (await check_file(export)).valid
    async with new_api() as api:
        with pytest.raises(ValueError, match="journal is missing: nothing lies beside s3://exports/2024/"):
            await import_file(api, export)


@pytest.mark.parametrize(
    "url",
    ["http://example.com/x", "https://example.com/x", "file:///etc/passwd", "memory://x", "simplecache::s3://b/x"],
)
async def test_no_other_protocol_is_followed(url):
    with pytest.raises(UnreadableFile, match=r":// is not read: only paths of this machine are, and s3://, gs://"):
        await check_file(url)


async def test_a_chain_behind_a_bucket_is_a_name_in_it(bucket):
    with pytest.raises(FileNotFoundError):
        await check_file("s3://exports/x::http://example.com/y")


@pytest.mark.parametrize(("missing", "package"), [("fsspec", "s3fs"), ("s3fs", "s3fs")])
async def test_a_missing_package_is_one_line_that_says_what_to_install(monkeypatch, missing, package):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(UnreadableFile, match=rf"s3:// is read by a package that is missing: pip install {package}$"):
        RemoteFile("s3://exports/x")


async def test_what_a_bucket_refuses_is_an_error_that_names_the_file(bucket, export, monkeypatch):
    def fail(*args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("no credentials")

    monkeypatch.setattr(type(bucket), "isdir", fail)
    with pytest.raises(OSError, match="s3://exports/2024/ cannot be read: RuntimeError: no credentials"):
        await check_file(export)


async def test_what_the_bucket_says_of_the_bytes_is_enough_to_tell_a_file():
    found = RemoteFile.__new__(RemoteFile)
    object.__setattr__(found, "url", "s3://b/x")
    object.__setattr__(found, "_found", {"size": 3, "ETag": '"abc"', "type": "file"})

    assert ('ETag "abc"', 3, False) == (found.digest(), found.size(), found.is_dir())


async def test_people_are_learnt_from_all_that_is_in_a_bucket(run, bucket, written):
    call = {"type": "track", "anonymousId": "a1", "event": "e", "timestamp": "2024-12-01T08:00:00Z"}
    bucket.pipe("/exports/2024/1.json", json.dumps(call).encode())
    bucket.pipe("/exports/2024/2.json", json.dumps({**call, "userId": "u1"}).encode())
    join = Conversion("segment", anonymous="join")

    assert {JOINED: 1} == (await run("s3://exports/2024/", converted_from=join)).notes
    assert {JOINED: 2} == (await check_file([written([call]), "s3://exports/2024/"], converted_from=join)).notes
