from contextlib import asynccontextmanager

from fastapi import FastAPI, Request

from userpilot_async import UserpilotClient


@asynccontextmanager
async def lifespan(app):
    async with UserpilotClient() as userpilot:  # reads USERPILOT_API_KEY
        yield {"userpilot": userpilot}
        # What became of every call.
        print("userpilot:", await userpilot.aclose(), flush=True)


app = FastAPI(lifespan=lifespan)


@app.post("/users/{user_id}/reports/{report}")
async def export(user_id: str, report: str, request: Request):
    userpilot = request.state.userpilot
    await userpilot.track(user_id, "report_exported", {"report": report})
