"""What the tests ask of a backend: ../node/backend.js in Python. No test tells the two apart.

    python backend.py ADDRESS [HANDLER_ID]

What it is told goes to stdout, one JSON object a line. When its stdin ends, it drains and is gone.
"""

import asyncio
import base64
import collections
import datetime
import json
import sys
import threading
import traceback

import grpc
from google.protobuf import json_format

from foyer.v1 import types_pb2
from server import CommandFailed, Refusal, Server, unpack


def counts(response):
    return {"matched": response.matched, "enqueued": response.enqueued, "dropped_volatile": response.dropped_volatile}


def matched(response):
    return {"matched": response.matched}


def outcomes(got, summary):
    told = {}
    for o in got:
        if o.WhichOneof("outcome") == "args":
            told[o.socket_id] = {"args": unpack(o.args)}
        else:
            told[o.socket_id] = {"failure": types_pb2.AckFailure.Name(o.failure).removeprefix("ACK_FAILURE_")}
    return {"outcomes": told, "matched": summary.matched, "acked": summary.acked}


class Rows:
    """The lines of Socket.IO's cheat sheet. The sender is who asked for the row; ids has everybody's id."""

    def __init__(self, sender, ids):
        self.sender, self.ids, self.server = sender, ids, sender.io
        self.io = sender.io.of(sender.namespace)

    async def do(self, row, event):
        hello = (event, "hello", 1)
        sender, io, of = self.sender, self.io, self.server.of
        match row:
            case "socket.emit":
                return counts(await sender.emit(*hello))
            case "io.to(socketId).emit":
                return counts(await io.to(self.ids["none"]).emit(*hello))
            case "socket.broadcast.emit":
                return counts(await sender.broadcast.emit(*hello))
            case "socket.to(room1).emit":
                return counts(await sender.to("room1").emit(*hello))
            case "socket.to([room1,room2]).emit":
                return counts(await sender.to("room1", "room2").emit(*hello))
            case "io.in(room1).emit":
                return counts(await io.to("room1").emit(*hello))
            case "io.to([room1,room2]).except(room3).emit":
                return counts(await io.to("room1", "room2").leaving_out("room3").emit(*hello))
            case "io.of(myNamespace).emit":
                return counts(await of("myNamespace").emit(*hello))
            case "io.of(myNamespace).to(room1).emit":
                return counts(await of("myNamespace").to("room1").emit(*hello))
            case "io.local.emit":
                return counts(await io.local.emit(*hello))
            case "io.emit":
                return counts(await io.emit(*hello))
            case "socket.compress(false).emit":
                return counts(await sender.itself.compress(False).emit(*hello))
            case "socket.volatile.emit":
                return counts(await sender.itself.volatile.emit(*hello))
            case "socket.emit(question, ack)":
                got = await sender.emit_with_ack(event, "?")
                return outcomes(got.outcomes, got.summary)
            case "socket.timeout(5000).emit":
                got = await sender.itself.timeout(0.3).emit_with_ack(event)
                return outcomes(got.outcomes, got.summary)
            case "io.timeout(1000).emit(hi, acks)":
                got = await io.to("room1", "room2").timeout(4).emit_with_ack(event, 7)
                return outcomes(got.outcomes, got.summary)
            case "the same by CollectAcks":
                return await self.collect(event)
            case "socket.join":
                return matched(await sender.join("room9"))
            case "socket.leave":
                return matched(await sender.leave("room9"))
            case "io.in(room1).socketsJoin([room4,room5])":
                return matched(await io.to("room1").sockets_join("room4", "room5"))
            case "io.in(room4).socketsLeave(room4)":
                return matched(await io.to("room4").sockets_leave("room4"))
            case "io.in(room2).fetchSockets":
                return {s.user_id: {"id": s.id, "rooms": list(s.rooms)} async for s in io.to("room2").fetch_sockets()}
            case "io.in(room3).disconnectSockets":
                return matched(await io.to("room3").disconnect_sockets())
            case "socket.data":
                await sender.update(data={"color": "red", "size": 1})
                now = await sender.update(merge_data={"color": None, "shape": "round"}, user_id="renamed")
                return {"user": now.user_id, "data": json_format.MessageToDict(now.data)}
            case "io.serverSideEmit":
                got = await self.server.server_side_emit(event, 1)
                return {"matched": got.matched, "replies": [{"handler": r.handler_id, "args": unpack(r.args)} for r in got.replies]}
            case "a reserved event":
                return counts(await sender.emit("disconnect"))

    async def collect(self, event):
        order, got, started, summary = "", [], None, None
        async for m in self.io.to("room1", "room2").timeout(4).collect_acks(event, 7):
            step = m.WhichOneof("message")
            order += step[0]
            if step == "started":
                started = m.started.matched
            elif step == "outcome":
                got.append(m.outcome)
            else:
                summary = m.summary
        return outcomes(got, summary) | {"order": order, "started": started}


class App:
    def __init__(self):
        self.attempts = collections.Counter()
        self.unanswered = []  # only an answer frees an event that wants one: these are given theirs at the very end

    def use(self, namespace, handshake):
        """Middleware: it raises, or returns what the acceptance shall have."""
        auth = handshake.get("auth", {})
        if "reject" in auth:
            raise Refusal(auth["reject"], auth.get("data"), auth.get("retry", False))
        if namespace == "/members" and auth.get("token") != "open sesame":
            raise Refusal("not authorized", {"code": 401, "content": "Please log in"})
        return {"rooms": auth.get("rooms", []), "user_id": auth.get("user", ""), "data": {"came": namespace}}

    def connected(self, socket):
        self.told(k="connected", id=socket.id, namespace=socket.namespace, rooms=socket.rooms)

    async def event(self, socket, name, args, ack):
        await getattr(self, "on_" + name, self.echo)(socket, args, ack)

    def server_side(self, event, args):
        return ["pong", *args]

    def told(self, **what):
        print(json.dumps(what, default=lambda v: {"$bin": base64.b64encode(v).decode()}), flush=True)

    # The browsers' events.

    async def echo(self, socket, args, ack):
        await ack(*args)

    async def on_back(self, socket, args, ack):
        """Says it again by an event; the acknowledgement, on the same stream, comes after it."""
        await socket.emit_in_order("back", *args)
        await ack("after")

    async def on_handshake(self, socket, args, ack):
        h = socket.handshake
        await ack({
            "query": h["query"], "auth": h.get("auth", {}), "address": h["address"], "url": h["url"],
            "agent": h.get("headers", {}).get("user-agent"), "user": socket.user, "data": socket.data,
        })

    async def on_time(self, socket, args, ack):
        await ack({"at": datetime.datetime(2026, 2, 28, 12, 34, 56, 789000, datetime.UTC)})

    async def on_silent(self, socket, args, ack):
        self.unanswered.append(ack)

    async def on_flaky(self, socket, args, ack):
        """Answers the third time only."""
        self.attempts[args[0]] += 1
        if self.attempts[args[0]] > 2:
            await ack("at last", self.attempts[args[0]])
        else:
            self.unanswered.append(ack)

    async def on_ask(self, socket, args, ack):
        """Asks the client something, and acknowledges with what it says."""
        event, ms, *args = args
        outcome = (await socket.itself.timeout(ms / 1000).emit_with_ack(event, *args)).outcomes[0]
        told = outcome.WhichOneof("outcome") == "args"
        await ack(unpack(outcome.args) if told else types_pb2.AckFailure.Name(outcome.failure))

    async def on_throw_out(self, socket, args, ack):
        await socket.emit("last words", args[0])  # a call that has been answered is before the next; the stream would not be
        await socket.disconnect(args[0])

    async def on_row(self, socket, args, ack):
        name, event, ids = args
        try:
            await ack({"ok": await Rows(socket, ids).do(name, event)})
        except (grpc.aio.AioRpcError, CommandFailed) as err:
            await ack({"code": err.code().name, "message": err.details()})
        except Exception:
            await ack({"code": "BUG", "message": traceback.format_exc()})


async def main(address, handler_id=""):
    app = App()
    server = Server(address, app)
    loop = asyncio.get_running_loop()

    async def leave():
        for ack in app.unanswered:
            await ack()
        await server.drain()

    def wait():
        sys.stdin.read()
        asyncio.run_coroutine_threadsafe(leave(), loop)

    threading.Thread(target=wait, daemon=True).start()
    await server.attach(
        namespaces=["/", "/myNamespace", "/members", "/tenant-*"], group="polyglot", handler_id=handler_id, decide_connects=True,
        server_side_events=True, socket_view=types_pb2.SOCKET_VIEW_FULL,
    )


asyncio.run(main(*sys.argv[1:]))
