"""The lower bounds of pyproject.toml: each requirement has one, and what is installed keeps to them."""

from __future__ import annotations

import os
import tomllib
from importlib.metadata import version
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.version import Version

PROJECT = tomllib.loads((Path(__file__).parents[3] / "pyproject.toml").read_text())["project"]
EXTRAS = (text for extra in PROJECT["optional-dependencies"].values() for text in extra)
REQUIREMENTS = [
    one for text in (*PROJECT["dependencies"], *EXTRAS) if (one := Requirement(text)).name != PROJECT["name"]
]

OPTIONAL = {"httpx2"}  # takes httpx's place where it is installed: `nox -s httpx2` does

each = pytest.mark.parametrize("requirement", REQUIREMENTS, ids=lambda requirement: requirement.name)


@each
def test_a_requirement_has_one_lower_bound(requirement: Requirement) -> None:
    """Without one, a resolver may choose a version with a hole that is known."""
    assert [">="] == [one.operator for one in requirement.specifier if one.operator != "<"]


@pytest.mark.parametrize("requirement", [one for one in REQUIREMENTS if one.name not in OPTIONAL], ids=str)
def test_what_is_installed_keeps_to_the_bound(requirement: Requirement) -> None:
    """With ``LOWEST=1``, as `nox -s lowest` says it, it is exactly the bound: else nothing was tested."""
    (bound,) = (Version(one.version) for one in requirement.specifier if one.operator == ">=")
    installed = Version(version(requirement.name))

    assert bound == installed if os.environ.get("LOWEST") else bound <= installed
