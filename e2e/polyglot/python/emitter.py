"""Emits with PyPI's socket.io-emitter by the Redis server at argv's port: to all, to a room, to two, to a namespace."""

import sys

from socket_io_emitter import Emitter

emitter = Emitter({"host": "127.0.0.1", "port": int(sys.argv[1])})
emitter.Emit("python all", 1, {"é": None})
emitter.In("r").Emit("python room")
emitter.In("r").In("s").Emit("python rooms")
emitter.Of("/chat").Emit("python chat")
