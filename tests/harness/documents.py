"""The README and the guides as their readers have them: pages, and the blocks of code in them."""

from __future__ import annotations

import re
from pathlib import Path

import attrs

ROOT = Path(__file__).parents[2]
GUIDES = ROOT / "userpilot_async" / "guides"
BLOCK = re.compile(r"^```(\w*)(?: (\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@attrs.frozen
class Block:
    """A fenced block of code."""

    page: str
    line: int
    language: str
    name: str
    """The name of the file that it is, if it has one."""
    code: str = attrs.field(repr=False)

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def is_script(self) -> bool:
        """A whole program, that runs and ends."""
        ends = ("asyncio.run(", "trio.run(", "with blocking(")
        return self.language == "python" and not self.name and any(mark in self.code for mark in ends)


@attrs.frozen
class Page:
    """The README, or a guide."""

    name: str
    text: str = attrs.field(repr=False)

    @property
    def lines(self) -> list[str]:
        return self.text.splitlines()

    @property
    def blocks(self) -> list[Block]:
        found = BLOCK.finditer(self.text)
        return [
            Block(self.name, self.text[: one.start()].count("\n") + 1, one[1], one[2] or "", one[3]) for one in found
        ]

    @property
    def prose(self) -> str:
        """The text without its blocks."""
        return BLOCK.sub("", self.text)

    @property
    def commands(self) -> list[str]:
        """The commands of its console blocks."""
        blocks = [block for block in self.blocks if block.language == "console"]
        return [line.removeprefix("$ ") for block in blocks for line in block.code.splitlines()]


def page(path: Path) -> Page:
    return Page(path.name, path.read_text(encoding="utf-8"))


README = page(ROOT / "README.md")
CONTRIBUTING = page(ROOT / "CONTRIBUTING.md")
PAGES = {path.stem: page(path) for path in sorted(GUIDES.glob("*.md"))}
ALL = [README, CONTRIBUTING, *PAGES.values()]
BLOCKS = [block for one in ALL for block in one.blocks]
SCRIPTS = [block for block in BLOCKS if block.is_script]


def script(name: str, *marks: str) -> Block:
    """The script of a guide in which all of these words are; there is exactly one."""
    (found,) = [one for one in PAGES[name].blocks if one.is_script and all(mark in one.code for mark in marks)]
    return found


def redis_user() -> str:
    """The user that the guide proposes for an outbox in Redis, as `users=` of a server takes it."""
    (user,) = re.findall(r"^user (pods on >PASSWORD .*)$", PAGES["machines"].text, re.MULTILINE)
    return str(user)
