"""An application with Django whose events commit with its transactions, made of the blocks of the guide.

Run with a folder that has the guide's files, and the URLs of its database and of an emulator.
"""

from __future__ import annotations

import sys
import time
from types import ModuleType
from typing import Any

import django
from django.conf import settings
from django.core.management import call_command
from psycopg.conninfo import conninfo_to_dict

from userpilot_async import UserpilotClient, blocking

WITHIN = 60.0  # seconds


def main(folder: str, database: str, emulator: str) -> None:
    to = conninfo_to_dict(database)
    settings.configure(
        DATABASES={
            "default": {
                "ENGINE": "django.db.backends.postgresql", "NAME": to["dbname"], "USER": to["user"],
                "HOST": to["host"], "PORT": to["port"],
            }
        },
        INSTALLED_APPS=["shop"],
        USE_TZ=True,
    )  # fmt: skip
    sys.path.insert(0, folder)
    django.setup()
    call_command("migrate", verbosity=0)
    tracking: Any = ModuleType("tracking")
    sys.modules["tracking"] = tracking
    with blocking(UserpilotClient("KEY", base_url=emulator, outbox=database)) as tracking.userpilot:
        import views  # the guide's

        print("answered", views.pay(None, "u1").status_code)
        wait_for_acceptance(tracking.userpilot)
    print(tracking.userpilot.report)


def wait_for_acceptance(userpilot: Any) -> None:
    """Wait until the client, which sends, has taken what was committed."""
    deadline = time.monotonic() + WITHIN
    while not userpilot.statistics().accepted and time.monotonic() < deadline:
        time.sleep(0.02)


if __name__ == "__main__":
    main(*sys.argv[1:])
