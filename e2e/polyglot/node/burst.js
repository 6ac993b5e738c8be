// Bursts: many events in one tick, and many to be read. A Go test writes commands to stdin, one JSON object a line; each has a
// link of its own, which must stay until all is there. What came of it is a line on stdout. See the Go test for the fields.
"use strict";

const readline = require("readline");
const { io } = require("socket.io-client");

const PATIENCE = 30_000; // without anything new
const say = (line) => console.log(JSON.stringify(line));

async function burst(url, common, { name, namespaces, send, bytes, binary, receive, unordered }) {
	const data = binary ? Buffer.alloc(bytes, "x") : "x".repeat(bytes);
	const done = { name, k: "done", acked: 0, received: 0, wrong: [] };
	const wrong = (what) => done.wrong.length < 10 && done.wrong.push(what);
	const root = io(url + namespaces[0], { ...common, reconnection: false });
	const sockets = namespaces.map((namespace, i) => (i ? root.io.socket(namespace) : root));
	let moved; // somebody waits for news
	const news = () => moved?.();
	let gone = false;
	const end = (what) => {
		wrong(what);
		gone = true;
		news();
	};
	const until = async (what, there) => {
		while (!gone && !there()) {
			await new Promise((go) => {
				const late = setTimeout(() => end(`nothing new while it waits for ${what}`), PATIENCE);
				moved = () => {
					clearTimeout(late);
					go();
				};
			});
		}
	};
	for (const socket of sockets) {
		const seen = new Set();
		socket.on("connect", news);
		socket.on("connect_error", (err) => end(`${socket.nsp}: connect_error ${err.message}`));
		socket.on("disconnect", (reason) => end(`${socket.nsp}: disconnect ${reason}`));
		socket.on("down", (i, got) => {
			if (seen.has(i)) wrong(`${socket.nsp}: ${i} came twice`);
			else if (!unordered && i !== seen.size) wrong(`${socket.nsp}: ${i} came as number ${seen.size}`);
			if ((got.byteLength ?? got.length) !== bytes) wrong(`${socket.nsp}: ${i} has ${got.byteLength ?? got.length} bytes`);
			seen.add(i);
			done.received++;
			news();
		});
	}
	await until("connect", () => sockets.every((socket) => socket.connected));
	say({ name, k: "connected", ids: Object.fromEntries(sockets.map((socket) => [socket.nsp, socket.id])) });
	const next = sockets.map(() => 0); // which acknowledgement is due
	for (let i = 0; !gone && i < send; i++) {
		sockets.forEach((socket, n) => socket.emit("burst", i, data, (got, size) => {
			if (got !== next[n]++ || got !== i || size !== bytes) wrong(`${socket.nsp}: ${i} is acknowledged as ${got} with ${size} bytes`);
			done.acked++;
			news();
		}));
	}
	await until("the burst", () => done.acked >= send * sockets.length && done.received >= receive * sockets.length);
	// The link is still there, and nothing is behind the rest.
	let last = 0;
	sockets.forEach((socket) => gone || socket.emit("last", () => news(last++)));
	await until("the last word", () => last === sockets.length);
	sockets.forEach((socket) => socket.off() && socket.disconnect());
	say(done);
}

module.exports = (url, common) => {
	readline.createInterface({ input: process.stdin })
		.on("line", (line) => burst(url, common, JSON.parse(line)))
		.on("close", () => process.exit(0));
};
