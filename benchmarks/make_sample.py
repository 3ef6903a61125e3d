"""Writes the sample that `userpilot-async demo` sends: `python benchmarks/make_sample.py [FILE]`.

The same seed gives the same bytes. Nobody in it exists: users are numbered, addresses end in example.com.
"""

from __future__ import annotations

import gzip
import json
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

SAMPLE = Path(__file__).resolve().parents[1] / "userpilot_async" / "cli" / "sample.ndjson.gz"
SEED = 2026
USERS, COMPANIES = 2_000, 50
IDENTIFIES, TRACKS = 20_000, 550  # tracks: fewer than the 600 that one minute takes
ACTIVE = 40  # users who have events; each costs at least one identify of its own, so that its events can follow
KNOWN_FIRST = 1_000  # lines in which every active user is introduced; their events come after these
START = datetime(2026, 1, 5, 9, 0, tzinfo=UTC)

PLANS = ("free", "team", "business", "enterprise")
ROLES = ("owner", "admin", "member", "viewer")
LOCALES = ("en-GB", "en-US", "de-DE", "fr-FR", "ja-JP", "pt-BR")
EVENTS: dict[str, dict[str, tuple[Any, ...]]] = {
    "Report Exported": {"format": ("csv", "pdf", "xlsx"), "rows": (10, 250, 4_000)},
    "Dashboard Opened": {"widgets": (3, 5, 8), "shared": (True, False)},
    "Teammate Invited": {"role": ROLES},
    "Project Created": {"template": ("blank", "sprint", "roadmap")},
    "Search Used": {"results": (0, 7, 42), "seconds": (0.12, 0.4, 1.75)},
}


class World:
    """Numbered users of numbered companies, and what happens to them."""

    def __init__(self, seed: int) -> None:
        self.chance = random.Random(seed)
        self.now = START
        self.serial = 0
        self.company_of: dict[int, int] = {}
        """Of the users that have been introduced."""

    def identify(self, user: int) -> dict[str, Any]:
        """A user as first seen, or what has changed since."""
        call: dict[str, Any] = {"type": "identify", "user_id": f"user-{user:04}"}
        if user not in self.company_of:
            self.company_of[user] = self.chance.randint(1, COMPANIES)
            return {**call, "metadata": self.introduction(user), "company": self.company(self.company_of[user])}
        call["metadata"] = self.change()
        active = user <= ACTIVE
        if self.chance.random() < (0.05 if active else 0.003):
            self.company_of[user] = self.chance.randint(1, COMPANIES)
            call["company"] = self.company(self.company_of[user])
        elif self.chance.random() < 0.1:
            call["company"] = self.company(self.company_of[user])
        return call

    def introduction(self, user: int) -> dict[str, Any]:
        return {
            "name": f"User {user}",
            "email": f"user{user}@example.com",
            "created_at": self.time(),
            "plan": self.chance.choice(PLANS),
            "role": self.chance.choice(ROLES),
            "locale": self.chance.choice(LOCALES),
            "trial_ends": self.date(14),
            "logins": 1,
            "newsletter": self.chance.random() < 0.5,
        }

    def change(self) -> dict[str, Any]:
        """Properties, one to three of them; ``None`` removes one."""
        possible = {
            "plan": self.chance.choice(PLANS),
            "role": self.chance.choice(ROLES),
            "logins": self.chance.randint(2, 400),
            "last_seen": self.time(),
            "health": self.chance.randint(0, 100) / 4,
            "newsletter": self.chance.random() < 0.5,
            "trial_ends": self.chance.choice((None, None, self.date(7))),
            "seat": self.chance.choice((None, "fixed", "floating")),
        }
        names = self.chance.sample(sorted(possible), self.chance.randint(1, 3))
        return {name: possible[name] for name in names}

    def company(self, number: int) -> dict[str, Any]:
        """The company's id; with every third, what is known of the company."""
        company: dict[str, Any] = {"id": f"company-{number:02}"}
        if self.chance.random() < 0.33:
            company["name"] = f"Company {number}"
            company["plan"] = self.chance.choice(PLANS)
            company["seats"] = self.chance.choice((None, 5, 20, 100, 500))
        return company

    def track(self) -> dict[str, Any]:
        self.serial += 1
        name = self.chance.choice(sorted(EVENTS))
        properties = {key: self.chance.choice(values) for key, values in EVENTS[name].items()}
        call: dict[str, Any] = {
            "type": "track",
            "user_id": f"user-{self.chance.randint(1, ACTIVE):04}",
            "event_name": name,
            "metadata": {"serial": self.serial, **properties},
        }
        if self.chance.random() < 0.5:
            call["occurred_at"] = self.time()
        return call

    def time(self) -> str:
        self.now += timedelta(seconds=self.chance.randint(1, 600))
        return self.now.isoformat().replace("+00:00", "Z")

    def date(self, days: int) -> str:
        return (self.now + timedelta(days=days)).date().isoformat()


def calls(world: World) -> Iterator[dict[str, Any]]:
    """Active users first, then everything mixed; zero stands for an event."""
    others = list(range(ACTIVE + 1, USERS + 1))
    early = [*range(1, ACTIVE + 1), *others[: KNOWN_FIRST - ACTIVE]]
    again = world.chance.choices(range(1, USERS + 1), k=IDENTIFIES - USERS)
    late = [*others[KNOWN_FIRST - ACTIVE :], *again, *[0] * TRACKS]
    world.chance.shuffle(early)
    world.chance.shuffle(late)
    for user in early + late:
        yield world.identify(user) if user else world.track()


def bad_lines() -> list[str]:
    """Lines that a client must refuse, one of each kind."""
    user = '"user_id":"user-0001"'
    event = f'"type":"track",{user},"event_name"'
    return [
        '{"type":"identify","user_id":"user-0001","metadata":{"plan":',
        '["identify","user-0001"]',
        '{"type":"identify","metadata":{"plan":"team"}}',
        f'{{"type":"identify",{user},"metadata":{{"tags":["beta","vip"]}}}}',
        f'{{"type":"identify",{user},"metadata":{{"address":{{"city":"Nowhere"}}}}}}',
        f'{{"type":"identify",{user},"metadata":{{"health":NaN}}}}',
        f'{{"type":"identify",{user},"metadata":{{"{"p" * 256}":1}}}}',
        f'{{"type":"identify",{user},"metadata":{{"logins":9007199254740993}}}}',
        f'{{"type":"identify",{user},"company":{{"name":"Company 1"}}}}',
        f'{{{event}:"{"e" * 256}"}}',
        f'{{{event}:"Search Used","occurred_at":"2026-01-05T09:00:00"}}',
        f'{{"type":"page",{user}}}',
    ]


def lines() -> list[str]:
    """Everything, with the bad lines spread over it."""
    world = World(SEED)
    written = [json.dumps(call, separators=(",", ":")) for call in calls(world)]
    for number, line in enumerate(bad_lines(), 1):
        written.insert(number * len(written) // 13 + world.chance.randint(0, 99), line)
    return written


def main() -> None:
    """Write the file; no time stamp in it, so that it stays the same."""
    path = Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE
    path.write_bytes(gzip.compress("".join(line + "\n" for line in lines()).encode(), 9, mtime=0))


if __name__ == "__main__":
    main()
