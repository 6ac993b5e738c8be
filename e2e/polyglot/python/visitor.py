"""What a visitor of an example does, by the stock client. What it sees goes to stdout as one JSON array.

    python visitor.py URL
"""

import asyncio
import json
import sys

import socketio


async def connect(client, token):
    await client.connect(sys.argv[1], namespaces=["/example"], auth={"token": token}, wait_timeout=15)


async def main():
    seen = []
    guest = socketio.AsyncClient(reconnection=False)
    guest.on("connect_error", seen.append, namespace="/example")
    try:
        await connect(guest, "guess")
    except socketio.exceptions.ConnectionError:
        seen.append("refused")
    ann = socketio.AsyncClient(reconnection=False)
    await connect(ann, "ann's secret")
    seen.append(await ann.call("greet", namespace="/example", timeout=15))
    seen.append(await ann.call("photo", ("cat.png", bytes(range(6))), namespace="/example", timeout=15))
    await ann.disconnect()
    print(json.dumps(seen, default=lambda v: {"$bin": v.hex()}))


asyncio.run(main())
