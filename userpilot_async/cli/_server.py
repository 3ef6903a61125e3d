"""The options for a server and its key, which most commands share."""

from __future__ import annotations

import math
import re
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import anyio
import attrs
import click

from .._client import UserpilotClient
from .._delivery.credentials import Transport, hidden
from .._errors.secret import Hidden
from .._errors.tree import DeliveryError
from .._outbox.protocol import Outbox
from .._runtime.disabled import SwitchedOff
from .._settings import Settings
from .._userpilot.api import Region, UserpilotAPI
from ..parcelvoy import ParcelvoyClient, ParcelvoySettings
from ._exits import failure_of

T = TypeVar("T")
Command = Callable[..., None]


class Seconds(click.FloatRange):
    """A duration in seconds. "nan" and "inf" are no numbers here: a clock can wait for neither."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:  # Any: as click's
        """The number in the words of an option; a usage error if there is none in it."""
        number = super().convert(value, param, ctx)
        if not math.isfinite(number):
            self.fail(f"{value!r} is no number.", param, ctx)
        return number


@attrs.frozen
class Server:
    """A server and its key, as the options give them; the client takes the rest from the environment."""

    api_key: Hidden[str] | None = attrs.field(default=None, converter=attrs.converters.optional(hidden))
    region: Region | None = None
    base_url: str | None = None
    disabled: bool | None = None
    """``False``: send, whatever the environment says; ``None``: refuse to run where that switches clients off."""

    def over(self, other: Server) -> Server:
        """Options of this server, and those of ``other`` where they are missing."""
        return Server(self.api_key or other.api_key, self.region or other.region, self.base_url or other.base_url)

    @property
    def _key(self) -> str | None:
        return None if self.api_key is None else self.api_key.reveal()

    def client(self, settings: Settings, outbox: Outbox | str | None = None) -> UserpilotClient:
        """A client that is not open yet; a key or URL that cannot be right is a usage error."""
        with _usage_errors():
            client = UserpilotClient(
                self._key, region=self.region, base_url=self.base_url, outbox=outbox, settings=settings,
                disabled=self.disabled,
            )  # fmt: skip
            return _switched_on(client, client.api.switch)

    def parcelvoy(self, settings: ParcelvoySettings, outbox: Outbox | str | None = None) -> ParcelvoyClient:
        """A client for Parcelvoy; else as `client`."""
        if self.region is not None:
            raise click.UsageError("--region is for Userpilot: --base-url says where a Parcelvoy server is")
        with _usage_errors():
            client = ParcelvoyClient(self._key, self.base_url, outbox=outbox, settings=settings, disabled=self.disabled)
            return _switched_on(client, client._connection.keys.switch)

    def api(self, transport: Transport | None = None, attempts: int = 3) -> UserpilotAPI:
        """The endpoints without a queue; else as `client`."""
        with _usage_errors():
            api = UserpilotAPI(
                self._key, region=self.region, base_url=self.base_url, transport=transport, attempts=attempts
            )
            return _switched_on(api, api.switch)


def _switched_on(made: T, switch: SwitchedOff | None) -> T:
    """Return ``made``, or raise `click.UsageError` if it is switched off and would drop all calls."""
    if switch is not None:
        raise click.UsageError(f"{switch.by} switches the client off: nothing would be sent; {switch.undo}")
    return made


@contextmanager
def _usage_errors() -> Iterator[None]:
    """Turn a client's `ValueError` about a key or a URL into a usage error."""
    try:
        yield
    except ValueError as exc:
        words = str(exc)
        if missing := re.match(r"api_key is missing: pass it, set (\w+)", words):
            words = f"the API key is missing: set {missing[1]}, or give --api-key"
        raise click.UsageError(words) from exc


def ask(api: UserpilotAPI, question: Callable[[UserpilotAPI], Awaitable[T]]) -> T:
    """The answer of one conversation with the server; its errors end the command."""
    answers: list[T] = []
    errors: list[DeliveryError | TimeoutError] = []

    async def converse() -> None:
        async with api:
            try:
                answers.append(await question(api))
            except (DeliveryError, TimeoutError) as exc:  # out here: a task group would wrap it
                errors.append(exc)

    anyio.run(converse)
    if errors:
        raise failure_of(errors[0])
    return answers[0]


def talks_to_server(command: Command) -> Command:
    """Give a command the options for a server, as one argument ``server``."""

    @wraps(command)
    def with_server(api_key: Hidden[str] | None, region: str | None, base_url: str | None, **options: Any) -> None:
        command(server=Server(api_key, cast("Region | None", region), base_url), **options)

    # No `envvar` of click's: the client reads the environment itself, and says what is wrong with it.
    for option in (
        click.option("--base-url", metavar="URL", help="URL of another server or of an emulator. [USERPILOT_BASE_URL]"),
        click.option("--region", type=click.Choice(["us", "eu"]), help="Default: us. [USERPILOT_REGION]"),
        click.option("--api-key", type=Hidden, metavar="KEY",
                     help="API key; better in the environment, since `ps` shows options. [USERPILOT_API_KEY]"),
    ):  # fmt: skip
        with_server = option(with_server)
    return with_server


json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON object instead of text.")
late_option = click.option(
    "--late-after",
    type=Seconds(min=0, min_open=True),
    metavar="SECONDS",
    help="Import events that are later than this, with their own times (a paid feature). Default: never.",
)
to_option = click.option(
    "--to",
    type=click.Choice(["userpilot", "parcelvoy"]),
    default="userpilot",
    show_default=True,
    help="Kind of server. Parcelvoy has no region; its variables: [PARCELVOY_API_KEY], [PARCELVOY_BASE_URL].",
)
