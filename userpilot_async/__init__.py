"""Userpilot for asyncio and trio: identify and track without losing events.

async with UserpilotClient("API_KEY") as userpilot:
    await userpilot.identify("u1", {"plan": "pro"}, company={"id": "acme", "name": "Acme"})
    await userpilot.track("u1", "report_exported", {"format": "csv"})
"""

from ._api import UserpilotAPI
from ._blocking import blocking
from ._calls import Call, Identify, IdentifyCompany, Track
from ._client import Metadata, OnDead, UserpilotClient
from ._errors import (
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
from ._jobs import Job, JobStatus
from ._ledger import Outcome
from ._outbox import MemoryOutbox, Outbox
from ._receipt import Receipt
from ._settings import Settings
from ._statistics import Report, Statistics
from ._userpilot import DeadCall
from ._version import __version__ as __version__

__all__ = [
    "Call",
    "ClientClosed",
    "ClientNotOpen",
    "ConfigurationError",
    "DeadCall",
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
    "Outbox",
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
