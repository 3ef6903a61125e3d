"""The endpoint under load: ``uvicorn benchmarks.web_app:app``, with SUBJECT and SINK in the environment."""

from __future__ import annotations

import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager

from fastapi import FastAPI

from benchmarks.cores import for_the_measured
from benchmarks.payloads import EVENT, event, user_id
from benchmarks.subjects import OPENINGS

ROOM = 10_000  # events; more than one round sends
BARE = "(httpx in the handler)"

Report = Callable[[int], Awaitable[None]]


async def reporting(subject: str, url: str) -> Report:
    """The handler's way to track its event."""
    if subject == BARE:
        import httpx

        async def post(number: int) -> None:
            async with httpx.AsyncClient() as http:  # a client for each request: the mistake that is seen most
                body = {"user_id": user_id(number), "event_name": EVENT, "metadata": event(number)}
                await http.post(f"{url}/v1/track", json=body)

        return post
    client = await OPENINGS[subject](url, ROOM)

    async def track(number: int) -> None:
        said = client.track(user_id(number), EVENT, event(number))
        if client.awaited:
            await said

    return track


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncGenerator[None, None]:
    for_the_measured()
    subject = os.environ["SUBJECT"]
    app.state.report = await reporting(subject, os.environ["SINK"]) if subject != "(nothing)" else None
    yield
    os._exit(0)  # without draining: this is the end of a measurement


app = FastAPI(lifespan=lifespan)


@app.post("/reports/{number}")
async def export(number: int) -> dict[str, int]:
    if app.state.report is not None:
        await app.state.report(number)
    return {"report": number}
