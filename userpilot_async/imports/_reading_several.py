"""The lines of several files, one file after the other, with one numbering."""

from __future__ import annotations

from collections.abc import Generator, Sequence
from contextlib import closing, suppress

from anyio.to_thread import run_sync

from ._containers import size_of
from ._files import File, Files, Location, Start, named
from ._physical_lines import EmptyFile, UnreadableFile
from ._reading import Line, Lines, lines


class LinesOfSeveral(Lines):
    """Lines of files, each of which is of its own kind; those that are passed over as a whole are not opened."""

    def __init__(self, files: Files, skip: int, known: Sequence[Start]) -> None:
        """``known``: where the files begin that were read before, as far as that is known."""
        self._files = files.paths
        self._skip = skip
        self._known = known
        self._present: Lines | None = None
        self._bytes = 0
        self.starts: list[Start] = []
        self.passed = 0
        self._lines = self._all()

    def skip(self, number: int) -> None:
        """Pass over the lines up to and including this number; those that were given out already stay so."""
        self._skip = number
        if self._present is not None:
            self._present.skip(number)

    @property
    def bytes_read(self) -> int:
        """How far into the files reading has come, in bytes as they lie on the disk."""
        return self._bytes + (0 if self._present is None else self._present.bytes_read)

    def _all(self) -> Generator[Line | None]:
        begins: dict[int, int] = {}
        for start in self._known:
            begins.setdefault(start.file, start.before)
        for place, path in enumerate(self._files):
            end = begins.get(place + 1)
            if end is not None and end <= self._skip:
                self.starts += [start for start in self._known if start.file == place]
                self.passed = end
                with suppress(OSError):  # it need not be there any more
                    self._bytes += size_of(path)
                continue
            self.starts.append(Start(self.passed, str(path), place))
            try:
                yield from self._of(place, path)
            except EmptyFile:
                continue
            except UnreadableFile as exc:
                raise UnreadableFile(f"{path}: {exc}") from exc

    def _of(self, place: int, path: File) -> Generator[Line | None]:
        with closing(lines(path, skip=self._skip, before=self.passed)) as reading:
            self._present, members = reading, 0
            try:
                while True:
                    try:
                        line = reading.next_or_rest()
                    except StopIteration:
                        break
                    finally:
                        for start in reading.starts[members:]:
                            self.starts.append(Start(start.before, f"{path}/{start.name}", place))
                        members = len(reading.starts)
                    yield line
            finally:
                self._present = None
                self._bytes += reading.bytes_read
            self.passed = reading.passed


def lines_of(location: Location, *, skip: int = 0, known: Sequence[Start] = ()) -> Lines:
    """The lines of a file or of several, as `lines` gives those of one; the kinds of several are found out later."""
    return LinesOfSeveral(location, skip, known) if isinstance(location, Files) else lines(location, skip=skip)


async def check_kinds(location: Location) -> list[str]:
    """Raise `UnreadableFile` for what is no import file, as far as first lines show, and `OSError`; one file a step.

    Gives sentences on files that are passed over, because they are empty and there are others.
    """
    if not isinstance(location, Files):
        await run_sync(_check_kind, location)
        return []
    empty: list[str] = []
    for path in location.paths:
        try:
            await run_sync(_check_kind, path)
        except EmptyFile:
            empty.append(str(path))
        except UnreadableFile as exc:
            raise UnreadableFile(f"{path}: {exc}") from exc
    if len(empty) == len(location.paths):
        raise UnreadableFile("the files are all empty")
    return [f"empty, and passed over: {named(empty)}"] if empty else []


def _check_kind(path: File) -> None:
    lines(path).close()
