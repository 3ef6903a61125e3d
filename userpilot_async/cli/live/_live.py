"""The command's part: says what a run costs, asks whether it may, and ends in deleting what the run has made."""

from __future__ import annotations

import json
import os
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio
import click

from ..._userpilot.api import BASE_URLS, UserpilotAPI
from .._console import echo, echo_json
from .._exits import Exit, Failed, NotPossible, Refused, Unreachable
from .._run import Phases
from .._server import Server
from ._conversation import Conversation, Transcript
from ._questions import DELETION, QUESTIONS
from ._report import NOT_LOOKED, announcement, as_lines, as_markdown, report
from ._terms import ANSWERED, FOREIGN, Session

SEEN = {"y": "yes", "n": "no", "s": NOT_LOOKED}
Part = Callable[[UserpilotAPI, Transcript], Awaitable[None]]


def check_live(server: Server, *, yes: bool, file: Path | None, as_json: bool) -> None:
    """Ask the questions that only a key can answer, and write down what was learned; ends the command."""
    _check_writable(file)
    prefix = f"userpilot-async-check-{uuid4().hex[:12]}"
    session = Session(prefix, datetime.now(UTC).replace(tzinfo=None).isoformat(timespec="seconds"))
    api = server.api(attempts=1)
    echo(*announcement(QUESTIONS, DELETION, api.base_url, prefix), "", err=True)
    if not yes and not _agreed():
        echo("nothing was sent", err=True)
        click.get_current_context().exit(Exit.LOST)
    talk = Conversation(session, QUESTIONS, lambda line: echo(line, err=True))
    looked: dict[str, str] = {}
    interrupted = False
    try:
        interrupted = _part(server, talk.ask)
        if not yes and not interrupted:
            _look(session, looked)
    except (KeyboardInterrupt, click.Abort):
        interrupted = True
    finally:
        _delete(server, talk, interrupted=interrupted)
    region = next((region for region, url in BASE_URLS.items() if url == api.base_url), "a host of its own")
    made = report(talk, region, looked, api._connection.keys.secret(), interrupted=interrupted)
    _show(made, file, as_json=as_json)
    _end(talk, interrupted=interrupted)


def _check_writable(file: Path | None) -> None:
    """Raise `NotPossible` if the report could not be written: before anything is sent for it."""
    if file is None:
        return
    place = file if file.exists() else file.parent
    if not os.access(place, os.W_OK) or not file.parent.is_dir():
        raise NotPossible(f"the report cannot be written to {file}")


def _agreed() -> bool:
    try:
        return click.confirm("Ask now?", err=True)
    except click.Abort:
        raise NotPossible("the question was not answered, and nothing was sent: --yes answers it") from None


def _part(server: Server, part: Part) -> bool:
    """Run a part of the conversation with an API of its own; whether a signal has ended it."""
    phases = Phases(winds_up=True)

    async def run() -> None:
        transcript = Transcript()
        async with server.api(transcript, attempts=1) as api, anyio.create_task_group() as helpers:
            await phases.heed_signals(helpers)
            with phases.begin():
                await part(api, transcript)
            helpers.cancel_scope.cancel()

    anyio.run(run)
    return phases.interrupted


def _look(session: Session, looked: dict[str, str]) -> None:
    """Ask the person for what only the dashboard shows; the answers go into ``looked``, by `Look.name`."""
    if session.looks:
        echo("", "The rest is in the dashboard only; it may take 15 minutes to show there.", err=True)
    for look in session.looks:
        echo(f"User {look.user_id}:", err=True)
        answer = click.prompt(
            f"  {look.question}\n  (y)es, (n)o, (s)kip", type=click.Choice(list(SEEN)), show_choices=False,
            default="s", err=True,
        )  # fmt: skip
        looked[look.name] = SEEN[answer]


def _delete(server: Server, talk: Conversation, *, interrupted: bool) -> None:
    if not talk.remains:
        return
    again = "; a second interrupt leaves them" if interrupted else ""
    echo(f"{'interrupted: ' if interrupted else ''}deleting {len(talk.remains.ids)} test ids{again}", err=True)
    _part(server, talk.delete)
    for id in talk.session.in_jobs:
        echo(f"the job with {id} had not ended before: look later whether that user is back", err=True)


def _show(made: dict[str, Any], file: Path | None, *, as_json: bool) -> None:
    if as_json:
        echo_json(made)
    else:
        echo(*as_lines(made))
    if file is None:
        return
    text = json.dumps(made, indent=2) + "\n" if file.suffix == ".json" else as_markdown(made)
    try:
        file.write_text(text, encoding="utf-8")
    except OSError as error:
        raise Failed(f"the report was not written to {file}: {error.strerror}") from error
    echo(f"report written to {file}", err=True)


def _end(talk: Conversation, *, interrupted: bool) -> None:
    """End the command with the exit code of what was most in the way."""
    if talk.remains:
        ids = ", ".join(talk.remains.ids)
        raise Failed(f"these test ids may exist still, because they could not be deleted: {ids}")
    if interrupted:
        click.get_current_context().exit(Exit.INTERRUPTED)
    if any(result.outcome == ANSWERED for result in talk.results):
        return
    first = talk.results[0]
    if first.stopped_by is None or first.stopped_by.status is None or first.outcome == FOREIGN:
        raise Unreachable(f"no question was answered; the first one: {first.outcome}")
    if first.stopped_by.status in (401, 402, 403):
        raise Refused("no question was answered: wrong API key, or the browser's App Token in its place")
    raise Failed(f"no question was answered; the first one: {first.outcome}")
