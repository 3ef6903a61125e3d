"""Userpilot for asyncio and trio: identify and track without losing events.

    async with UserpilotClient("API_KEY") as userpilot:
        await userpilot.identify("u1", {"plan": "pro"}, company={"id": "acme", "name": "Acme"})
        await userpilot.track("u1", "report_exported", {"format": "csv"})

`userpilot-async docs` lists the guides, which come with the package.
"""

from ._account.statistics import Report, Statistics
from ._calls.outcome import Outcome
from ._client import Metadata, OnDead, UserpilotClient
from ._delivery.blocking import blocking
from ._errors.tree import (
    ClientClosed,
    ClientNotOpen,
    ConfigurationError,
    DeliveryError,
    InvalidCall,
    JobFailed,
    OutboxError,
    QueueFull,
    Rejected,
    Unavailable,
    UserpilotError,
    WrongLoop,
)
from ._outbox.memory import MemoryOutbox
from ._outbox.receipt import Receipt
from ._protocol.jobs import Job, JobStatus
from ._runtime.version import __version__ as __version__
from ._settings import Settings
from ._userpilot.api import UserpilotAPI
from ._userpilot.calls import Call, DeleteCompany, DeleteUser, Identify, IdentifyCompany, Track
from ._userpilot.destination import DeadCall

__all__ = [
    "Call",
    "ClientClosed",
    "ClientNotOpen",
    "ConfigurationError",
    "DeadCall",
    "DeleteCompany",
    "DeleteUser",
    "DeliveryError",
    "Identify",
    "IdentifyCompany",
    "InvalidCall",
    "Job",
    "JobFailed",
    "JobStatus",
    "MemoryOutbox",
    "Metadata",
    "OnDead",
    "OutboxError",
    "Outcome",
    "QueueFull",
    "Receipt",
    "Rejected",
    "Report",
    "Settings",
    "Statistics",
    "Track",
    "Unavailable",
    "UserpilotAPI",
    "UserpilotClient",
    "UserpilotError",
    "WrongLoop",
    "blocking",
]

for _error in (
    ClientClosed, ClientNotOpen, ConfigurationError, DeliveryError, InvalidCall, JobFailed, OutboxError, QueueFull,
    Rejected, Unavailable, UserpilotError, WrongLoop,
):  # fmt: skip
    _error.__module__ = __name__  # a traceback names an exception by where people import it from
