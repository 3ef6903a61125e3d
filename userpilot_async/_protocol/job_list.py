"""The job list, page by page: what a page shows, which one to ask for next, and whether the end was seen.

The vendor paginates the list, and documents no parameters. What is not on the pages that were read may exist all the
same, so only a list that was read to its end is a word about a file that is not on it. Links are followed; else, a
page that looks full makes us ask for ``?page=2``; and whatever claims that there is more is believed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import urlsplit

import attrs

from .jobs import Job, is_job, list_in

MAX_PAGES = 100  # read in one go; the smallest that looks full has 10 jobs, and who lists 1,000 lists the newest first
MAX_JOBS = 100_000  # kept of one list
MAX_PAGE_JOBS = 40_000  # kept of one page: a page of 16 MiB has some 37,000, of 450 bytes each
MAX_QUERY = 2_048  # characters of a link that is followed
FULL = 10  # jobs of the smallest page that looks full: people choose 10, 20, 25, 50, 100,
STEP = 5  # which are multiples of this

# As servers write them, without their capitals, dashes and underscores. What counts all jobs, what counts pages, and
# what is there (and neither false nor empty) as long as more follows.
_COUNTS_OF_JOBS = ("total", "totalcount", "totalentries", "totalitems", "totaljobs", "totalrecords", "totalresults")
_COUNTS_OF_PAGES = ("totalpages", "lastpage", "pagecount", "pages")
_SIZES = ("perpage", "pagesize", "limit")
_LINKS = ("next", "nextlink", "nextpageurl", "nexturl")
_SIGNS = (
    *_LINKS, "hasmore", "hasnext", "hasnextpage", "more", "nextcursor", "nextoffset", "nextpage", "nextpagetoken",
    "nexttoken",
)  # fmt: skip

Name = tuple[str | None, ...]
"""The values that tell a job from others, whichever page it is on."""


@attrs.frozen
class Listing:
    """A page of the list, as any JSON can be read."""

    jobs: list[Job]
    next: str | None = None
    """The query of a link to the next page, for the same path at the same host."""
    claims_more: bool = False
    """The page says that more follows, or cannot be read whole."""
    claims_end: bool = False
    """The page says that nothing follows."""
    total: int = 0
    """How many jobs the page says are in the whole list; 0 if it does not."""
    pages: int = 0
    """How many pages it says the list has; 0 if it does not."""
    full: bool = False
    """The page has as many jobs as a page may have."""
    known_as: list[Name] = attrs.field(
        init=False, default=attrs.Factory(lambda self: [_name_of(job) for job in self.jobs], takes_self=True)
    )
    """The values that tell each of the jobs from others."""


def listing(body: Any, host: str = "", path: str = "") -> Listing:
    """Read a page of JSON. ``host`` and ``path`` are where it was asked for: a link is followed to nowhere else."""
    found = list_in(body)
    if found is None:
        return Listing([], claims_more=True)
    jobs = [Job.from_wire(one) for one in found[:MAX_PAGE_JOBS] if isinstance(one, dict)]
    full = len(found) >= FULL and not len(found) % STEP
    unreadable = len(found) > MAX_PAGE_JOBS or not all(map(is_job, found))
    if not isinstance(body, dict):
        return Listing(jobs, claims_more=unreadable, full=full)
    entries = list(_entries(body))
    links = [_target(value) for name, value in entries if name in _LINKS]
    queries = [query for link in links if isinstance(link, str) and (query := _query(link, host, path))]
    signs = [_is_there(value) for name, value in entries if name in _SIGNS]
    total, pages = _largest(entries, _COUNTS_OF_JOBS), _largest(entries, _COUNTS_OF_PAGES)
    linked = any(body.get(name) and not isinstance(body[name], str) for name in ("links", "_links"))
    size = _largest(entries, _SIZES)
    return Listing(
        jobs,
        next=queries[0] if queries else None,
        claims_more=any(signs) or unreadable,
        claims_end=not any(signs) and bool(signs or linked or total or pages),
        total=total,
        pages=pages,
        full=full or 0 < size <= len(found),
    )


def read(body: Any, host: str = "", path: str = "") -> Any:
    """The `listing` that a body has in it, and any other body as it is: what takes long to read is read in a thread."""
    return body if list_in(body) is None else listing(body, host, path)


class Pages:
    """A walk through the list, one request a page: ask for `query`, and `take_in` the answer, until it is `over`.

    ``host`` is the server's, ``path`` that of the list.
    """

    def __init__(self, host: str = "", path: str = "", most: int = MAX_PAGES) -> None:
        self._host = host
        self._path = path
        self._most = most
        self.query = ""
        """Of the next page; the first has none."""
        self.read = 0
        """Pages that were taken in."""
        self.over = False
        """No further page is to be asked for."""
        self.whole = False
        """The end was seen: what has not been shown is not there."""
        self._seen: set[Name] = set()
        self._asked: set[str] = set()
        self._largest = self._total = self._pages = 0

    def take_in(self, body: Any, link: str = "") -> list[Job]:
        """The jobs of the page that was asked for, which earlier ones have not shown.

        ``body`` is the page's JSON, or the `Listing` that was made of it. ``link`` is where the answer's headers say
        that the next page is, if they do.
        """
        page = body if isinstance(body, Listing) else listing(body, self._host, self._path)
        if link and page.next is None:
            page = attrs.evolve(page, next=_query(link, self._host, self._path), claims_more=True)
        self._asked.add(self.query)
        self.read += 1
        new = []
        for job, known in zip(page.jobs, page.known_as, strict=True):
            if known not in self._seen:
                self._seen.add(known)
                new.append(job)
        self._go_on(page, bool(new))
        return new

    def refused(self) -> None:
        """The server does not know the page that was asked for: where the list ends is not known."""
        self.over = True

    def _go_on(self, page: Listing, brought: bool) -> None:
        ignored = self.read > 1 and bool(page.jobs) and not brought  # the server does not know the parameter
        self._largest = max(self._largest, len(page.jobs))
        self._total, self._pages = max(self._total, page.total), max(self._pages, page.pages)
        more = page.claims_more or self._total > len(self._seen) or self._pages > self.read
        if ignored or self.read >= self._most or len(self._seen) >= MAX_JOBS:
            self.over = True
        elif page.next is not None:
            self.query, self.over = page.next, page.next in self._asked
        elif not page.jobs or not (more or (page.full and len(page.jobs) >= self._largest and not page.claims_end)):
            self.over, self.whole = True, not more
        else:
            self.query = f"page={self.read + 1}"
            self.over = self.query in self._asked


def _entries(body: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    """The names and values of an object and of those in it, but not of lists: ``meta``, ``pagination``, ``links``."""
    for name, value in body.items():
        yield _plain(name), value
        if isinstance(value, Mapping) and _plain(name) != "next":
            yield from ((_plain(inner), one) for inner, one in value.items())
        elif isinstance(value, list) and _plain(name) == "links":
            yield from ((_plain(one.get("rel")), one) for one in value if isinstance(one, Mapping))


def _name_of(job: Job) -> Name:
    return (job.job_id, job.filename) if job.job_id else (job.filename, job.start_time, job.submitted_at)


def _plain(name: object) -> str:
    return str(name).lower().replace("_", "").replace("-", "")


def _largest(entries: list[tuple[str, Any]], names: tuple[str, ...]) -> int:
    """Of the whole numbers under these names, also written as strings; 0 if there is none."""
    numbers = [int(value) for name, value in entries if name in names and _is_count(value)]
    return max(numbers, default=0)


def _is_count(value: object) -> bool:
    if isinstance(value, str):
        return value.isascii() and value.isdigit() and len(value) < 10
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 10**9


def _target(link: Any) -> Any:
    """Where a link leads: it is a string, or an object with ``href``."""
    return link.get("href") if isinstance(link, Mapping) else link


def _is_there(sign: Any) -> bool:
    target = _target(sign)
    return bool(target) and not (isinstance(target, str) and target.strip().lower() in ("", "false", "null", "none"))


def _query(link: str, host: str, path: str) -> str | None:
    """The query of a link to a page of the same list; ``None`` if it leads elsewhere.

    The scheme and the port may differ, as behind a proxy that ends TLS: the query alone is used.
    """
    if not (link.isascii() and link.isprintable() and " " not in link and len(link) <= MAX_QUERY):
        return None
    try:
        parts = urlsplit(link)
        if parts.netloc and (not host or parts.hostname != host):
            return None
    except ValueError:  # no URL
        return None
    same = not parts.path or parts.path.rstrip("/").endswith(path.rstrip("/"))
    return parts.query if same and parts.query else None
