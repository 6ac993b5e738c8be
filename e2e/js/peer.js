// A Socket.IO server on Node with an official adapter, on strings: a Go test writes JavaScript to stdin, a line each, in which
// io, emitter and heard are known, and reads {value} or {err} for each from stdout. argv: the medium, its URL, and options of
// the adapter as JSON. The first line that it says is its port.
"use strict";

const readline = require("readline");
const { createServer } = require("http");
const { Server } = require("socket.io");
const media = require("./media");

(async () => {
	const [medium, url, options] = process.argv.slice(2);
	const { adapter, emitter } = await media[medium](url, JSON.parse(options));
	const server = createServer();
	const io = new Server(server, { adapter });
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
