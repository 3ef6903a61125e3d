"""The guides of Django and Celery as their readers follow them: under gunicorn, uvicorn, and Celery's own worker.

The guides come from the installed package, so it is the wheel that has them.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from queue import SimpleQueue

import httpx
import pytest

from userpilot_async import UserpilotClient, blocking
from userpilot_async.guides import guide

SETTINGS = """
SECRET_KEY, ALLOWED_HOSTS, ROOT_URLCONF, USE_TZ = "none", ["*"], "shop.urls", True
INSTALLED_APPS = MIDDLEWARE = []
"""
WSGI_URLS = """
from django.urls import path
import views

urlpatterns = [path("users/<user_id>/export", views.export)]
"""
ASGI_URLS = """
from django.http import HttpResponse
from django.urls import path

def plain(request, user_id):
    import asgi
    asgi.userpilot.track_nowait(user_id, "plain")
    return HttpResponse(status=204)

async def asynchronous(request, user_id):
    import asgi
    await asgi.userpilot.track(user_id, "asynchronous")
    return HttpResponse(status=204)

urlpatterns = [path("users/<user_id>/plain", plain), path("users/<user_id>/asynchronous", asynchronous)]
"""
WSGI = """
import os
os.environ["DJANGO_SETTINGS_MODULE"] = "shop.settings"
from django.core.wsgi import get_wsgi_application
application = get_wsgi_application()
"""
BROKER = """
app.conf.broker_transport_options = {"data_folder_in": "queue", "data_folder_out": "queue", "control_folder": "queue"}
"""


class Running:
    """A program, and the lines that it writes."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self.process = process
        self.output = ""
        self._lines: SimpleQueue[str] = SimpleQueue()
        self._reader = threading.Thread(target=self._read)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.output += line
            self._lines.put(line)
        self._lines.put("")

    def wait_for(self, pattern: str) -> str:
        while line := self._lines.get(timeout=30):
            if found := re.search(pattern, line):
                return found[0]
        raise AssertionError(f"it wrote no {pattern}:\n{self.output}")

    def stop(self) -> str:
        """Its output, after it was told to stop and has."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)
        self._reader.join()
        return self.output


@contextmanager
def running(*words: str, folder: Path) -> Iterator[Running]:
    process = subprocess.Popen(
        [sys.executable, "-m", *words], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        env={**os.environ, "PYTHONUNBUFFERED": "1", "PYTHONPATH": str(folder)},
    )  # fmt: skip
    program = Running(process)
    try:
        yield program
    finally:
        if process.poll() is None:
            process.kill()
        process.wait()
        program._reader.join()
        if process.stdout is not None:
            process.stdout.close()


@pytest.fixture
def emulator(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    with running("userpilot_async.emulator", "--port", "0", folder=tmp_path) as program:
        url = program.wait_for(r"http://\S+")
        monkeypatch.setenv("USERPILOT_BASE_URL", url)
        monkeypatch.setenv("USERPILOT_API_KEY", "any-key")
        monkeypatch.chdir(tmp_path)
        yield url


def write(folder: Path, topic: str, **more: str) -> None:
    """The files of a guide, as it says, and more of them."""
    for name, code in re.findall(r"^```python (\S+)\n(.*?)^```$", guide(topic), re.MULTILINE | re.DOTALL):
        (folder / name).write_text(code)
    for name, code in more.items():
        file = folder / f"{name.replace('_', '/')}.py"
        file.parent.mkdir(exist_ok=True)
        file.write_text(code)


def events_at(url: str) -> list[str]:
    return sorted(event["event_name"] for event in httpx.get(f"{url}/__emulator__/events").json()["items"])


def test_django_under_gunicorn_tracks_in_each_worker_and_drains_at_its_end(emulator: str, tmp_path: Path) -> None:
    write(tmp_path, "django", shop_settings=SETTINGS, shop_urls=WSGI_URLS, wsgi=WSGI)
    config = tmp_path / "gunicorn.conf.py"
    config.write_text(config.read_text().replace("127.0.0.1:8000", "127.0.0.1:0"))

    with running("gunicorn", "wsgi:application", folder=tmp_path) as program:
        url = program.wait_for(r"http://\S+")
        assert [204] * 6 == [httpx.get(f"{url}/users/u{n}/export", timeout=10).status_code for n in range(6)]
        output = program.stop()

    assert 6 == sum(int(number) for number in re.findall(r"userpilot: (\d+) accepted = \1 delivered", output)), output
    assert ["report_exported"] * 6 == events_at(emulator)


def test_django_under_uvicorn_tracks_in_both_kinds_of_views(emulator: str, tmp_path: Path) -> None:
    write(tmp_path, "django", shop_settings=SETTINGS, shop_urls=ASGI_URLS)

    with running("uvicorn", "asgi:application", "--lifespan", "on", "--port", "0", folder=tmp_path) as program:
        url = program.wait_for(r"http://\S+")
        for kind in ("plain", "asynchronous"):
            assert 204 == httpx.get(f"{url}/users/u1/{kind}", timeout=10).status_code
        output = program.stop()

    assert "userpilot: 2 accepted = 2 delivered" in output
    assert ["asynchronous", "plain"] == events_at(emulator)


def test_celerys_workers_put_into_a_file_from_which_another_process_sends(emulator: str, tmp_path: Path) -> None:
    write(tmp_path, "celery")
    tasks = tmp_path / "tasks.py"
    tasks.write_text(tasks.read_text().replace("redis://localhost:6379/0", "filesystem://") + BROKER)
    (tmp_path / "queue").mkdir()

    with running(
        "celery", "-A", "tasks", "worker", "--concurrency", "2", "--loglevel", "INFO", folder=tmp_path
    ) as program:
        program.wait_for(r"celery@\S+ ready")
        call = "from tasks import export_report; [export_report.delay(f'u{n}') for n in range(4)]"
        subprocess.run([sys.executable, "-c", call], cwd=tmp_path, check=True, timeout=30)
        for _ in range(4):
            program.wait_for(r"Task tasks.export_report\[\S+\] succeeded")
        program.stop()

    with blocking(UserpilotClient(outbox="sqlite:///userpilot.db")) as userpilot:
        report = userpilot.flush(30)
    assert "4 accepted = 4 delivered" in str(report)
    assert ["report_exported"] * 4 == events_at(emulator)
