"""A backend of Foyer, to copy from: who may connect, what happens to the events of browsers, and how to reach browsers.

    foyer serve --namespaces /example --connect /example=handler &
    python3 -m venv .venv && .venv/bin/pip install -r requirements.txt
    .venv/bin/python -m grpc_tools.protoc -I ../../proto --python_out=. --grpc_python_out=. ../../proto/foyer/v1/*.proto
    .venv/bin/python main.py

FOYER_API is the address of Foyer's API, FOYER_TOKEN the bearer token, when Foyer asks for one. The browser's side is in
../README.md.
"""

import asyncio
import os
import random
import signal
import sys
import time

import grpc
from google.protobuf import duration_pb2, json_format
from google.rpc import error_details_pb2
from grpc_status import rpc_status

from foyer.v1 import emit_pb2, emit_pb2_grpc, handler_pb2, handler_pb2_grpc, socket_pb2, socket_pb2_grpc
from foyer.v1.types_pb2 import SOCKET_VIEW_FULL, Args, Payload, Target
from payload import pack, unpack

NAMESPACE = "/example"  # in the browser: io("/example", { auth: { token: "ann's secret" } })
ROOM = "lobby"
CALL_SECONDS = 10  # gRPC sets no deadline by itself: a call without one can wait for ever
GRACE_SECONDS = 10  # how long events in flight may take when this program is asked to end
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5


# ---- Connect.


class Foyer:
    """The API's services on one connection."""

    def __init__(self):
        options = {
            # A network that dies without a word is noticed after 20 s. Foyer takes no pings that come faster than every 5 s.
            "grpc.keepalive_time_ms": 10_000,
            "grpc.keepalive_timeout_ms": 10_000,
            "grpc.http2.max_pings_without_data": 0,  # by default they stop on a stream that is quiet
            # The connection has pauses of its own, which grow to two minutes by default.
            "grpc.initial_reconnect_backoff_ms": int(FIRST_PAUSE * 1000),
            "grpc.max_reconnect_backoff_ms": LONGEST_PAUSE * 1000,
        }
        # secure_channel when Foyer has --api-cert.
        self.channel = grpc.aio.insecure_channel(os.environ.get("FOYER_API") or "127.0.0.1:50051", options=list(options.items()))
        token = os.environ.get("FOYER_TOKEN")
        self.metadata = [("authorization", f"Bearer {token}")] if token else []  # every call carries it
        self.emits = emit_pb2_grpc.EmitServiceStub(self.channel)
        self.handlers = handler_pb2_grpc.HandlerServiceStub(self.channel)
        self.sockets = socket_pb2_grpc.SocketServiceStub(self.channel)

    async def call(self, method, request):
        return await method(request, timeout=CALL_SECONDS, metadata=self.metadata)


# ---- Attach a handler.


class Person:
    """One socket. Its events are answered one after another, in their order: a lock is given in the order of asking."""

    def __init__(self, socket):
        self.user = socket.user_id
        self.turn = asyncio.Lock()


class Attachment:
    """One stream: it registers, and serves until the stream ends."""

    def __init__(self, foyer):
        self.foyer = foyer
        self.stream = foyer.handlers.Attach(metadata=foyer.metadata)
        self.sending = asyncio.Lock()  # gRPC wants one write at a time
        self.people = {}  # by socket id: who is here. Empty each time: Foyer hands over the sockets that it still has
        self.tasks = set()  # the loop itself would forget them

    async def send(self, **message):
        """Wait while Foyer does not read. What went wrong with the stream, reading tells."""
        try:
            async with self.sending:
                await self.stream.write(handler_pb2.AttachRequest(**message))
        except (grpc.RpcError, asyncio.InvalidStateError):
            pass

    async def serve(self, stop):
        """Return when it has ended as it should: we have left, or Foyer is going down."""
        self.start(self.leave(stop))
        try:
            await self.send(register=handler_pb2.Register(
                namespaces=[NAMESPACE],
                group="example",  # several processes of one group share the sockets
                decide_connects=True,
                max_in_flight=64,  # so many events are answered at once, and no more
            ))
            async for heard in self.stream:
                await self.take(heard)
        finally:
            for task in self.tasks:  # nobody waits for their replies any more
                task.cancel()

    async def leave(self, stop):
        await stop.wait()
        await self.send(drain=handler_pb2.Drain())  # no new work; when the last event is answered, the stream ends
        await asyncio.sleep(GRACE_SECONDS)
        self.stream.cancel()

    def start(self, work):
        task = asyncio.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    async def take(self, heard):
        match heard.WhichOneof("message"):
            case "registered":
                print("attached to node", heard.registered.node_id)
            case "connect":
                await self.send(connect_reply=decide(heard.connect))
            case "connected":
                print(heard.connected.socket.user_id, "connected")
                self.people[heard.connected.socket.id] = Person(heard.connected.socket)
            case "assigned":
                self.people.update((socket.id, Person(socket)) for socket in heard.assigned.sockets)
            case "disconnected":
                print(f"{heard.disconnected.socket.user_id} disconnected: {heard.disconnected.detail}")
                del self.people[heard.disconnected.socket.id]
            case "event":
                # The events of different sockets are answered at the same time. max_in_flight bounds how many tasks there are.
                person = self.people[heard.event.socket.id]  # Foyer tells of each socket before its first event
                self.start(self.reply(heard.event, person))

    async def reply(self, event, person):
        """Every event gets a reply, also one that wants no acknowledgement: it makes room for the next."""
        async with person.turn:
            name = event.payload.event
            try:
                args = pack(*await answer(self.foyer, event.socket.id, person.user, name, unpack(event.payload)))
            except grpc.RpcError as err:
                print(f"{name}: {explain(err)}")
                args = pack({"error": err.details()})
            except Exception as err:
                print(f"{name}: {err!r}")
                args = pack({"error": "a fault of the backend"})
            await self.send(event_reply=handler_pb2.EventReply(call_id=event.call_id, args=Args(**args)))


# ---- Decide who may connect.

# Here a session would be looked up, or a JWT be checked.
USER_OF = {"ann's secret": "ann", "bob's secret": "bob"}


def decide(connect):
    reply = handler_pb2.ConnectReply(call_id=connect.call_id)
    token = json_format.MessageToDict(connect.socket.handshake.auth).get("token")
    user = USER_OF.get(token) if isinstance(token, str) else None
    if user is None:
        print("turned a client away: no such token")
        # The browser has these two in its connect_error.
        json_format.ParseDict({"message": "not authorized", "data": {"code": 401, "hint": "log in first"}}, reply.reject)
        return reply
    reply.accept.rooms.append(ROOM)  # it is in there before it hears that it is connected
    reply.accept.user_id = user
    reply.accept.data["name"] = user.upper()  # ours to use; the browser does not see it
    return reply


# ---- Answer events.


async def answer(foyer, sender, user, event, args):
    """Do what an event asks for, and return the arguments of its acknowledgement."""
    match event, args:  # browsers send whatever they like: what does not look as it should is an unknown event
        case "greet", _:
            return [f"hello, {user}"]
        case "say", [str(text), *_]:
            return await say(foyer, sender, user, text)
        case "ask", [str(question), *_]:
            return await ask(foyer, sender, question)
        case "photo", [str(name), bytes(data), *_]:
            return await photo(foyer, sender, name, data)
        case "who", _:
            return await who(foyer)
        case "oops", _:
            return await oops(foyer)
    return [{"error": "no such event"}]


def others(sender):
    """The others in the room. Each socket is also alone in a room that has its id as the name."""
    return Target(namespace=NAMESPACE, rooms=[ROOM], except_rooms=[sender])


async def say(foyer, sender, user, text):
    """Emit to a room."""
    emit = emit_pb2.EmitRequest(target=others(sender), payload=Payload(event="said", **pack(user, text)))
    told = await foyer.call(foyer.emits.Emit, emit)
    return [{"told": told.matched}]


async def ask(foyer, sender, question):
    """Emit to a room, and wait for the acknowledgement of each client."""
    emit = emit_pb2.EmitWithAckRequest(
        target=others(sender), payload=Payload(event="question", **pack(question)), timeout=duration_pb2.Duration(seconds=3)
    )
    got = await foyer.call(foyer.emits.EmitWithAck, emit)
    answers = [unpack(outcome.args) for outcome in got.outcomes if outcome.WhichOneof("outcome") == "args"]
    silent = len(got.outcomes) - len(answers)  # they took too long, or went away: see failure
    return [{"answers": [args[0] if args else None for args in answers], "silent": silent}]


async def photo(foyer, sender, name, data):
    """Take a binary value, and pass it on."""
    emit = emit_pb2.EmitRequest(target=others(sender), payload=Payload(event="photo", **pack(name, data)))
    await foyer.call(foyer.emits.Emit, emit)
    return [{"size": len(data), "start": data[:4]}]


async def who(foyer):
    """List sockets, page by page."""
    target = Target(namespace=NAMESPACE, rooms=[ROOM])
    request = socket_pb2.ListSocketsRequest(target=target, view=SOCKET_VIEW_FULL, page_size=100)  # in full: with data
    people = []
    while True:
        page = await foyer.call(foyer.sockets.ListSockets, request)
        people += [{"user": s.user_id, "rooms": list(s.rooms), "name": s.data["name"]} for s in page.sockets]
        if not page.next_page_token:
            return [people]
        request.page_token = page.next_page_token


async def oops(foyer):
    """A mistake, to see what an error tells: a room must have a name."""
    emit = emit_pb2.EmitRequest(target=Target(namespace=NAMESPACE, rooms=[""]), payload=Payload(event="never"))
    await foyer.call(foyer.emits.Emit, emit)
    return []


def explain(err):
    """What an error says: its code, the reason (a word of foyer.v1.ErrorReason, to be tested for), the fields, and the text."""
    reason, fields = "no reason", []
    info, bad = error_details_pb2.ErrorInfo(), error_details_pb2.BadRequest()
    status = rpc_status.from_call(err)
    for detail in status.details if status else []:
        if detail.Unpack(info):
            reason = info.reason
        elif detail.Unpack(bad):
            fields += [violation.field for violation in bad.field_violations]
    return f"{err.code().name}, {reason}, fields {fields}: {err.details()}"


# ---- Come back when the stream ends, and leave when asked to.

HOPELESS = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INVALID_ARGUMENT)


async def run(foyer, stop):
    """Attach again and again, with pauses that grow, until it is to stop. It raises what no waiting mends."""
    pause = FIRST_PAUSE
    while True:
        began = time.monotonic()
        why = "an end without an error"
        try:
            await Attachment(foyer).serve(stop)
        except grpc.RpcError as err:
            away = err.code() is grpc.StatusCode.UNAVAILABLE  # then there is nothing to finish
            if stop.is_set() and not away or err.code() in HOPELESS:
                raise
            why = explain(err)
        if stop.is_set():
            return
        if time.monotonic() - began > LONGEST_PAUSE:
            pause = FIRST_PAUSE  # it had worked
        # Not all at the same moment: many backends have lost the same Foyer.
        wait = pause * random.uniform(0.5, 1)
        print(f"detached, again in {wait:.2f} s: {why}")
        try:
            await asyncio.wait_for(stop.wait(), wait)
            return
        except TimeoutError:
            pause = min(2 * pause, LONGEST_PAUSE)


async def main():
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    foyer = Foyer()
    try:
        await run(foyer, stop)
    except grpc.RpcError as err:
        sys.exit(explain(err))
    finally:
        await foyer.channel.close()


sys.stdout.reconfigure(line_buffering=True)  # a reader sees each line at once
asyncio.run(main())
