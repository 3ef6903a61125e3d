"""The journal of an import of several files, found and opened: which of them it is still to read.

A journal lies beside the first of the files. It is found by its files, too, from beside any of them: one that was added
in front of the others, or taken away, must not begin a second import of the same rows.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import anyio
import attrs
from anyio.to_thread import run_sync

from .._delivery.credentials import KeyRing
from .._runtime.private_files import is_there
from .._userpilot.api import UserpilotAPI
from ._file_list import add_files, files_of, starts_of
from ._files import SEVERAL, Difference, File, Files, ListedFile, beside, difference, file_of, is_local, named
from ._journal import Journal
from ._journal_access import CHANGED, MAX_BYTES, SEVERAL_FILES, bind, bound, checked, done, report_of, untouched
from ._report import AlreadyImported, ImportConflict, ImportReport, JournalInUse, together
from ._schema import About

_SUFFIX = ".import"


@attrs.frozen
class OpenedJournal:
    """The journal of an import, and what is left to read of the files that were given."""

    journal: Journal
    files: Files
    """The files of this import, in the order in which they are read."""
    before: Sequence[tuple[File, str]] = ()
    """(path, fingerprint) of given files that were imported before: their profiles are carried on."""
    remarks: Sequence[str] = ()
    """Sentences on files that were added, taken away or imported before."""


@attrs.define
class _Opening:
    """The opening of a journal for the ``given`` files."""

    given: Files
    listed: Sequence[ListedFile]
    keys: KeyRing
    server: str
    before: dict[int, ImportReport] = attrs.field(factory=dict)
    """Reports of the imports by which given files (by their places) were imported before."""

    def find(self) -> Path:
        """The journal that knows some of the files, or the place of a new one; raises `ImportConflict`."""
        finished: list[Path] = []
        unfinished: list[Path] = []
        for path in _journals_beside(self.given.paths):
            with _read(path) as journal:
                if journal is None:
                    continue
                found = difference(_known(journal), self.listed)
                if found.same or found.changed:
                    (finished if journal.progress.finished or untouched(journal) else unfinished).append(path)
        if len(unfinished) > 1:
            raise ImportConflict(
                f"{unfinished[0]} and {unfinished[1]} are the journals of imports that are not complete, and each has "
                "some of these files: go on with the files of the one first, then with those of the other"
            )
        chosen = [*unfinished, *finished, beside(self.given, _SUFFIX)][0]
        for path in finished:
            if path != chosen:
                with _read(path) as journal:
                    if journal is not None:
                        self._note_imported(journal)
        return chosen

    def _note_imported(self, journal: Journal) -> None:
        """Note which of the files another journal has imported; raises `ImportConflict` if they have changed since."""
        found = difference(_known(journal), self.listed)
        for _, place in found.changed + found.same:
            same = SEVERAL_FILES if (_, place) in found.same else CHANGED
            known = done(journal, About(name="", source=same), str(self.given.paths[place]), self.keys, self.server)
            if not isinstance(known, AlreadyImported):
                raise known
            self.before[place] = known.report

    def note_imported_alone(self, places: Iterable[int]) -> None:
        """Note which of the files at these places have a journal of their own; raises `ImportConflict`."""
        for place in places:
            path = self.given.paths[place]
            if not is_local(path) or not is_there(own := beside(path, _SUFFIX)):
                continue
            with _read(own) as journal:
                if journal is None:
                    continue
                if not journal.progress.finished:
                    raise ImportConflict(
                        f"{path} has an import of its own that is not complete: give this file alone first, and then "
                        "the others with it"
                    )
                if journal.progress.uploaded:
                    about = About(name="", source=self.listed[place].fingerprint)
                    known = done(journal, about, str(path), self.keys, self.server)
                    if not isinstance(known, AlreadyImported):
                        raise known
                    self.before[place] = known.report

    def check_there(self, journal: Journal, known: Sequence[ListedFile], found: Difference) -> None:
        """Raise `ImportConflict` if files of an import that was begun are not there as they were.

        One that was read before may be gone, unless what it says of people is to be learnt again.
        """
        present = _present(known)
        reached = {start.file for start in starts_of(journal)}
        learns = bool(journal.about.people) and not journal.progress.all_read
        whole = {p for n, p in enumerate(present) if (n + 1 in reached and not learns) or journal.progress.all_read}
        missing = [known[place].name for place in found.gone if place in present and place not in whole]
        changed = [known[place].name for place, _ in found.changed]
        if missing or changed:
            since = [f"{len(changed):,} changed ({named(changed)})"] if changed else []
            since += [f"{len(missing):,} taken away ({named(missing)})"] if missing else []
            raise ImportConflict(
                f"{journal.path} is the journal of an import of {len(present):,} files that is not complete, and of "
                f"these were since then {' and '.join(since)}: give it the files as they were, or take the journal "
                f"away to begin anew ({journal.progress.uploaded:,} of their rows are uploaded, and would be there "
                f"twice{_and_of(len(known) - len(present))})"
            )

    def go_on(self, journal: Journal, known: Sequence[ListedFile], found: Difference, new: list[int]) -> OpenedJournal:
        """The rest of an import that was begun, and whose files are there as they were."""
        present = _present(known)
        gone = [known[place].name for place in found.gone if place in present]
        remarks = [f"taken away since the import began, and read before: {named(gone)}"] if gone else []
        if new:
            add_files(journal, [self.listed[place] for place in new])
            remarks.append(f"added since the import began, and read behind the others: {self._named(new)}")
        there = dict(found.same)
        paths = [self.given.paths[there[p]] if p in there else file_of(known[p].name) for p in present]
        return self._opened(journal, [*paths, *(self.given.paths[place] for place in new)], remarks)

    def begin(self, journal: Journal, about: About, new: Sequence[int]) -> OpenedJournal:
        """A new import, of the files at these places."""
        journal.begin(bound(about, self.keys, self.server), MAX_BYTES, [self.listed[place] for place in new])
        return self._opened(journal, [self.given.paths[place] for place in new], [])

    def _opened(self, journal: Journal, paths: Sequence[File], remarks: list[str]) -> OpenedJournal:
        places = sorted(self.before)
        if places:
            remarks = [*remarks, f"imported before, and not sent again: {self._named(places)}"]
        before = [(self.given.paths[place], self.listed[place].fingerprint) for place in places]
        return OpenedJournal(journal, Files(tuple(paths)), before, remarks)

    def _named(self, places: Sequence[int]) -> str:
        return named(str(self.given.paths[place]) for place in places)

    def carried_on(self, about: About) -> About:
        """The import that is asked for, with a digest of the files whose profiles it carries on."""
        series = about.series
        for place in sorted(self.before):
            series = hashlib.sha256(f"{series}\n{self.listed[place].fingerprint}".encode()).hexdigest()
        return attrs.evolve(about, series=series)


async def opened_for_several(
    api: UserpilotAPI, place: Path | None, about: About, given: Files, listed: Sequence[ListedFile],
    *, force: bool = False, rebind: bool = False,
) -> OpenedJournal:  # fmt: skip
    """The journal of these files, at ``place`` or beside one of them; raises `ImportConflict` and `AlreadyImported`."""
    keys = api.reserve(0).keys
    opening = _Opening(given, listed, keys, api.base_url)
    path = place or await run_sync(opening.find)
    journal = await run_sync(Journal, path)
    try:
        known: list[ListedFile] = []
        if not journal.created:
            await run_sync(journal.load)
            known = await run_sync(_known, journal)
        found = difference(known, listed)
        empty = journal.created or untouched(journal)
        goes_on = not empty and not journal.progress.finished
        if force and not goes_on:
            opening.before.clear()
            return await run_sync(opening.begin, journal, about, range(len(listed)))
        whole = report_of(journal) if not journal.created else ImportReport()
        opening.before |= {given: whole for place, given in found.same if known[place].imported}
        await run_sync(opening.note_imported_alone, sorted(set(found.added) - opening.before.keys()))
        about = opening.carried_on(about)
        new = sorted(set(found.added) - opening.before.keys())
        if goes_on:
            await run_sync(opening.check_there, journal, known, found)
            if journal.progress.all_read and not new:  # nobody is learnt any more
                about = attrs.evolve(about, people=journal.about.people)
            await bind(journal, checked(journal, about, str(given)), keys, api.base_url, str(given), rebind=rebind)
            return await run_sync(opening.go_on, journal, known, found, new)
        if not empty or found.changed:
            source = CHANGED if found.changed else SEVERAL_FILES
            changed = named(listed[place].name for _, place in found.changed)
            what = f"{given} (changed: {changed})" if changed else str(given)
            over = await run_sync(done, journal, attrs.evolve(about, source=source), what, keys, api.base_url)
            if not isinstance(over, AlreadyImported) or not new:
                raise over
        elif not new:
            reports = together(list(opening.before.values()))
            raise AlreadyImported(f"{given} were imported before: force=True would import them again", reports)
        return await run_sync(opening.begin, journal, about, new)
    except BaseException:
        with anyio.CancelScope(shield=True):
            await run_sync(journal.discard if journal.created else journal.close)
        raise


def check_alone(path: Path, fingerprint: str, keys: KeyRing, server: str) -> None:
    """Raise `ImportConflict` if an import of several files has this one, and `AlreadyImported` if it is over."""
    for place in _journals_beside([path]):
        with _read(place) as journal:
            if journal is None:
                continue
            known = _known(journal)
            found = difference(known, [ListedFile(str(path.resolve()), fingerprint)])
            for number, _ in found.same + found.changed:
                if not known[number].imported:
                    raise ImportConflict(
                        f"{path} is one of the files of an import that is not complete, {place}: give it with the "
                        "others, as before"
                    )
                source = SEVERAL_FILES if found.same else CHANGED
                raise done(journal, About(name="", source=source), str(path), keys, server)


def _known(journal: Journal) -> list[ListedFile]:
    """The files of a journal; if its last import has taken no line, only those of the ones before it."""
    return [one for one in files_of(journal) if one.imported or not untouched(journal)]


def _and_of(before: int) -> str:
    return f", as would those of {before:,} files that it knows as imported before" if before else ""


def _present(known: Sequence[ListedFile]) -> list[int]:
    """The places of files that this import reads, among those that its journal knows."""
    return [place for place, file in enumerate(known) if not file.imported]


def _journals_beside(paths: Iterable[File]) -> Iterator[Path]:
    for folder in dict.fromkeys(path.parent for path in paths if isinstance(path, Path)):
        yield from sorted(folder.glob(f"*{SEVERAL}{_SUFFIX}"))


@contextmanager
def _read(path: Path) -> Iterator[Journal | None]:
    """The journal at a path, for as long as it is looked at; ``None`` if no import's is there."""
    try:
        journal = Journal(path)
    except JournalInUse as error:
        raise JournalInUse(
            f"{path} is in use: another process imports several files that lie here, and these may be among them; "
            "give the command again when it has ended"
        ) from error
    try:
        if journal.created:
            yield None
        else:
            journal.load()
            yield journal
    finally:
        journal.close()
