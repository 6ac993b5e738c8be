"""python-socketio's AsyncClient in a conversation with a backend of these tests. Each check is a line on stdout: {check} or
{check, error}.

    python client.py URL websocket|polling|upgrade [burst]

With "burst" it does what burst.py says instead.
Its Client without async handles each message on a thread of its own, in no certain order; so it is not what is asked here.
"""

import asyncio
import json
import sys
import traceback

import burst
import socketio

URL, WAY, *BURST = sys.argv[1:]
TRANSPORTS = ["polling", "websocket"] if WAY == "upgrade" else [WAY]
PATIENCE = 15
VALUES = (1, -2.5, "Grüße, 東京, \U0001f600", None, True, [], {}, {"ключ": [{"deep": [[1]]}], "": 0})
BYTES = bytes(range(256))
opened = []


class Seen:
    """A client with queues of what it sees: events by name, and connects and disconnects, by namespace."""

    def __init__(self, namespaces=("/",)):
        self.queues = {}
        self.answers = {}  # by event, what the acknowledgement has
        self.sio = socketio.AsyncClient(reconnection_delay=0.05, reconnection_delay_max=0.2, randomization_factor=0)
        opened.append(self.sio)
        for ns in namespaces:
            self.sio.on("connect", lambda ns=ns: self.put("connect", ns, ()), namespace=ns)
            self.sio.on("disconnect", lambda reason, ns=ns: self.put("disconnect", ns, (reason,)), namespace=ns)
            self.sio.on("connect_error", lambda *data, ns=ns: self.put("connect_error", ns, data), namespace=ns)
            self.sio.on("*", lambda event, *args, ns=ns: self.event(event, ns, args), namespace=ns)

    def queue(self, what, ns):
        return self.queues.setdefault((what, ns), asyncio.Queue())

    def put(self, what, ns, args):
        self.queue(what, ns).put_nowait(args)

    def event(self, event, ns, args):
        self.put(event, ns, args)
        return self.answers[event](*args) if event in self.answers else None

    async def next(self, what, ns="/"):
        try:
            return await asyncio.wait_for(self.queue(what, ns).get(), PATIENCE)
        except TimeoutError:
            raise AssertionError(f"no {what} in {ns}") from None

    async def ask(self, event, *args, ns="/", timeout=PATIENCE):
        return await self.sio.call(event, args, namespace=ns, timeout=timeout)


async def connected(namespaces=("/",), auth=None, query=""):
    seen = Seen(namespaces)
    await seen.sio.connect(URL + query, namespaces=list(namespaces), auth=auth, transports=TRANSPORTS, wait_timeout=PATIENCE)
    return seen


def same(got, want):
    assert got == want, f"got {got!r}, want {want!r}"


async def connect_with_auth_and_query():
    c = await connected(auth={"user": "ann", "rooms": ["a"], "deep": {"n": [1, None]}}, query="?page=%C3%BC%26%3D")
    got = await c.ask("handshake")
    same(got["query"]["page"], "ü&=")
    same(got["auth"], {"user": "ann", "rooms": ["a"], "deep": {"n": [1, None]}})
    same((got["user"], got["data"], got["address"]), ("ann", {"came": "/"}, "127.0.0.1"))


async def refused_with_data():
    c = Seen(("/members",))
    try:
        await c.sio.connect(URL, namespaces=["/members"], auth={"token": "wrong"}, wait_timeout=PATIENCE, transports=TRANSPORTS)
    except socketio.exceptions.ConnectionError:
        pass
    else:
        raise AssertionError("it was let in")
    same(await c.next("connect_error", "/members"), ({"message": "not authorized", "data": {"code": 401, "content": "Please log in"}},))


async def an_event_and_its_acknowledgement():
    c = await connected()
    same(await c.ask("echo", *VALUES), VALUES)
    same(await c.ask("echo"), None)
    same(await c.ask("echo", "one"), "one")


async def an_event_from_the_backend_and_before_the_acknowledgement():
    c = await connected()
    same(await c.ask("back", *VALUES), "after")
    assert not c.queue("back", "/").empty(), "the acknowledgement came first"
    same(await c.next("back"), VALUES)


async def acknowledged_to_the_backend():
    c = await connected()
    c.answers["question"] = lambda a, b: ("answer", a + b, None)
    same(await c.ask("ask", "question", 5000, 1, 2), ["answer", 3, None])
    c.answers["bare"] = lambda: "one"
    same(await c.ask("ask", "bare", 5000), ["one"])


async def binary():
    c = await connected()
    args = (BYTES, {"deep": [b"second", {"empty": b""}]}, "text")
    same(await c.ask("back", *args), "after")
    same(await c.next("back"), args)
    same(await c.ask("echo", *args), args)
    c.answers["file"] = lambda file: (file, b"\x01\x02")
    same(await c.ask("ask", "file", 5000, BYTES), [BYTES, b"\x01\x02"])


async def namespaces_on_one_link():
    names = ("/", "/members", "/tenant-7")
    c = await connected(names, auth={"token": "open sesame"})
    for ns in names:
        same((await c.ask("handshake", ns=ns))["data"], {"came": ns})
    same(len({c.sio.get_sid(ns) for ns in names}), 3)


async def timeout():
    c = await connected()
    try:
        await c.ask("silent", timeout=0.2)
    except socketio.exceptions.TimeoutError:
        pass
    else:
        raise AssertionError("it was answered")
    same(await c.ask("in time", 1), 1)


async def two_hundred_in_order():
    c = await connected()
    for i in range(200):
        await c.sio.emit("back", i)
    same([(await c.next("back"))[0] for _ in range(200)], list(range(200)))


async def disconnected_by_the_backend():
    c = await connected()
    await c.sio.emit("throw_out", "NAMESPACE")
    same(await c.next("last words"), ("NAMESPACE",))
    same(await c.next("disconnect"), (c.sio.reason.SERVER_DISCONNECT,))


async def disconnected_by_itself():
    c = await connected()
    await c.sio.disconnect()
    same(await c.next("disconnect"), (c.sio.reason.CLIENT_DISCONNECT,))


async def reconnects():
    c = await connected()
    await c.next("connect")
    before = c.sio.get_sid()
    await c.sio.emit("throw_out", "TRANSPORT")
    await c.next("disconnect")
    if WAY == "polling":
        return  # this client takes the close packet that ends a poll for its own wish, and stays away from any server
    await c.next("connect")
    assert c.sio.get_sid() != before, "it came back with the same id"
    same(await c.ask("echo", 1), 1)


async def the_transport():
    c = await connected()
    same(c.sio.transport(), "websocket" if WAY == "upgrade" else WAY)
    same(await c.ask("echo", 1), 1)


async def main():
    for check in (
        connect_with_auth_and_query, refused_with_data, an_event_and_its_acknowledgement,
        an_event_from_the_backend_and_before_the_acknowledgement, acknowledged_to_the_backend, binary, namespaces_on_one_link,
        timeout, two_hundred_in_order, disconnected_by_the_backend, disconnected_by_itself, reconnects, the_transport,
    ):
        line = {"check": check.__name__.replace("_", " ")}
        try:
            await check()
        except Exception:
            line["error"] = traceback.format_exc()
        while opened:
            await opened.pop().shutdown()
        print(json.dumps(line), flush=True)


asyncio.run(burst.serve(URL, TRANSPORTS) if BURST else main())
