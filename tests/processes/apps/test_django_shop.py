"""Django itself, with the guide's view and the guide's migration."""

from __future__ import annotations

from pathlib import Path

import httpx
import pytest

from tests.harness.documents import ROOT
from tests.harness.postgres_server import PostgresServer
from tests.harness.processes import python
from tests.harness.stage.transactions import code_of, migration

pytest.importorskip("django")

APP = Path(__file__).with_name("django_shop.py")


def test_a_view_of_django_puts_within_its_transaction_and_its_migration_makes_the_tables(
    postgres_server: PostgresServer, emulator_url: str, tmp_path: Path
) -> None:
    database = postgres_server.new_name()
    postgres_server.run(f"CREATE DATABASE {database}")
    migrations = tmp_path / "shop" / "migrations"
    migrations.mkdir(parents=True)
    for folder in (tmp_path / "shop", migrations):
        (folder / "__init__.py").touch()
    (migrations / "0001_initial.py").write_text(
        "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n    pass\n"
    )
    (migrations / "0002_userpilot.py").write_text(code_of("0002_userpilot.py"))
    (migrations / "userpilot.sql").write_text(migration(postgres_server.url_of(database)))
    (tmp_path / "views.py").write_text(code_of("views.py"))
    where = (str(tmp_path), postgres_server.url_of(database), emulator_url)
    with python(str(APP), *where, env={"PYTHONPATH": str(ROOT)}) as running:
        assert 0 == running.wait(120.0), running.output

    assert "answered 204" in running.output
    assert "1 accepted = 1 delivered" in running.output
    events = httpx.get(f"{emulator_url}/__emulator__/events").json()["items"]
    assert ["invoice_paid"] == [event["event_name"] for event in events]
