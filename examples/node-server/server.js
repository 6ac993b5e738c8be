// Socket.IO's well-known chat on a server on Node, with the official Redis adapter. It knows nothing of Foyer;
// docs/node.md lets it share its room with two Foyer nodes.
//
//	node server.js [REDIS [ADDRESS]]
import { readFile } from "node:fs/promises";
import { createServer } from "node:http";
import { createAdapter } from "@socket.io/redis-adapter";
import { createClient } from "redis";
import { Server } from "socket.io";

const [redis = "redis://127.0.0.1:6379", address = "127.0.0.1:3002"] = process.argv.slice(2);
const lobby = "lobby"; // the room where everybody is
const longest = 2000; // characters of a message

const publisher = createClient({ url: redis });
const subscriber = publisher.duplicate();
for (const client of [publisher, subscriber]) {
	client.on("error", (err) => console.error(`redis: ${err.message}`)); // without a listener an error ends the process
	await client.connect();
}

const page = await readFile(new URL("index.html", import.meta.url));
const server = createServer((request, response) => {
	const found = request.url === "/";
	response.writeHead(found ? 200 : 404, { "content-type": "text/html; charset=utf-8" });
	response.end(found ? page : "There is no such page.");
});

const io = new Server(server, { adapter: createAdapter(publisher, subscriber) });
io.on("connection", (socket) => {
	const nickname = `guest-${socket.id.slice(0, 4)}`; // its end is a counter
	socket.join(lobby);
	socket.on("chat message", (...args) => {
		const answer = typeof args.at(-1) === "function" ? args.pop() : () => {};
		const [text, room = lobby] = args; // from anyone: believe nothing
		if (typeof text !== "string" || text === "" || text.length > longest || room !== lobby) {
			return answer({ ok: false, error: "this cannot be sent" });
		}
		io.to(lobby).emit("chat message", text, { from: socket.id, nickname, room, time: Date.now() });
		answer({ ok: true, room });
	});
});

const [host, port] = address.split(":");
server.listen(Number(port), host, () => console.log(`listening at http://${address}/`));
