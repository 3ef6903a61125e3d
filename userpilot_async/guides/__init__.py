"""The guides: one subject a page, as Markdown beside this module, so that they come with the package.

`userpilot-async docs` lists and shows them, `nox -s docs` makes a site of them, and the tests run every block of code
in them. A page's first line is its title, its third the sentence by which it is listed; it has 200 lines at most.
`TOPICS` is their order for readers. Links go from page to page by file name (``durability.md#headings-as-here``).
"""

from __future__ import annotations

import difflib
from importlib import resources

__all__ = ["TOPICS", "guide", "near", "summary", "title"]

TOPICS = (
    "fastapi", "aiohttp", "django", "celery", "scripts",
    "calls", "settings", "testing",
    "durability", "machines", "postgres", "transactions", "deployment", "logging", "errors", "privacy",
    "backlog", "imports", "exports", "anonymous", "api", "commands", "parcelvoy",
    "migrating", "versions", "benchmarks", "architecture",
)  # fmt: skip
"""The names of all guides, in the order in which they are listed."""

ALSO = {
    "accounts": "settings", "alembic": "transactions", "amplitude": "exports", "async": "scripts",
    "asyncio": "scripts", "blocking": "scripts", "bulk": "api", "cli": "commands", "config": "settings",
    "configuration": "settings", "delete": "privacy", "disabled": "settings", "docker": "deployment",
    "emulator": "testing", "environment": "settings", "exceptions": "errors", "flask": "django", "gdpr": "privacy",
    "gunicorn": "deployment", "history": "imports", "identify": "calls", "k8s": "deployment",
    "kubernetes": "deployment", "log": "logging", "metrics": "logging", "migration": "migrating",
    "mixpanel": "exports", "outbox": "durability", "pgbouncer": "postgres", "pods": "machines",
    "postgresql": "postgres", "posthog": "migrating", "promises": "calls", "pytest": "testing", "quart": "aiohttp",
    "rates": "settings", "reasons": "errors", "receipts": "calls", "redis": "machines", "rudderstack": "exports",
    "segment": "migrating", "sqlalchemy": "transactions", "sqlite": "durability", "starlette": "fastapi",
    "switch": "settings", "tests": "testing", "threads": "scripts", "track": "calls", "trio": "scripts",
    "uvicorn": "deployment", "within": "transactions", "workers": "machines", "wsgi": "django",
}  # fmt: skip
"""Other words that people look for, and the guide that has them."""


def guide(topic: str) -> str:
    """The Markdown of the guide with this name, one of `TOPICS`. Raises `KeyError` for any other."""
    if topic not in TOPICS:
        raise KeyError(topic)
    return (resources.files(__name__) / f"{topic}.md").read_text(encoding="utf-8")


def title(topic: str) -> str:
    """The title of the guide with this name: its first line, without the ``#``. Raises `KeyError`."""
    return guide(topic).splitlines()[0].removeprefix("# ")


def summary(topic: str) -> str:
    """The sentence that says what the guide with this name is about: its third line. Raises `KeyError`."""
    return guide(topic).splitlines()[2]


def near(word: str) -> list[str]:
    """The names of up to three guides that may be meant by this word, the likeliest first; perhaps none."""
    asked = word.lower().removesuffix(".md")
    if asked in ALSO:
        return [ALSO[asked]]
    alike = difflib.get_close_matches(asked, [*TOPICS, *ALSO], n=3, cutoff=0.6)
    return list(dict.fromkeys(ALSO.get(name, name) for name in alike))
