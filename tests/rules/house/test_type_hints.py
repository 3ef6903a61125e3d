"""`typing.get_type_hints` answers for every public class and method, as dependency injection and validators ask it."""

from __future__ import annotations

import inspect
import typing

import pytest

import userpilot_async
from userpilot_async import emulator, imports, parcelvoy, redis, sqlite


def named() -> dict[str, object]:
    """Every public function and class, and every method of those, also of what they are made of."""
    found: dict[str, object] = {}
    for module in (userpilot_async, emulator, imports, parcelvoy, redis, sqlite):
        for name in module.__all__:
            thing = getattr(module, name)
            found[f"{module.__name__}.{name}"] = thing
            for base in thing.__mro__ if inspect.isclass(thing) else ():
                for attribute, member in vars(base).items() if base.__module__.startswith("userpilot_async") else ():
                    function = getattr(member, "fget", None) or getattr(member, "__func__", member)
                    if inspect.isfunction(function):
                        found[f"{module.__name__}.{name}.{attribute}"] = function
    each = {thing: name for name, thing in found.items() if inspect.isclass(thing) or inspect.isfunction(thing)}
    return {name: thing for thing, name in each.items()}


@pytest.mark.parametrize("name", sorted(NAMED := named()))
def test_the_hints_of_a_public_name_can_be_resolved(name):
    typing.get_type_hints(NAMED[name])


def test_a_transport_is_a_type_of_our_own():
    assert "Transport" in str(typing.get_type_hints(userpilot_async.UserpilotClient.__init__)["transport"])
