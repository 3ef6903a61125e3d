"""The application of `processes/apps`, with two seconds for its drain: most of what it was told stays in its file."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI, Request

from userpilot_async import Settings, UserpilotClient


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[dict[str, Any]]:
    async with UserpilotClient(settings=Settings(close_timeout=2.0)) as userpilot:
        yield {"userpilot": userpilot}
        report = await userpilot.aclose()
        # In one piece: other processes write there, too.
        os.write(1, f"userpilot: {report}\nCLOSED IN {report.elapsed}\n".encode())


app = FastAPI(lifespan=lifespan)


@app.post("/users/{user_id}/reports/{report}")
async def export(user_id: str, report: str, request: Request) -> None:
    await request.state.userpilot.track(user_id, "report_exported", {"report": report})
