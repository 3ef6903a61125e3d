from aiohttp import web

from userpilot_async import UserpilotClient

USERPILOT = web.AppKey("userpilot", UserpilotClient)


async def userpilot(app):
    async with UserpilotClient() as app[USERPILOT]:  # reads USERPILOT_API_KEY
        yield
        print("userpilot:", await app[USERPILOT].aclose())  # what became of every call


async def export(request):
    user_id, report = request.match_info["user_id"], request.match_info["report"]
    await request.app[USERPILOT].track(user_id, "report_exported", {"report": report})
    return web.Response()


app = web.Application()
app.cleanup_ctx.append(userpilot)
app.router.add_post("/users/{user_id}/reports/{report}", export)

if __name__ == "__main__":
    web.run_app(app, host="127.0.0.1", port=0)
