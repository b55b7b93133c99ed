"""Both layers of channels_redis: the same lines on every server. Usage: channel_layers.py PORT."""

import asyncio
import sys
from typing import Any

from channels.exceptions import ChannelFull
from channels_redis.core import RedisChannelLayer
from channels_redis.pubsub import RedisPubSubChannelLayer

URL = f"redis://127.0.0.1:{sys.argv[1]}"
PATIENCE_S = 20


async def exchange(layer: Any) -> None:
    name = type(layer).__name__

    async def received(channel: str) -> object:
        return (await asyncio.wait_for(layer.receive(channel), PATIENCE_S))["text"]

    first, second = await layer.new_channel(), await layer.new_channel()
    await layer.send(first, {"type": "a", "text": "hello"})
    print(name, "sent", await received(first))
    for channel in (first, second):
        await layer.group_add("room", channel)
    await layer.group_send("room", {"type": "a", "text": "to all"})
    print(name, "to a group", await received(first), await received(second))
    await layer.group_discard("room", second)
    await layer.group_send("room", {"type": "a", "text": "to one"})
    await layer.send(second, {"type": "a", "text": "alone"})
    print(name, "discarded", await received(first), await received(second))
    waiting = asyncio.create_task(received(second))
    await asyncio.sleep(0)
    await layer.send(second, {"type": "a", "text": "waited for"})
    print(name, "waited", await waiting)
    await layer.flush()


async def main() -> None:
    layer = RedisChannelLayer(hosts=[URL], capacity=3)
    await exchange(layer)
    try:
        for n in range(5):
            await layer.send("narrow", {"type": "a", "text": n})
    except ChannelFull:
        print("full after", n)
    await layer.flush()
    await layer.close_pools()
    pubsub = RedisPubSubChannelLayer(hosts=[URL])
    await exchange(pubsub)


asyncio.run(main())
