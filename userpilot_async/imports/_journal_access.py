"""The journal of an import, found and opened: whose it is, and whether it may go on."""

from __future__ import annotations

import re
import secrets
from pathlib import Path
from uuid import uuid4

import anyio
import attrs
from anyio.to_thread import run_sync

from .._delivery.credentials import KeyRing
from .._userpilot.api import UserpilotAPI
from ._file_list import files_of
from ._journal import Journal
from ._report import AlreadyImported, ImportConflict, ImportReport
from ._schema import About, counts_of

ROWS = "rows"  # the source that is no file; these are known by what is in them
STREAM = "a stream"  # which is known by a digest of its lines
SEVERAL_FILES = "several files"  # the source whose files are listed in the journal
CHANGED = "changed"  # the source whose bytes are others than those that a journal knows
MAX_BYTES = 50_000_000  # of a file: "50 MB" in the vendor's page on bulk files, if its M is the smaller one


def new_name(source: str) -> str:
    """A name for upload files that no other import ever has: the job list is searched for it."""
    return f"{re.sub(r'[^A-Za-z0-9]+', '-', source).strip('-')[:40] or 'rows'}-{uuid4().hex[:16]}"


def fresh(about: About) -> Journal:
    """A new journal that goes with the process."""
    journal = Journal(None)
    journal.begin(about, MAX_BYTES)
    return journal


async def opened(
    api: UserpilotAPI, place: Path, about: About, source: str, *, force: bool = False, rebind: bool = False
) -> Journal:
    """The journal at ``place``, which is this source's and this account's; `ImportConflict` otherwise."""
    journal = await run_sync(Journal, place)
    keys = api.reserve(0).keys
    try:
        if not journal.created:
            await run_sync(journal.load)
            if not journal.progress.finished:
                mine = checked(journal, about, source)
                await bind(journal, mine, keys, api.base_url, source, rebind=rebind)
                return journal
            if not force and journal.progress.uploaded:
                raise await run_sync(done, journal, about, source, keys, api.base_url)
        about = await run_sync(bound, about, keys, api.base_url)
        await run_sync(journal.begin, about, MAX_BYTES)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await run_sync(journal.close)
        raise
    return journal


def report_of(journal: Journal, elapsed: float = 0.0) -> ImportReport:
    """The report of what the journal knows; ``elapsed`` is in seconds."""
    now = journal.progress
    return ImportReport(
        **counts_of(now),
        uploaded=now.uploaded,
        completed=now.completed,
        unconfirmed=now.unconfirmed,
        files=now.files,
        jobs=journal.jobs(),
        possible_duplicates=now.possible_duplicates,
        rejected=Path(now.rejected) if now.rejected else None,
        first_errors=journal.errors(),
        first_errors_in=journal.error_files(),
        elapsed=elapsed,
        complete=bool(now.finished),
    )


def untouched(journal: Journal) -> bool:
    """Whether the import has taken no line yet, as one that ended while it learnt, or checked its files first."""
    now = journal.progress
    return not (now.line or now.all_read or now.finished)


def checked(journal: Journal, about: About, source: str) -> About:
    """The journal's own word on its source; raises `ImportConflict` if that is another one than ``about`` says."""
    known = journal.about
    if known.source != about.source:
        raise ImportConflict(
            f"{journal.path} is the journal of an import that is not complete, and {source} is another source or has "
            "changed since: go on with the old one, or take the journal away to begin anew "
            f"({journal.progress.uploaded:,} of its rows are uploaded, and would be there twice)"
        )
    if known.converted_from != about.converted_from:
        before = f"as an export of {known.converted_from}" if known.converted_from else "as import rows"
        raise ImportConflict(f"the import of {source} was begun {before}: go on in the same way")
    if known.series not in ("", about.series):
        raise ImportConflict(
            f"the import of {source} was begun behind other files, whose users and companies its rows carry on: "
            "give the same files again, in the same order"
        )
    if known.people != about.people:
        raise ImportConflict(
            f"the import of {source} was begun with other files, which say who its anonymous people became: "
            "give the same files again, in the same order"
        )
    return known


async def bind(journal: Journal, known: About, keys: KeyRing, server: str, source: str, *, rebind: bool) -> None:
    """Go on with the journal of this account; raises `ImportConflict` for another one's, unless told to ``rebind``."""
    if not rebind and not await run_sync(_is_of, known, keys, server):
        raise ImportConflict(
            f"the import of {source} was begun with another API key or server; "
            "rebind=True goes on with this one, if it is the same account's"
        )
    if rebind or _is_old(known, keys):
        await run_sync(journal.bind, await run_sync(bound, known, keys, server))


def bound(about: About, keys: KeyRing, server: str) -> About:
    """The source and the account of a journal, with a fingerprint of the key."""
    salt = secrets.token_bytes(16)
    return attrs.evolve(about, server=server, salt=salt.hex(), key=keys.fingerprint(salt))


def _is_of(known: About, keys: KeyRing, server: str) -> bool:
    if known.server != server:
        return False
    return _is_old(known, keys) or known.key == keys.fingerprint(bytes.fromhex(known.salt))


def _is_old(known: About, keys: KeyRing) -> bool:
    """Whether the journal is this account's, and an earlier version has written it."""
    return known.key == keys.old_fingerprint(bytes.fromhex(known.salt))


def done(journal: Journal, about: About, source: str, keys: KeyRing, server: str) -> ImportConflict:
    """The error for a source that was imported to its end: `AlreadyImported`, if it is the same, and this account's."""
    when = journal.progress.finished or max((one.imported for one in files_of(journal)), default="")
    if not _is_of(journal.about, keys, server):
        return ImportConflict(
            f"{source} was imported on {when} with another API key or at another server, {journal.about.server}: "
            f"if this is another account, take {journal.path} away, or say force=True, and it is imported here, too"
        )
    if _is_old(journal.about, keys):
        journal.bind(bound(journal.about, keys, server))
    if about.source == journal.about.source == ROWS:
        message = f"{journal.path} is the journal of rows that were imported on {when}: others need one of their own"
        return AlreadyImported(message, report_of(journal))
    if about.source in (journal.about.source, *(one.fingerprint for one in files_of(journal))):
        message = f"{source} was imported on {when}: force=True would import it again, and double its events"
        return AlreadyImported(message, report_of(journal))
    if (journal.about.source == SEVERAL_FILES) != (about.source in (SEVERAL_FILES, CHANGED)):
        return ImportConflict(
            f"{journal.path} is the journal of another source, which was imported on {when}: name another journal, "
            "or say force=True"
        )
    return ImportConflict(
        f"{source} was imported on {when}, and has changed since: force=True imports all of it, and doubles the events "
        "that it had then; put new rows, and corrected ones, into a file of their own"
    )
