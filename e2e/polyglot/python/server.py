"""A backend on Python, in the manner of a Socket.IO server: middleware, handlers, socket.to(...).emit.

What a Socket.IO server does inside of its process is here a call of Foyer's API, by grpc.aio and modules generated from
proto/ (they are looked for on PYTHONPATH). backend.py shows it in use.
"""

import asyncio
import dataclasses
import datetime
import itertools
import json

import grpc
from foyer.v1 import emit_pb2, emit_pb2_grpc, handler_pb2, handler_pb2_grpc
from foyer.v1 import room_pb2, room_pb2_grpc, socket_pb2, socket_pb2_grpc, types_pb2
from google.protobuf import json_format


def pack(args):
    """Make what a Payload and Args are given of arguments; bytes become attachments."""
    attachments = []

    def default(value):  # json asks for what it does not know
        if isinstance(value, (bytes, bytearray)):
            attachments.append(bytes(value))
            return {"_placeholder": True, "num": len(attachments) - 1}
        if isinstance(value, datetime.datetime):  # the words of a browser's Date
            return value.astimezone(datetime.UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        raise TypeError(type(value))

    text = json.dumps(list(args), default=default, ensure_ascii=False, allow_nan=False)
    return {"json": text, "attachments": attachments}


def unpack(payload):
    attachments = payload.attachments

    def hook(value):
        return attachments[value["num"]] if attachments and value.get("_placeholder") is True else value

    return json.loads(payload.json, object_hook=hook)


class Refusal(Exception):
    """What a middleware raises: the browser sees a connect_error with this message and data."""

    def __init__(self, message, data=None, retry=False):
        super().__init__(message)
        self.data, self.retry = data, retry


@dataclasses.dataclass(frozen=True)
class Broadcast:
    """Whom and how, collected step by step as io.to(...).except(...).volatile does; each step makes another."""

    io: "Server"
    namespace: str
    rooms: tuple = ()
    except_rooms: tuple = ()
    only_local: bool = False
    options: types_pb2.EmitOptions = None
    wait: float | None = None

    def to(self, *rooms):
        return dataclasses.replace(self, rooms=self.rooms + rooms)

    def leaving_out(self, *rooms):
        return dataclasses.replace(self, except_rooms=self.except_rooms + rooms)

    @property
    def local(self):
        return dataclasses.replace(self, only_local=True)

    @property
    def volatile(self):
        return dataclasses.replace(self, options=types_pb2.EmitOptions(volatile=True))

    def compress(self, compress):
        return dataclasses.replace(self, options=types_pb2.EmitOptions(compress=compress))

    def timeout(self, seconds):
        return dataclasses.replace(self, wait=seconds)

    @property
    def target(self):
        return types_pb2.Target(
            namespace=self.namespace, rooms=self.rooms, except_rooms=self.except_rooms, all=not self.rooms, local=self.only_local
        )

    def _what(self, event, args):
        return {"target": self.target, "payload": types_pb2.Payload(event=event, **pack(args)), "options": self.options}

    def _timed(self):
        return {} if self.wait is None else {"timeout": datetime.timedelta(seconds=self.wait)}

    def request(self, event, args):
        return emit_pb2.EmitRequest(**self._what(event, args))

    async def emit(self, event, *args):
        return await self.io.emits.Emit(self.request(event, args), timeout=15)

    async def emit_with_ack(self, event, *args):
        return await self.io.emits.EmitWithAck(emit_pb2.EmitWithAckRequest(**self._what(event, args), **self._timed()), timeout=15)

    def collect_acks(self, event, *args):
        """The stream of CollectAcks, for `async for`."""
        return self.io.emits.CollectAcks(emit_pb2.CollectAcksRequest(**self._what(event, args), **self._timed()), timeout=15)

    async def sockets_join(self, *rooms):
        return await self.io.rooms.JoinRooms(room_pb2.JoinRoomsRequest(target=self.target, rooms=rooms), timeout=15)

    async def sockets_leave(self, *rooms):
        return await self.io.rooms.LeaveRooms(room_pb2.LeaveRoomsRequest(target=self.target, rooms=rooms), timeout=15)

    async def fetch_sockets(self):
        request = socket_pb2.ListSocketsRequest(target=self.target, view=types_pb2.SOCKET_VIEW_FULL, page_size=2)
        while True:
            page = await self.io.sockets.ListSockets(request, timeout=15)
            for socket in page.sockets:
                yield socket
            if not page.next_page_token:
                return
            request.page_token = page.next_page_token

    async def disconnect_sockets(self, mode="NAMESPACE"):
        request = socket_pb2.DisconnectSocketsRequest(target=self.target, mode=f"DISCONNECT_MODE_{mode}")
        return await self.io.sockets.DisconnectSockets(request, timeout=15)


class Socket:
    """One client. What it emits goes to itself; `to` and `broadcast` leave it out."""

    def __init__(self, io, socket, handshake):
        self.io, self.id, self.namespace = io, socket.id, socket.namespace
        self.user, self.rooms, self.data = socket.user_id, list(socket.rooms), json_format.MessageToDict(socket.data)
        self.handshake = handshake  # None after another backend has let it in
        self.itself = io.of(self.namespace).to(self.id)
        self.emit, self.emit_with_ack = self.itself.emit, self.itself.emit_with_ack
        self.join, self.leave, self.disconnect = self.itself.sockets_join, self.itself.sockets_leave, self.itself.disconnect_sockets

    @property
    def broadcast(self):
        return self.io.of(self.namespace).leaving_out(self.id)

    def to(self, *rooms):
        return self.broadcast.to(*rooms)

    async def emit_in_order(self, event, *args):
        """Emit on the handler's own stream: it arrives before whatever that stream says next, and waits for nobody."""
        await self.io.send(command=handler_pb2.Command(emit=self.itself.request(event, args)))

    async def update(self, **change):
        request = socket_pb2.UpdateSocketRequest(namespace=self.namespace, socket_id=self.id)
        json_format.ParseDict(change, request)
        return (await self.io.sockets.UpdateSocket(request, timeout=15)).socket


class Server:
    """The application is told by its methods use, connected, event, server_side and told, see backend.py."""

    def __init__(self, address, app):
        self.app = app
        channel = grpc.aio.insecure_channel(address)
        self.emits = emit_pb2_grpc.EmitServiceStub(channel)
        self.handlers = handler_pb2_grpc.HandlerServiceStub(channel)
        self.rooms = room_pb2_grpc.RoomServiceStub(channel)
        self.sockets = socket_pb2_grpc.SocketServiceStub(channel)
        self.known = {}  # (namespace, id) to Socket
        self.handshakes = {}  # of clients that are let in and not connected yet: auth is told only when it is decided
        self.ids = itertools.count(1)  # of commands
        self.results = {}  # of commands, each a future
        self.tasks = set()  # the loop itself would forget them
        self.sending = asyncio.Lock()  # grpc wants one write at a time

    def of(self, namespace):
        return Broadcast(self, namespace)

    async def send(self, **message):
        async with self.sending:
            await self.stream.write(handler_pb2.AttachRequest(**message))

    async def attach(self, **register):
        """Serve until the stream ends: by drain with return, else with its error."""
        self.stream = self.handlers.Attach()
        await self.send(register=handler_pb2.Register(**register))
        async for message in self.stream:
            what = message.WhichOneof("message")
            await getattr(self, "_" + what)(getattr(message, what))

    async def drain(self):
        await self.send(drain=handler_pb2.Drain())

    async def server_side_emit(self, event, *args):
        """On the handler's own stream, so that it goes to the others only."""
        command = handler_pb2.Command(id=next(self.ids))
        command.server_side_emit.payload.CopyFrom(types_pb2.Payload(event=event, **pack(args)))
        command.server_side_emit.wants_replies = True
        answer = self.results[command.id] = asyncio.get_running_loop().create_future()
        await self.send(command=command)  # the result may be there before this returns
        return await answer

    # What Foyer says, by the name of its message.

    async def _registered(self, m):
        self.app.told(k="attached", handler=m.handler_id)

    async def _connect(self, m):
        handshake = json_format.MessageToDict(m.socket.handshake, preserving_proto_field_name=True)
        reply = handler_pb2.ConnectReply(call_id=m.call_id)
        try:
            accept = self.app.use(m.socket.namespace, handshake)
            json_format.ParseDict(accept, reply.accept)
            self.handshakes[m.socket.namespace, m.socket.id] = handshake
        except Refusal as refusal:
            reply.reject.message, reply.reject.retry = str(refusal), refusal.retry
            if refusal.data is not None:
                json_format.ParseDict(refusal.data, reply.reject.data)
        await self.send(connect_reply=reply)

    async def _connected(self, m):
        key = m.socket.namespace, m.socket.id
        self.known[key] = Socket(self, m.socket, self.handshakes.pop(key, None))
        self.app.connected(self.known[key])

    async def _assigned(self, m):
        for socket in m.sockets:
            self.known[socket.namespace, socket.id] = Socket(self, socket, None)
            cause = handler_pb2.Assigned.Cause.Name(m.cause)
            self.app.told(k="assigned", id=socket.id, namespace=socket.namespace, rooms=list(socket.rooms), reason=cause)

    async def _event(self, m):
        args = unpack(m.payload)
        name, socket = m.payload.event, self.known[m.socket.namespace, m.socket.id]
        if not m.wants_ack:  # handled frees its slot; an acknowledgement does that by itself
            await self.send(handled=handler_pb2.Handled(up_to=m.call_id))
        self.app.told(k="event", id=socket.id, namespace=socket.namespace, event=name, args=args, wants_ack=m.wants_ack)

        async def ack(*answer):
            if m.wants_ack:
                await self.send(event_reply=handler_pb2.EventReply(call_id=m.call_id, args=types_pb2.Args(**pack(answer))))

        # Tasks start in the order in which they are made, so that what answers at once answers in order.
        task = asyncio.create_task(self.app.event(socket, name, args, ack))
        self.tasks.add(task)
        task.add_done_callback(self._done)

    def _done(self, task):
        self.tasks.discard(task)
        if not task.cancelled() and task.exception():
            asyncio.get_running_loop().call_exception_handler({"message": "an event's handler", "exception": task.exception()})

    async def _disconnected(self, m):
        self.known.pop((m.socket.namespace, m.socket.id), None)
        self.app.told(
            k="disconnected", id=m.socket.id, namespace=m.socket.namespace, rooms=list(m.socket.rooms),
            reason=types_pb2.DisconnectReason.Name(m.reason), detail=m.detail,
        )

    async def _server_side_event(self, m):
        args = unpack(m.payload)
        self.app.told(k="server_side", event=m.payload.event, args=args)
        if m.wants_reply:
            answer = self.app.server_side(m.payload.event, args)
            await self.send(event_reply=handler_pb2.EventReply(call_id=m.call_id, args=types_pb2.Args(**pack(answer))))

    async def _command_result(self, m):
        result, answer = m.WhichOneof("result"), self.results.pop(m.id)
        if result == "error":
            answer.set_exception(CommandFailed(m.error.code, m.error.message))
        else:
            answer.set_result(getattr(m, result))

    async def _draining(self, m):
        pass


class CommandFailed(Exception):
    """The error of a command; by its code and details it looks like that of a call."""

    def __init__(self, code, details):
        super().__init__(details)
        self._code, self._details = code, details

    def code(self):
        return next(c for c in grpc.StatusCode if c.value[0] == self._code)

    def details(self):
        return self._details
