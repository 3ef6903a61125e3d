"""An application as others write them: it tracks, and its author has thought of no test."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, FastAPI, Request

from userpilot_async import UserpilotClient, UserpilotError


@asynccontextmanager
async def lifespan(app: FastAPI) -> AsyncIterator[None]:
    async with UserpilotClient() as app.state.userpilot:
        yield


def userpilot(request: Request) -> UserpilotClient:
    client: UserpilotClient = request.app.state.userpilot
    return client


Userpilot = Annotated[UserpilotClient, Depends(userpilot)]
app = FastAPI(lifespan=lifespan)


@app.post("/users/{user_id}/sign-up")
async def sign_up(user_id: str, plan: str, client: Userpilot) -> None:
    await client.identify(user_id, {"plan": plan}, company={"id": "acme", "name": "Acme"})
    await client.track(user_id, "signed_up", {"plan": plan})


@app.post("/users/{user_id}/payments")
def pay(user_id: str, amount: int, client: Userpilot) -> None:
    """In a worker thread, as FastAPI runs what is not async."""
    client.track_nowait(user_id, "paid", {"amount": amount})


@app.post("/users/{user_id}/mistake")
async def mistake(user_id: str, client: Userpilot) -> str:
    try:
        await client.track(user_id, "clicked", {"position": float("nan")})
    except UserpilotError:
        return "nobody will ever know"
    return "tracked"
