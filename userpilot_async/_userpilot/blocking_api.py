"""The plain HTTP API for code without an event loop: the endpoints of `api`, each of which makes its thread wait."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from .._delivery.blocking import Blocking, P, R, Runner, without_await
from .api import UserpilotAPI


class BlockingAPI(Runner[UserpilotAPI]):
    """The HTTP API without the queue and without ``await``: the attribute `api` of a blocking client."""

    def __init__(self, client: Blocking[Any]) -> None:
        self._client, self._subject = client, client._subject.api

    identify = without_await(UserpilotAPI.identify)
    identify_company = without_await(UserpilotAPI.identify_company)
    track = without_await(UserpilotAPI.track)
    bulk_identify_users = without_await(UserpilotAPI.bulk_identify_users)
    bulk_identify_companies = without_await(UserpilotAPI.bulk_identify_companies)
    import_rows = without_await(UserpilotAPI.import_rows)
    jobs = without_await(UserpilotAPI.jobs)
    job = without_await(UserpilotAPI.job)
    wait_for_job = without_await(UserpilotAPI.wait_for_job)
    delete_users = without_await(UserpilotAPI.delete_users)
    delete_companies = without_await(UserpilotAPI.delete_companies)

    def _run(self, function: Callable[P, Coroutine[Any, Any, R]], *args: P.args, **kwargs: P.kwargs) -> R:
        return self._client._run(function, *args, **kwargs)
