"""Parcelvoy's client API as a second destination: the same queue, order and account, for a server of your own.

    async with ParcelvoyClient("PUBLIC_KEY", "https://parcelvoy.example.com") as parcelvoy:
        await parcelvoy.identify("u1", email="ann@example.com", data={"plan": "pro"})
        await parcelvoy.track("report_exported", external_id="u1", data={"format": "csv"})

The mirror image of Userpilot: identifies go one by one, events in arrays. ``_calls`` are the calls as values, with
``_data`` for what is nested in them; ``_destination`` says how they look on the wire; ``_client`` takes them.
``_pairs`` knows which person each browser's id was given to, ``_like_ids`` which ids the server's database confuses.
"""

from ._calls import CLEAR, Alias, Device, Identify, Track
from ._calls import Call as Call
from ._calls import Data as Data
from ._calls import from_line as from_line
from ._client import BlockingParcelvoyClient as BlockingParcelvoyClient
from ._client import ParcelvoyClient
from ._destination import DeadCall, ParcelvoySettings
from ._destination import OnDead as OnDead

__all__ = ["CLEAR", "Alias", "DeadCall", "Device", "Identify", "ParcelvoyClient", "ParcelvoySettings", "Track"]
