"""What the log says of losses, added up."""

from __future__ import annotations

import re
from collections import Counter

from tests.harness.stage.calls import Log

LOSS = re.compile(r"userpilot: (\d+) (?:calls? lost, reason (\w+):|of \d+ calls? dropped on close:)")


def losses_in(log: Log) -> Counter[str]:
    said: Counter[str] = Counter()
    for _, line in log.lines:
        found = LOSS.match(line)
        if found is not None:
            said[found[2] or "closed"] += int(found[1])
    return said


def merged_in(log: Log) -> int:
    return sum(int(more) for _, line in log.lines for more in re.findall(r"(\d+) more had been merged", line))
