// A Socket.IO server to compare with: what `foyer bench` asks of an application, on the official package with its defaults.
// argv: its port, and if there are others like it the medium that they share rooms by, its URL and options of the adapter as
// JSON. It prints its port when it listens.
"use strict";

const { createServer } = require("node:http");
const { Server } = require("socket.io");
const media = require("./media");

(async () => {
  const [port = 0, medium, url, options = "{}"] = process.argv.slice(2);
  const server = createServer();
  const io = new Server(server, medium ? { adapter: (await media[medium](url, JSON.parse(options))).adapter } : {});

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
    // How many sockets there are at all servers; -1: that could not be found out.
    socket.on("bench:list", (ack) => io.fetchSockets().then((all) => ack(all.length), () => ack(-1)));
  });

  server.listen(Number(port), "127.0.0.1", 4096, () => console.log(server.address().port));
})();
