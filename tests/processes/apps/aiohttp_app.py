from aiohttp import web

from userpilot_async import UserpilotClient

USERPILOT = web.AppKey("userpilot", UserpilotClient)


async def userpilot(app):
    async with UserpilotClient() as app[USERPILOT]:  # reads USERPILOT_API_KEY
        yield
        # What became of every call.
        print("userpilot:", await app[USERPILOT].aclose(), flush=True)


async def export(request):
    client, found = request.app[USERPILOT], request.match_info
    user_id, report = found["user_id"], found["report"]
    await client.track(user_id, "report_exported", {"report": report})
    return web.Response()


app = web.Application()
app.cleanup_ctx.append(userpilot)
app.router.add_post("/users/{user_id}/reports/{report}", export)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=0)
