// A Socket.IO server to compare with: what `foyer bench` asks of an application, on the official package with its defaults.
// It prints its port when it listens.
"use strict";

const { createServer } = require("node:http");
const { Server } = require("socket.io");

const server = createServer();
const io = new Server(server);

io.on("connection", (socket) => {
  socket.on("bench:join", (room, ack) => {
    socket.join(room);
    ack();
  });
  socket.on("bench:leave", (room, ack) => {
    socket.leave(room);
    ack();
  });
  socket.on("bench:emit", (room, seq, pad) => io.to(room).emit("bench", seq, pad));
  socket.on("bench:echo", (text, ack) => ack(text));
});

server.listen(Number(process.argv[2] || 0), "127.0.0.1", 4096, () => console.log(server.address().port));
