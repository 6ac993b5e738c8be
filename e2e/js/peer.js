// A Socket.IO server on Node with the official Redis adapter, on strings: a Go test writes JavaScript to stdin, a line each,
// in which io and emitter are known, and reads {value} or {err} for each from stdout. argv: the URL of Redis. The first line
// that it says is its port.
"use strict";

const readline = require("readline");
const { createServer } = require("http");
const { createClient } = require("redis");
const { Server } = require("socket.io");
const { createAdapter } = require("@socket.io/redis-adapter");
const { Emitter } = require("@socket.io/redis-emitter");

const connected = async () => {
	const client = createClient({ url: process.argv[2] });
	client.on("error", (err) => console.error(`redis: ${err.message}`));
	await client.connect();
	return client;
};

(async () => {
	const [pub, sub] = [await connected(), await connected()];
	const server = createServer();
	const io = new Server(server, { adapter: createAdapter(pub, sub) });
	const emitter = new Emitter(pub);
	const heard = []; // server-side events
	for (const name of ["/", "/chat"]) {
		io.of(name).on("connection", (socket) => {
			socket.data.name = "on Node";
			socket.onAny((event, ...args) => {
				const ack = args.at(-1);
				if (typeof ack === "function") ack(...args.slice(0, -1));
			});
		});
		io.of(name).on("news", (...args) => {
			const ack = args.at(-1);
			heard.push(args.filter((arg) => typeof arg !== "function"));
			if (typeof ack === "function") ack("heard on Node");
		});
	}
	await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
	console.log(JSON.stringify({ value: server.address().port }));
	for await (const line of readline.createInterface({ input: process.stdin })) {
		try {
			const value = await new Function("io", "emitter", "heard", `return (async () => (${line}))()`)(io, emitter, heard);
			console.log(JSON.stringify({ value: value === undefined ? null : value }));
		} catch (err) {
			console.log(JSON.stringify({ err: `${err.message} ${JSON.stringify(err.responses ?? null)}` }));
		}
	}
	process.exit(0);
})();
