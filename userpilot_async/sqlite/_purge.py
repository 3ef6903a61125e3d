"""Erase a person, or a company, from the file: what waits, what is kept, and what is left of what has gone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from typing import Any

from .._calls.pairs import unsealed_pair
from .._calls.payload import identify_in
from .._calls.stored import UNREADABLE, Stored, unsealed
from .._calls.values import encode_json, size_of
from .._errors.tree import OutboxError
from .._outbox.admin import DELETIONS, OF_COMPANIES, PURGED, PurgeReport, Subject, keys_in, names_company
from ._file import File
from ._sealed import checked
from ._tables import conclude


def sweep(file: File) -> None:
    """Clear what SQLite has left of erased rows, in free pages and in its log. Raises `OutboxError`."""
    try:
        for statement in ("VACUUM", "PRAGMA wal_checkpoint(TRUNCATE)"):
            answer = file.db.execute(statement).fetchone()
            if answer is not None and answer[0]:
                raise OutboxError("another process is reading it")
    except (sqlite3.OperationalError, OutboxError) as error:
        rest = "is erased, but what SQLite leaves in free pages and in its log could not be cleared"
        raise OutboxError(f"{file.path}: the person {rest} ({error}): try again") from error


class Search:
    """All that the file has of a person or company; the caller holds the turn."""

    def __init__(self, file: File, whose: Subject, keys: set[str]) -> None:
        self._file = file
        self._db = file.db
        self._whose = whose
        self._keys = keys
        self._texts = [encode_json(key) for key in sorted({*keys, whose.id})]
        self._ids: dict[str, list[int]] = {}
        self._pairs: list[int] = []
        self._rewritten: dict[str, list[tuple[Any, ...]]] = {"calls": [], "lost": []}

    def run(self) -> PurgeReport:
        """Search every table; gives what would be erased."""
        erased = PurgeReport()
        for table in ("calls", "lost"):
            meant = {call_id for call_id, keys in self._rows(table) if self._is_meant(keys, erased)}
            self._ids[table] = sorted(meant.union(self._spoilt(table)))
            if self._whose.kind == "company":
                self._rewritten[table] = list(self._without_company(table))
        self._ids["damaged"] = list(self._damaged())
        self._pairs = list(self._pairs_of(erased))
        erased.waiting, erased.lost, erased.damaged = (len(self._ids[one]) for one in ("calls", "lost", "damaged"))
        erased.changed = sum(map(len, self._rewritten.values()))
        erased.unclear = self._db.execute("SELECT count(*) FROM damaged").fetchone()[0] - erased.damaged
        return erased

    def _rows(self, table: str) -> Iterator[tuple[int, set[str]]]:
        """Rows whose key has the id in it, with all ids in that key."""
        chosen = f"{'IN' if self._whose.kind == 'company' else 'NOT IN'} {OF_COMPANIES}"
        if table == "calls":
            chosen += f" AND kind NOT IN {DELETIONS}"
        found = " OR ".join("instr(key, ?)" for _ in self._texts)
        for call_id, key in self._db.execute(
            f"SELECT id, key FROM {table} WHERE kind {chosen} AND ({found}) ORDER BY id", self._texts
        ):
            try:
                known = keys_in(key)
            except UNREADABLE:  # a damaged row: the id stands there, which is enough
                known = list(self._keys)
            yield call_id, set(known)

    def _is_meant(self, keys: set[str], erased: PurgeReport) -> bool:
        meant = not keys.isdisjoint(self._keys)
        if meant:
            erased.known_as |= keys - self._keys
        return meant

    def _spoilt(self, table: str) -> Iterator[int]:
        """Rows whose checksum is wrong, and in which the id stands: they were not found yet, to be set aside."""
        query = f"SELECT id, at, size, kind, key, said, moment, crc FROM {table} WHERE instr(said, ?)"
        for call_id, at, size, *stored, crc in self._db.execute(query, (encode_json(self._whose.id).encode(),)):
            if checked(call_id, at, size, stored, crc, ()) is None:
                yield call_id

    def _damaged(self) -> Iterator[int]:
        needles = [text.encode() for text in self._texts]
        for call_id, *fields in self._db.execute("SELECT id, key, said FROM damaged"):
            if any(needle in _as_bytes(field) for field in fields for needle in needles):
                yield call_id

    def _pairs_of(self, erased: PurgeReport) -> Iterator[int]:
        """Pairs of the person's keys, and of such as are named with them."""
        if self._whose.kind == "company":
            return
        found = " OR ".join("instr(said, ?)" for _ in self._texts)
        for number, text in self._db.execute(f"SELECT id, said FROM pairs WHERE {found} ORDER BY id", self._texts):
            pair = unsealed_pair(text)
            if pair is None or self._is_meant(set(pair), erased):
                yield number

    def _without_company(self, table: str) -> Iterator[tuple[Any, ...]]:
        """Identifies of users that name the company: they stay, and say nothing of it any more."""
        query = f"SELECT id, at, size, kind, key, said, moment, crc FROM {table} WHERE kind = 'user' AND instr(said, ?)"
        for call_id, at, size, *stored, crc in self._db.execute(query, (encode_json(self._whose.id).encode(),)):
            call = checked(call_id, at, size, stored, crc, ())
            if call is None or not names_company(call, self._whose.id):
                continue
            kind, key, payload = call
            identify = identify_in(payload)
            if identify is None:
                continue
            metadata, fields, _, _ = identify
            others = {name: value for name, value in (fields or {}).items() if name != "company_id"} or None
            its_size = size_of(metadata) + (size_of(others) if others else 0)
            changed = Stored.of(kind, key, (metadata, others, its_size, None))
            yield changed.body, its_size, changed.checksum(call_id, at, its_size), call_id

    def erase(self) -> None:
        """In one transaction, and heard by all who use the file."""
        account, waiting = self._file.tables.account(), self._ids["calls"]
        for table, ids in self._ids.items():
            self._delete(table, ids)
        self._delete("parts", waiting)
        self._db.executemany("UPDATE pairs SET said = NULL WHERE id = ?", [(one,) for one in self._pairs])
        if self._whose.kind == "company":
            parts = self._db.execute("SELECT id, key FROM parts").fetchall()
            theirs = [(call_id, key) for call_id, key in parts if _subject_of(key) == self._whose.id]
            self._db.executemany("DELETE FROM parts WHERE id = ? AND key = ?", theirs)
        for table, rows in self._rewritten.items():
            self._db.executemany(f"UPDATE {table} SET said = ?, size = ?, crc = ? WHERE id = ?", rows)
        if waiting:
            tables = self._file.tables
            for call_id in waiting:
                tables.keys.settle((call_id, call_id), PURGED)
            tables.write_news([conclude(account, PURGED, waiting, [])], tables.newest_news())
        account.bytes = self._file.tables.total_size()
        self._file.tables.write_account(account)

    def _delete(self, table: str, ids: list[int]) -> None:
        self._db.executemany(f"DELETE FROM {table} WHERE id = ?", [(one,) for one in ids])


def _subject_of(key: Any) -> Any:
    """The user or company of whom the server knows a part; ``None`` where it is damaged."""
    try:
        return unsealed(key)[2]
    except UNREADABLE:
        return None


def _as_bytes(value: Any) -> bytes:
    """Whatever a damaged row has in a field, as bytes."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "surrogateescape")
