"""An application that makes its client when it is imported, which `gunicorn --preload` does before it forks."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from fastapi import FastAPI

from userpilot_async import UserpilotClient

userpilot = UserpilotClient()


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with userpilot:
        yield


app = FastAPI(lifespan=lifespan)


@app.post("/users/{user_id}/reports/{report}")
async def export(user_id: str, report: str) -> dict[str, int]:
    await userpilot.track(user_id, "report_exported", {"n": report, "pid": os.getpid()})
    return {"pid": os.getpid()}
