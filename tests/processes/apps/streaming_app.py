"""The FastAPI application with a response that never ends, as server-sent events are."""

from __future__ import annotations

from collections.abc import AsyncIterator

import anyio
from fastapi.responses import StreamingResponse

from tests.processes.apps.fastapi_app import app

__all__ = ["app"]


@app.get("/stream")
async def stream() -> StreamingResponse:
    return StreamingResponse(_for_ever())


async def _for_ever() -> AsyncIterator[str]:
    yield "open\n"
    await anyio.sleep_forever()
