"""Which keys are one person's: found over any chain, and remembered until there are too many."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from userpilot_async._schedule.identities import MAX_KEYS, Identities

KEYS = st.sampled_from([f"k{n}" for n in range(12)])


def nobody_waits(key: str) -> bool:
    return False


def joined(same: Identities, key: str, to: str) -> None:
    """As the lines join them: by the keys that stand for the two persons, if they are two."""
    end, start = same.find(to), same.find(key)
    if start != end:
        same.join(start, end, nobody_waits)


def full(first: str = "k0") -> Identities:
    """As many joined keys as are remembered: ``first``, and others."""
    same = Identities()
    for key in [first, *(f"other-{n}" for n in range(1, MAX_KEYS))]:
        same.join(key, "to-" + key, nobody_waits)
    return same


def test_a_key_that_was_never_joined_stands_for_itself() -> None:
    assert "k0" == Identities().find("k0")


def test_nothing_joined_is_false_so_that_nobody_need_look() -> None:
    same = Identities()
    before = bool(same)
    same.join("a", "e", nobody_waits)

    assert (False, True) == (before, bool(same))


def test_a_chain_leads_to_its_end_from_everywhere() -> None:
    same = Identities()
    for key, to in [("k0", "k1"), ("k1", "k2"), ("k2", "k3")]:
        same.join(key, to, nobody_waits)

    assert ["k3"] * 4 == [same.find(f"k{n}") for n in range(4)]


def test_a_chain_of_all_that_is_remembered_is_walked_and_then_short() -> None:
    """Each look at a chain of 100,000 would otherwise cost as much as the first: 10 ms of the application's loop."""
    same = Identities()
    for n in range(MAX_KEYS):
        same.join(f"k{n}", f"k{n + 1}", nobody_waits)

    assert f"k{MAX_KEYS}" == same.find("k0")
    assert {f"k{MAX_KEYS}"} == {same._leads_to[f"k{n}"] for n in range(0, MAX_KEYS, 997)}


@given(st.lists(st.tuples(KEYS, KEYS), max_size=30), st.lists(KEYS, max_size=10))
def test_joined_keys_are_found_together_and_others_apart(pairs: list[tuple[str, str]], looks: list[str]) -> None:
    same, groups = Identities(), {f"k{n}": {f"k{n}"} for n in range(12)}
    for key, to in pairs:
        joined(same, key, to)
        both = groups[key] | groups[to]
        groups.update(dict.fromkeys(both, both))
        for look in looks:  # walking shortens ways, and changes nothing else
            same.find(look)

    for one in groups:
        assert groups[one] == {other for other in groups if same.find(other) == same.find(one)}
        assert same.find(one) in groups[one]


def test_of_too_many_the_oldest_is_forgotten() -> None:
    same = full("k0")
    same.join("new", "e", nobody_waits)

    assert ("k0", "to-other-1", "e") == tuple(map(same.find, ["k0", "other-1", "new"]))
    assert MAX_KEYS == len(same._leads_to)


def test_a_key_that_somebody_waits_under_is_not_forgotten() -> None:
    same = full("k0")
    same.join("new", "e", {"k0", "other-2"}.__contains__)
    same.join("newer", "e", {"k0", "other-2"}.__contains__)

    assert ["to-k0", "other-1", "to-other-2", "other-3"] == [
        same.find(k) for k in ["k0", "other-1", "other-2", "other-3"]
    ]


def test_where_somebody_waits_under_every_key_none_is_forgotten() -> None:
    same = full("k0")
    same.join("new", "e", lambda key: True)

    assert ("to-k0", "e") == (same.find("k0"), same.find("new"))


def test_a_key_looked_for_often_is_not_forgotten_later_for_that() -> None:
    """By the age of the join, not of the last look: short ways must not make a key younger."""
    same = Identities()
    same.join("k0", "k1", nobody_waits)
    same.join("k1", "k2", nobody_waits)
    same.find("k0")
    for n in range(2, MAX_KEYS):
        same.join(f"other-{n}", "e", nobody_waits)
    same.join("new", "e", nobody_waits)

    assert ("k0", "k2") == (same.find("k0"), same.find("k1"))
