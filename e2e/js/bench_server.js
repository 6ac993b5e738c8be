// A Socket.IO server to compare with: what `foyer bench` asks of an application, on the official package with its defaults.
// argv: its port, and the URL of a Redis server if there are others like it. It prints its port when it listens.
"use strict";

const { createServer } = require("node:http");
const { Server } = require("socket.io");

async function adapter(url) {
  const { createClient } = require("redis");
  const { createAdapter } = require("@socket.io/redis-adapter");
  const clients = [createClient({ url }), createClient({ url })];
  for (const client of clients) {
    client.on("error", () => {}); // an error that nobody hears would end the process
    await client.connect();
  }
  return createAdapter(...clients);
}

(async () => {
  const [port = 0, redis] = process.argv.slice(2);
  const server = createServer();
  const io = new Server(server, redis ? { adapter: await adapter(redis) } : {});

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
