"""TLS that is insisted on: an outbox goes through it, or says why not before anything else is said."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import trustme

from tests.contract.inline import open_now
from tests.contract.inline_postgres import InlinePostgresOutbox, processes
from userpilot_async import OutboxError

THROUGH_TLS = "SELECT count(*) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE ssl AND usename = 'writer'"


def test_an_outbox_goes_through_tls_and_to_no_server_whose_certificate_is_not_accepted(
    own_postgres: Callable[..., Any], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    authority, stranger = trustme.CA(), trustme.CA()
    certificate = authority.issue_cert("127.0.0.1")
    (chain,) = certificate.cert_chain_pems
    files = {"server.crt": chain.bytes(), "server.key": certificate.private_key_pem.bytes()}
    server = own_postgres(config={"ssl": "on"}, files=files)
    server.run("CREATE ROLE writer SUPERUSER LOGIN PASSWORD 'hunter2'")
    authority.cert_pem.write_to_path(tmp_path / "ours.pem")
    stranger.cert_pem.write_to_path(tmp_path / "a stranger's.pem")
    url = server.new_outbox(user="writer", password="hunter2")

    def checked(by: str, host: str = "127.0.0.1") -> str:
        return f"{url.replace('127.0.0.1', host)}&sslmode=verify-full&sslrootcert={tmp_path / by}"

    with processes(checked("ours.pem")) as process:
        (receipt, through_tls) = (process().put("track", "u1", b"{}", 2, 0.0), server.run(THROUGH_TLS))
    for by, host, why in (
        ("a stranger's.pem", "127.0.0.1", "its certificate is not accepted; see sslrootcert"),
        ("ours.pem", "localhost", "its certificate is for another name"),
        ("none.pem", "127.0.0.1", "the file that sslrootcert names is missing"),
    ):
        with pytest.raises(OutboxError, match=why) as refused:
            open_now(InlinePostgresOutbox(checked(by, host)))
        assert "hunter2" not in f"{refused.value!r} {refused.value.__context__!r} {caplog.text}"

    assert (0, [(1,)]) == (receipt.id, through_tls)
