"""The job list page by page: every way to paginate that servers know, and what each page says of the next."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.harness.examples.strategies import json_values
from userpilot_async._protocol.job_list import MAX_PAGES, Pages, listing

HOST, PATH = "api.test", "/v1/background_jobs"
NEXT = f"https://{HOST}{PATH}?page=2"


def job(number: int) -> dict[str, Any]:
    return {"job_id": f"j{number}", "status": "completed", "filename": f"f{number}"}


def jobs(count: int, first: int = 0) -> list[dict[str, Any]]:
    return [job(n) for n in range(first, first + count)]


def walk(serve: Callable[[str], Any]) -> tuple[Pages, list[str], list[str]]:
    """The walk to its end; the ids that were shown, and the queries that were asked for."""
    pages, shown, asked = Pages(HOST, PATH), [], []
    while not pages.over:
        asked.append(pages.query)
        shown += [one.job_id for one in pages.take_in(serve(pages.query))]
    return pages, shown, asked


def page_of(query: str) -> int:
    return int(parse_qs(query).get("page", ["1"])[0])


# ── how servers paginate ──


def numbered(have: list[Any], size: int, query: str) -> Any:
    return have[(page_of(query) - 1) * size : page_of(query) * size]


def linked(have: list[Any], size: int, query: str) -> Any:
    following = f"{PATH}?page={page_of(query) + 1}" if page_of(query) * size < len(have) else None
    return {"jobs": numbered(have, size, query), "links": {"next": following}}


def linked_by_objects(have: list[Any], size: int, query: str) -> Any:
    more = page_of(query) * size < len(have)
    following = (
        {"next": {"href": f"https://{HOST}{PATH}?page={page_of(query) + 1}"}} if more else {"self": {"href": PATH}}
    )
    return {"data": numbered(have, size, query), "_links": following}


def by_relations(have: list[Any], size: int, query: str) -> Any:
    links = [{"rel": "self", "href": PATH}]
    if page_of(query) * size < len(have):
        links.append({"rel": "next", "href": f"?page={page_of(query) + 1}"})
    return {"jobs": numbered(have, size, query), "links": links}


def counted(have: list[Any], size: int, query: str) -> Any:
    return {"jobs": numbered(have, size, query), "meta": {"total_count": len(have)}}


def paged(have: list[Any], size: int, query: str) -> Any:
    return {"data": numbered(have, size, query), "total_pages": -(-len(have) // size)}


def flagged(have: list[Any], size: int, query: str) -> Any:
    return {"jobs": numbered(have, size, query), "hasMore": page_of(query) * size < len(have)}


def sized(have: list[Any], size: int, query: str) -> Any:
    return {"jobs": numbered(have, size, query), "per_page": size}


# Those that show the first page for ever.


def deaf(have: list[Any], size: int, query: str) -> Any:
    return have[:size]


def deaf_with_cursor(have: list[Any], size: int, query: str) -> Any:
    return {"jobs": have[:size], "next_cursor": "abc" if len(have) > size else None}


def deaf_with_total(have: list[Any], size: int, query: str) -> Any:
    return {"jobs": have[:size], "total": len(have)}


def linked_elsewhere(have: list[Any], size: int, query: str) -> Any:
    return {"jobs": have[:size], "links": {"next": "https://elsewhere.test/v1/background_jobs?page=2"}}


FOLLOWED = [linked, linked_by_objects, by_relations, counted, paged, flagged, sized]
TELLING = [*FOLLOWED, deaf_with_cursor, deaf_with_total, linked_elsewhere]
each = lambda ways: pytest.mark.parametrize("way", ways, ids=lambda way: way.__name__)  # noqa: E731


@each(FOLLOWED)
@pytest.mark.parametrize("size", [3, 7, 10, 25])
@pytest.mark.parametrize("count", [0, 1, 9, 10, 20, 21, 50, 63])
def test_every_page_is_read_where_the_server_says_how(way, size, count):
    have = jobs(count)
    pages, shown, _ = walk(lambda query: way(have, size, query))

    assert ([one["job_id"] for one in have], True) == (shown, pages.whole)


@pytest.mark.parametrize("size", [10, 20, 25, 50, 100])
@pytest.mark.parametrize("count", [0, 1, 9, 10, 20, 21, 50, 63, 200])
def test_a_bare_list_is_read_page_by_page_while_its_pages_look_full(size, count):
    have = jobs(count)
    pages, shown, _ = walk(lambda query: numbered(have, size, query))

    assert ([one["job_id"] for one in have], True) == (shown, pages.whole)


def test_a_short_list_costs_one_request():
    assert [""] == walk(lambda query: jobs(9))[2]


@each([deaf, deaf_with_cursor, deaf_with_total, linked_elsewhere])
def test_a_list_that_shows_its_first_page_for_ever_was_not_read_whole(way):
    have = jobs(40)
    pages, shown, asked = walk(lambda query: way(have, 20, query))

    assert (False, 20) == (pages.whole, len(shown))
    assert 2 >= len(asked)


def test_a_list_without_end_is_left_after_a_while():
    pages, _, asked = walk(lambda query: jobs(10, 10 * page_of(query)))

    assert (False, MAX_PAGES) == (pages.whole, len(asked))


def test_links_in_a_circle_are_followed_once_around():
    there = {"": "a=1", "a=1": "a=2", "a=2": "a=1"}
    pages, _, asked = walk(lambda query: {"jobs": [job(len(query) + ord(query[-1]) if query else 0)],
                                          "links": {"next": f"?{there[query]}"}})  # fmt: skip

    assert (False, ["", "a=1", "a=2"]) == (pages.whole, asked)


def test_a_page_that_the_server_does_not_know_leaves_the_end_unknown():
    pages = Pages(HOST, PATH)
    pages.take_in(jobs(10))
    pages.refused()

    assert (True, False) == (pages.over, pages.whole)


def test_a_list_that_grows_while_it_is_read_is_read_whole():
    """A job that came meanwhile shifts the others: the second page begins with one that was shown."""
    have = jobs(15)
    grown = [job(99), *have]
    pages, shown, _ = walk(lambda query: numbered(have if not query else grown, 10, query))

    assert (15, True) == (len(shown), pages.whole)


# ── one page ──


@pytest.mark.parametrize(
    ("link", "query"),
    [
        ("/v1/background_jobs?page=2", "page=2"),
        ("?page=2&per_page=50", "page=2&per_page=50"),
        (NEXT, "page=2"),
        ("http://api.test:4000/v1/background_jobs?page=2", "page=2"),
        ("//api.test/v1/background_jobs?page=2", "page=2"),
        ("/behind/a/proxy/v1/background_jobs?page=2", "page=2"),
        ({"href": NEXT}, "page=2"),
        ("https://elsewhere.test/v1/background_jobs?page=2", None),
        ("https://api.test.elsewhere.test/v1/background_jobs?page=2", None),
        ("https://api.test@elsewhere.test/v1/background_jobs?page=2", None),
        ("//elsewhere.test/v1/background_jobs?page=2", None),
        ("/v1/users?page=2", None),
        ("/v1/background_jobs", None),
        ("/v1/background_jobs?a=b c", None),
        ("/v1/background_jobs?a=\r\nHost: b", None),
        ("/v1/background_jobs?a=\u202e", None),
        ("/v1/background_jobs?a=" + "x" * 5_000, None),
        ("http://[::1", None),
        ({"href": 7}, None),
        (7, None),
    ],
    ids=lambda given: ascii(given)[:60],
)
def test_a_link_is_followed_to_the_same_list_only(link, query):
    page = listing({"jobs": jobs(3), "links": {"next": link}}, HOST, PATH)

    assert (query, True) == (page.next, page.claims_more)


@pytest.mark.parametrize("none", [None, "", "null", False, {"href": None}, {}], ids=repr)
def test_a_link_to_nowhere_is_the_end(none):
    page = listing({"jobs": jobs(20), "links": {"next": none}}, HOST, PATH)

    assert (None, False, True) == (page.next, page.claims_more, page.claims_end)


@pytest.mark.parametrize(
    "body",
    [
        None,
        "page",
        {},
        {"errors": [{"message": "no"}]},
        [None],
        [{"error": "no"}],
        [*jobs(3), 7],
        {"jobs": [*jobs(3), {}]},
    ],
    ids=lambda body: repr(body)[:30],
)
def test_what_cannot_be_read_whole_is_no_whole_list(body):
    assert not walk(lambda query: body)[0].whole


# ── whatever comes ──

enveloped = st.dictionaries(
    st.sampled_from(["jobs", "data", "links", "_links", "next", "total", "meta", "has_more", "errors", "per_page"]),
    json_values | st.integers(0, 40).map(jobs) | st.dictionaries(st.just("next"), json_values),
)


@given(st.lists(json_values | enveloped | st.integers(0, 40).map(jobs), min_size=1, max_size=5))
def test_any_answers_make_a_walk_that_ends(bodies):
    pages, _, asked = walk(lambda query: bodies[min(len(bodies) - 1, page_of(query) - 1)])

    assert MAX_PAGES >= len(asked)
    assert len(asked) == pages.read


@given(st.sampled_from(TELLING), st.integers(0, 130), st.integers(1, 60))
def test_a_list_that_says_what_it_is_is_whole_only_if_all_of_it_was_shown(way, count, size):
    have = jobs(count)
    pages, shown, _ = walk(lambda query: way(have, size, query))

    assert not pages.whole or [one["job_id"] for one in have] == shown


@given(st.sampled_from([numbered, deaf]), st.integers(0, 130), st.sampled_from([10, 15, 20, 25, 50, 100]), st.randoms())
def test_so_is_a_bare_list_with_pages_of_the_sizes_that_people_choose(way, count, size, chance: random.Random):
    have = jobs(count)
    chance.shuffle(have)
    pages, shown, _ = walk(lambda query: way(have, size, query))

    assert not pages.whole or [one["job_id"] for one in have] == shown


def test_a_link_in_the_headers_is_followed_and_one_that_leads_elsewhere_leaves_the_end_unknown():
    pages, elsewhere = Pages(HOST, PATH), Pages(HOST, PATH)
    pages.take_in(jobs(3), NEXT)
    elsewhere.take_in([], "https://other.test/?page=2")

    assert ("page=2", False) == (pages.query, pages.over)
    assert not elsewhere.whole
    pages.take_in(jobs(2, 3))
    assert pages.whole
