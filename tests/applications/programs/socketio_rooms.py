"""python-socketio, two servers that share rooms: the same lines on every server. Usage: socketio_rooms.py PORT."""

import asyncio
import sys
from typing import Any

import socketio
from aiohttp import web

URL = f"redis://127.0.0.1:{sys.argv[1]}"
PATIENCE_S = 20


async def serve() -> tuple[socketio.AsyncServer, web.AppRunner, str]:
    server = socketio.AsyncServer(async_mode="aiohttp", client_manager=socketio.AsyncRedisManager(URL))

    @server.event
    async def join(sid: str, room: str) -> str:
        await server.enter_room(sid, room)
        return "joined"

    @server.event
    async def say(_sid: str, message: dict[str, Any]) -> None:
        await server.emit("said", message, room=message["room"])

    application = web.Application()
    server.attach(application)
    runner = web.AppRunner(application)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    return server, runner, f"http://127.0.0.1:{runner.addresses[0][1]}"


async def guest(url: str, room: str) -> tuple[socketio.AsyncClient, asyncio.Queue[Any]]:
    client, heard = socketio.AsyncClient(), asyncio.Queue[Any]()
    client.on("said", heard.put_nowait)
    client.on("ask", lambda n: 2 * n)
    await client.connect(url, transports=["websocket"])
    print("call", room, await client.call("join", room))
    return client, heard


async def next_of(*queues: asyncio.Queue[Any]) -> list[Any]:
    return [await asyncio.wait_for(heard.get(), PATIENCE_S) for heard in queues]


async def until_listening(manager: socketio.AsyncRedisManager, servers: int) -> None:
    """Nobody keeps a message for a server that does not listen yet."""
    while (await manager.redis.pubsub_numsub("socketio"))[0][1] < servers:
        await asyncio.sleep(0.01)


async def main() -> None:
    (_, runner_a, url_a), (server_b, runner_b, url_b) = await serve(), await serve()
    (one, heard_one), (two, heard_two), (three, heard_three) = [
        await guest(url, room) for url, room in ((url_a, "r"), (url_b, "r"), (url_b, "other"))
    ]
    outside = socketio.AsyncRedisManager(URL, write_only=True)
    await outside.emit("said", "to nobody", room="empty")  # connects
    await until_listening(outside, 2)
    await one.emit("say", {"room": "r", "n": 1})
    print("room", await next_of(heard_one, heard_two), heard_three.qsize())
    await outside.emit("said", {"from": "outside"}, room="other")
    print("outside", await next_of(heard_three))
    await outside.emit("said", b"bytes")
    print("everybody", await next_of(heard_one, heard_two, heard_three))
    sid = one.get_sid()
    print("asked over the other server", await server_b.call("ask", 21, to=sid, timeout=PATIENCE_S))
    await server_b.disconnect(sid)
    await one.wait()
    print("disconnected over the other server", one.connected)
    for client in (two, three):
        await client.disconnect()
    for runner in (runner_a, runner_b):
        await runner.cleanup()


asyncio.run(main())
