"""Bursts: many events in one tick, and many to be read. A Go test writes commands to stdin, one JSON object a line; each has a
link of its own, which must stay until all is there. What came of it is a line on stdout. See the Go test for the fields.
"""

import asyncio
import json
import sys

import socketio

PATIENCE = 30  # without anything new


def say(**line):
    print(json.dumps(line), flush=True)


async def burst(url, transports, name, namespaces, send, bytes, binary, receive, unordered):
    data = b"x" * bytes if binary else "x" * bytes
    acked, received, last, gone = 0, 0, 0, False
    errors = []
    news = asyncio.Event()
    # A POST waits until there is room for its events, which on a busy machine takes longer than the default of 5 s.
    sio = socketio.AsyncClient(reconnection=False, request_timeout=PATIENCE)

    def wrong(what):
        if len(errors) < 10:
            errors.append(what)

    def end(what):
        nonlocal gone
        wrong(what)
        gone = True
        news.set()

    async def until(what, there):
        while not gone and not there():
            news.clear()
            try:
                await asyncio.wait_for(news.wait(), PATIENCE)
            except TimeoutError:
                end(f"nothing new while it waits for {what}")

    def listen(ns):
        seen = set()

        def down(i, got):
            nonlocal received
            if i in seen:
                wrong(f"{ns}: {i} came twice")
            elif not unordered and i != len(seen):
                wrong(f"{ns}: {i} came as number {len(seen)}")
            if len(got) != bytes:
                wrong(f"{ns}: {i} has {len(got)} bytes")
            seen.add(i)
            received += 1
            news.set()

        sio.on("down", down, namespace=ns)
        sio.on("disconnect", lambda reason: end(f"{ns}: disconnect {reason}"), namespace=ns)
        due = 0

        def acknowledged(i):
            def ack(got, size):
                nonlocal acked, due
                if got != due or got != i or size != bytes:
                    wrong(f"{ns}: {i} is acknowledged as {got} with {size} bytes")
                due += 1
                acked += 1
                news.set()

            return ack

        return acknowledged

    acks = {ns: listen(ns) for ns in namespaces}
    try:
        await sio.connect(url, namespaces=namespaces, transports=transports, wait_timeout=PATIENCE)
    except socketio.exceptions.ConnectionError as err:
        end(f"connect_error {err}")
    else:
        say(name=name, k="connected", ids={ns: sio.get_sid(ns) for ns in namespaces})
    try:
        for i in range(send):
            for ns in namespaces:
                await sio.emit("burst", (i, data), namespace=ns, callback=acks[ns](i))
        await until("the burst", lambda: acked >= send * len(namespaces) and received >= receive * len(namespaces))

        def still_here():
            nonlocal last
            last += 1
            news.set()

        # The link is still there, and nothing is behind the rest.
        for ns in namespaces:
            if not gone:
                await sio.emit("last", namespace=ns, callback=still_here)
    except socketio.exceptions.BadNamespaceError:
        wrong("it is not connected any more")
    await until("the last word", lambda: last == len(namespaces))
    done = dict(name=name, k="done", acked=acked, received=received, wrong=errors[:])
    await sio.shutdown()
    say(**done)


async def serve(url, transports):
    lines = asyncio.StreamReader(limit=1 << 20)
    await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(lines), sys.stdin)
    running = set()
    while line := await lines.readline():
        task = asyncio.create_task(burst(url, transports, **json.loads(line)))
        running.add(task)
        task.add_done_callback(running.discard)
