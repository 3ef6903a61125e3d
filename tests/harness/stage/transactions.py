"""The blocks of the guide about transactions, as modules of an application; and the file that its migrations run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

from click.testing import CliRunner

from tests.harness.documents import PAGES

BLOCKS = {block.name: block.code for block in PAGES["transactions"].blocks if block.name}
NO_CHANGES: Mapping[str, str] = {}


def code_of(name: str, changed: Mapping[str, str] = NO_CHANGES) -> str:
    """The code of the block, with what is ``changed`` in it: where the test's own database is."""
    code = BLOCKS[name]
    for old, new in changed.items():
        assert old in code
        code = code.replace(old, new)
    return code


def module_of(name: str, changed: Mapping[str, str] = NO_CHANGES, *, file: Path | None = None) -> Any:
    """The block as a module, at this path. `Any`: what is in it, its reader knows."""
    made = ModuleType(name.removesuffix(".py"))
    made.__file__ = str(file)
    exec(compile(code_of(name, changed), name, "exec"), made.__dict__)
    return made


def migration(url: str) -> str:
    """What ``userpilot-async outbox migrate --sql`` prints, where no tables are."""
    from userpilot_async.cli import cli

    result = CliRunner().invoke(cli, ["outbox", "migrate", "--sql", url])
    assert 0 == result.exit_code, result.output
    return result.output
