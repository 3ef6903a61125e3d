"""Visitors that use an application until it refuses them, and what the application said in the end."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx

from tests.harness import Program
from tests.harness.stage.loops import Account

SAID_IN_THE_END = re.compile(
    r"userpilot: (?P<accepted>\S+) accepted = (?P<delivered>\S+) delivered \+ (?P<dead>\S+) dead"
    r" \+ (?P<dropped>\S+) dropped \+ (?P<merged>\S+) merged \+ (?P<pending>\S+) pending(?:; lost: (?P<lost>.*))?"
)


class Visitors:
    """Threads that each ask for one report after the other; `answered` are those that got a 200."""

    def __init__(self, url: str, visitors: int, at_most: int) -> None:
        self.answered: set[str] = set()
        self._url = url
        self._left = at_most
        self._news = threading.Condition()
        self._threads = [threading.Thread(target=self._visit, args=(who,), daemon=True) for who in range(visitors)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def wait_answered(self, count: int, timeout: float = 10.0) -> None:
        with self._news:
            enough = self._news.wait_for(lambda: len(self.answered) >= count, timeout)
            assert enough, f"only {len(self.answered)} of {count} requests were answered within {timeout:g} s"

    def join(self, timeout: float = 20.0) -> None:
        for thread in self._threads:
            thread.join(timeout)
            assert not thread.is_alive(), "a visitor was never refused"

    def _visit(self, who: int) -> None:
        with httpx.Client(base_url=self._url, timeout=20.0) as client:
            number = 0
            while self._take_turn():
                marker = f"{who}-{number}"
                number += 1
                try:
                    answer = client.post(f"/users/user-{who}/reports/{marker}")
                except httpx.HTTPError:
                    return  # the application has stopped listening
                if answer.status_code == 200:
                    with self._news:
                        self.answered.add(marker)
                        self._news.notify_all()

    def _take_turn(self) -> bool:
        with self._news:
            self._left -= 1
            return self._left >= 0


@contextmanager
def visitors_of(url: str, *, visitors: int = 8, at_most: int = 1_000_000) -> Iterator[Visitors]:
    load = Visitors(url, visitors, at_most)
    load.start()
    yield load
    load.join()


def accounts_in(program: Program) -> list[tuple[Account, dict[str, int]]]:
    """What each process of the application printed when it closed its client, with the losses by reason."""
    found = []
    for match in SAID_IN_THE_END.finditer(program.output):
        numbers = {name: int(text.replace(",", "")) for name, text in match.groupdict().items() if name != "lost"}
        losses = [loss.rsplit(" ", 1) for loss in (match["lost"] or "").split(";")[0].split(", ") if loss]
        found.append((Account(**numbers), {reason: int(count.replace(",", "")) for count, reason in losses}))
    return found
