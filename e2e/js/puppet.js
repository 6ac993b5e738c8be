// Stock Socket.IO clients on strings: a Go test writes commands to stdin, one JSON object a line, and reads what the clients
// see from stdout. Nothing is judged here.
//
// Each command names a client by "c". What a client sees comes back as {c, k: kind, …}: "connect", "disconnect",
// "connect_error", "event", "ack", "upgrade", "reconnect_attempt", "state", "ready", "thrown".
//
// Values that JSON does not have travel as {$bin: base64}, {$date: ISO}, {$undefined: true}.
"use strict";

const readline = require("readline");
const { io } = require("socket.io-client");
const msgpack = require("socket.io-msgpack-parser");

const clients = new Map(); // name to Socket
const answers = new Map(); // client and event to the arguments of its acknowledgement; null: none is given

function encode(value) {
	if (value === undefined) return { $undefined: true };
	if (value instanceof ArrayBuffer) value = new Uint8Array(value);
	if (ArrayBuffer.isView(value)) return { $bin: Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString("base64") };
	if (value instanceof Date) return { $date: value.toISOString() };
	if (Array.isArray(value)) return value.map(encode);
	if (value === null || typeof value !== "object") return value;
	return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, encode(v)]));
}

function decode(value) {
	if (Array.isArray(value)) return value.map(decode);
	if (value === null || typeof value !== "object") return value;
	if (value.$undefined) return undefined;
	if (value.$bin !== undefined) return Buffer.from(value.$bin, "base64");
	if (value.$date !== undefined) return new Date(value.$date);
	return Object.fromEntries(Object.entries(value).map(([k, v]) => [k, decode(v)]));
}

const say = (message) => process.stdout.write(JSON.stringify(message) + "\n");

const commands = {
	// open makes a client: of a link of its own, or, with "beside", on the link of another client.
	open({ c, url, nsp = "/", beside, opts = {} }) {
		opts = decode(opts) ?? {};
		if (opts.parser === "msgpack") opts.parser = msgpack;
		const socket = beside ? clients.get(beside).io.socket(nsp, opts) : io(url + nsp, { forceNew: true, ...opts });
		clients.set(c, socket);
		const transport = () => socket.io.engine?.transport?.name;
		if (!beside) {
			socket.io.on("open", () => {
				const engine = socket.io.engine;
				engine.on("upgrade", () => say({ c, k: "upgrade", transport: transport() }));
			});
			socket.io.on("reconnect_attempt", (attempt) => say({ c, k: "reconnect_attempt", attempt }));
		}
		socket.on("connect", () => say({ c, k: "connect", id: socket.id, transport: transport() }));
		socket.on("disconnect", (reason) => say({ c, k: "disconnect", reason, active: socket.active }));
		socket.on("connect_error", (err) => say({ c, k: "connect_error", message: err.message, data: encode(err.data), active: socket.active }));
		socket.onAny((event, ...args) => {
			const ack = typeof args.at(-1) === "function" ? args.pop() : null;
			say({ c, k: "event", event, args: args.map(encode), wants_ack: ack !== null });
			const answer = answers.get(`${c} ${event}`);
			if (ack && answer !== null) ack(...(answer ?? args));
		});
	},
	// emit sends an event; with "ack" (a number) it wants an acknowledgement.
	emit({ c, event, args = [], ack, timeout, volatile, compress }) {
		let socket = clients.get(c);
		if (volatile) {
			// The client drops it while a POST is under way, whose answer may come after the event that the POST has caused.
			if (socket.connected && !socket.io.engine.transport.writable) {
				setTimeout(() => commands.emit({ c, event, args, ack, timeout, volatile, compress }), 10);
				return;
			}
			socket = socket.volatile;
		}
		if (compress !== undefined) socket = socket.compress(compress);
		args = args.map(decode);
		try {
			if (!ack) socket.emit(event, ...args);
			else if (timeout) socket.timeout(timeout).emit(event, ...args, (err, ...got) => say({ c, k: "ack", ack, err: err?.message, args: got.map(encode) }));
			else socket.emit(event, ...args, (...got) => say({ c, k: "ack", ack, args: got.map(encode) }));
		} catch (err) {
			say({ c, k: "thrown", message: err.message });
		}
	},
	// answer says with what a client acknowledges an event from now on; without it, with the event's own arguments.
	answer({ c, event, args }) {
		answers.set(`${c} ${event}`, args ? args.map(decode) : null);
		say({ c, k: "ready" });
	},
	connect({ c }) {
		clients.get(c).connect();
	},
	disconnect({ c }) {
		clients.get(c).disconnect();
	},
	// raw puts a text message on the link that no stock client would send.
	raw({ c, data }) {
		clients.get(c).io.engine.write(data);
	},
	// drop is what a lost network does to an open websocket.
	drop({ c }) {
		clients.get(c).io.engine.transport.ws.terminate();
	},
	// freeze stops this whole process for good while its connections stay open.
	freeze() {
		for (;;);
	},
	state({ c }) {
		const s = clients.get(c);
		say({ c, k: "state", connected: s.connected, active: s.active, id: s.id, transport: s.io.engine?.transport?.name });
	},
};

readline.createInterface({ input: process.stdin }).on("line", (line) => {
	const { op, ...rest } = JSON.parse(line);
	commands[op](rest);
}).on("close", () => process.exit(0)); // the test is gone, and so are we
