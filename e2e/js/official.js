// The official adapters and emitters without a bus: a Go test gives commands on stdin, one JSON object a line, and reads
// one answer for each from stdout. Redis, PostgreSQL and MongoDB are stand-ins that note what is published, so that the
// adapters' own code encodes and decodes. Nothing is judged here.
//
//	{do: "call", on, js}            run js with io or the emitter as x, and answer what was published; what it notes is heard
//	{do: "hear", on, …}             let the adapter on a server with one socket hear bytes, and answer what came of it
//	{do: "random", lib, seed}       a random event, encoded by a library in a whole message, and what it makes of its bytes
//	{do: "decode", lib, hex, path}  what a library makes of bytes: the part that path names, as a client would get it
"use strict";

const { EventEmitter } = require("events");
const readline = require("readline");
const { Server } = require("socket.io");
const { Encoder } = require("socket.io-parser");
const notepack = require("notepack.io");
const msgpack = require("@msgpack/msgpack");
const redis = require("@socket.io/redis-adapter");
const streams = require("@socket.io/redis-streams-adapter");
const postgres = require("@socket.io/postgres-adapter");
const mongo = require("@socket.io/mongo-adapter");
const { BSON, ObjectId } = require("mongodb");

const libs = { notepack, msgpack };
let published = []; // since the last command
let heard = [];

const hex = (b) => Buffer.from(b).toString("hex");
const turn = () => new Promise((done) => setImmediate(done));

// A client of the redis package.
class Redis extends EventEmitter {
	listeners_ = [];
	reads = [];
	entries = [];
	on_(channels, listener, ends) {
		for (const c of [channels].flat()) this.listeners_.push({ c, ends, listener });
	}
	pSubscribe(pattern, listener) { this.on_(pattern.slice(0, -1), listener, true); }
	subscribe(channels, listener) { this.on_(channels, listener); }
	sSubscribe(channels, listener) { this.on_(channels, listener); }
	publish(channel, message) { published.push({ channel, hex: hex(message) }); return Promise.resolve(1); }
	sPublish(channel, message) { return this.publish(channel, message); }
	sendCommand() { return Promise.resolve(["", "3"]); }
	xAdd(stream, _, entry) { published.push({ stream, entry: { ...entry } }); return Promise.resolve("1-0"); }
	xRead() { return new Promise((done) => { this.reads.push(done); this.serve(); }); }
	serve() {
		if (this.reads.length && this.entries.length) this.reads.shift()([{ messages: this.entries.splice(0) }]);
	}
	duplicate() { return this; }
	connect() { return Promise.resolve(); }
	disconnect() {}
	hear({ channel, hex, entry }) {
		if (entry) {
			this.entries.push({ id: "1-1", message: entry });
			return this.serve();
		}
		for (const l of this.listeners_) {
			if (l.ends ? channel.startsWith(l.c) : channel === l.c) l.listener(Buffer.from(hex, "hex"), channel);
		}
	}
}

// A pool of the pg package.
class Pool {
	client = Object.assign(new EventEmitter(), { query: async () => {}, release() {} });
	row = undefined;
	connect() { return Promise.resolve(this.client); }
	async query(sql, args) {
		if (sql.startsWith("SELECT pg_notify")) published.push({ channel: args[0], hex: hex(Buffer.from(args[1])) });
		if (sql.startsWith("SELECT payload")) return { rows: [{ payload: this.row }] };
		if (!sql.startsWith("INSERT")) return { rows: [] };
		published.push({ row: hex(args[0]) });
		return { rows: [{ id: "3" }] };
	}
	hear({ hex, row }) {
		if (row) this.row = Buffer.from(row, "hex");
		this.client.emit("notification", { payload: Buffer.from(hex, "hex").toString() });
	}
}

// A collection of the mongodb package, and its change stream.
class Collection {
	stream = new EventEmitter();
	watch() { return this.stream; }
	insertOne(document) {
		document._id ??= new ObjectId();
		published.push({ document: hex(BSON.serialize(document, { ignoreUndefined: false })) });
		return Promise.resolve({ insertedId: document._id });
	}
	hear({ document }) {
		this.stream.emit("change", { operationType: "insert", fullDocument: BSON.deserialize(Buffer.from(document, "hex")) });
	}
}

// What a client with the usual parser gets of a packet.
function asClient(data) {
	const parts = new Encoder().encode({ type: 2, nsp: "/", data });
	return { text: parts[0].replace(/^(2|5\d+-)/, ""), binary: parts.slice(1).map(hex) };
}

function serve(bus, adapter) {
	const io = new Server();
	io.adapter(adapter);
	for (const name of ["/", "/chat"]) {
		const nsp = io.of(name);
		for (const ev of ["sse", "ask"]) {
			nsp.on(ev, (...args) => {
				const reply = typeof args.at(-1) === "function" && args.pop();
				heard.push({ event: ev, ...asClient([ev, ...args]) });
				if (reply) reply({ got: args.length, b: Buffer.from([1]) });
			});
		}
	}
	const nsp = io.of("/");
	const socket = {
		id: "socketsocketsocket01", rooms: new Set(["socketsocketsocket01", "roomA"]), data: { n: 1, b: Buffer.from([7]) }, acks: new Map(),
		handshake: { headers: { host: "h" }, time: "t", address: "a", xdomain: false, secure: false, issued: 5, url: "/x", query: { EIO: "4" }, auth: {} },
		client: {
			writeToEngine(parts, opts) {
				heard.push({ text: parts[0].replace(/^(2|5\d+-)/, "").replace(/^\d+(?=\[)/, ""), binary: parts.slice(1).map(hex), volatile: !!opts.volatile, compress: opts.compress });
				for (const [id, ack] of socket.acks) {
					socket.acks.delete(id);
					ack("yes", "second");
				}
			},
		},
		join: (rooms) => heard.push({ join: [rooms].flat() }),
		leave: (room) => heard.push({ leave: [room].flat() }),
		disconnect: (close) => heard.push({ disconnect: !!close }),
	};
	nsp.adapter.addAll(socket.id, socket.rooms);
	nsp.sockets.set(socket.id, socket);
	return { x: io, bus };
}

function emitter(make) {
	const bus = new Redis();
	return { x: make(bus), bus };
}

const makers = {
	classic: () => { const bus = new Redis(); return serve(bus, redis.createAdapter(bus, bus)); },
	sharded: () => { const bus = new Redis(); return serve(bus, redis.createShardedAdapter(bus, bus)); },
	streams: () => { const bus = new Redis(); return serve(bus, streams.createAdapter(bus)); },
	postgres: () => { const bus = new Pool(); return serve(bus, postgres.createAdapter(bus)); },
	mongo: () => { const bus = new Collection(); return serve(bus, mongo.createAdapter(bus)); },
	emitter: () => emitter((bus) => new (require("@socket.io/redis-emitter").Emitter)(bus)),
	"old emitter": () => emitter((bus) => require("socket.io-emitter")(Object.assign(bus, { hset: 1 }))),
	"postgres emitter": () => { const bus = new Pool(); return { bus, x: new (require("@socket.io/postgres-emitter").Emitter)(bus) }; },
};
const made = new Map();
async function peer(on) {
	if (!made.has(on)) {
		made.set(on, makers[on]());
		await turn();
		published = [];
	}
	return made.get(on);
}

// Random values: everything that an application may emit, and that JSON, too, can say in some way.
function random(seed) {
	let state = seed >>> 0;
	const next = () => { // mulberry32
		state = (state + 0x6d2b79f5) >>> 0;
		let z = state;
		z = Math.imul(z ^ (z >>> 15), z | 1);
		z ^= z + Math.imul(z ^ (z >>> 7), z | 61);
		return ((z ^ (z >>> 14)) >>> 0) / 4294967296;
	};
	const upTo = (n) => Math.floor(next() * n);
	const one = (list) => list[upTo(list.length)];
	let binaries = 0;
	const letters = ["a", "0", "\"", "\\", "\n", "\u0001", "\u007f", "é", "ß", "日", "\u2028", "😀", "\ud800", "\udc00", "\uffff", " "];
	const string = () => Array.from({ length: one([0, 1, 3, 31, 32, 33, 60, 250, 300]) }, () => one(letters)).join("");
	const number = () => one([
		0, -0, 1, -1, 31, -32, -33, 127, 128, -128, -129, 255, 256, 32767, -32769, 65535, 65536, 2 ** 31, -(2 ** 31), -(2 ** 31) - 1, 2 ** 32 - 1, 2 ** 32,
		2 ** 53, 2 ** 53 + 2, -(2 ** 53), 2 ** 62, -(2 ** 63), NaN, Infinity, -Infinity, 0.1, -1.5, 1e-7, 1e21, 1.7976931348623157e308, 5e-324, upTo(1e9), next(),
	]);
	const bytes = () => Buffer.from(Array.from({ length: one([0, 1, 5, 255, 256, 300]) }, () => upTo(256)));
	function value(depth) {
		const kind = upTo(depth > 6 ? 8 : 10);
		switch (kind) {
		case 0: return null;
		case 1: return next() < 0.5;
		case 2: case 3: return number();
		case 4: case 5: return string();
		case 6: return one([undefined, new Date(upTo(2e12)), new Date(-upTo(2e12)), new Date(2e14 + upTo(1000)), new Date(upTo(2e9) * 1000), new Date(-62198755200000), new Date(8.64e15)]);
		case 7:
			if (binaries === 9) return 7;
			binaries++;
			return next() < 0.5 ? bytes() : new Uint8Array(bytes());
		case 8: return Array.from({ length: one([0, 1, 2, 5, 17]) >> Math.min(depth, 3) }, () => value(depth + 1));
		default:
			return Object.fromEntries(Array.from({ length: one([0, 1, 3, 17]) >> Math.min(depth, 3) }, () => [one(["a", "b", "", "7", "ключ", "num", string()]), value(depth + 1)]));
		}
	}
	return ["event", ...Array.from({ length: upTo(4) }, () => value(0))];
}

const commands = {
	async call({ on, js }) {
		const { x } = await peer(on);
		published = [];
		new Function("x", "note", js)(x, (...args) => heard.push({ noted: JSON.stringify(args) }));
		await turn();
		await turn();
		return { published };
	},
	async hear({ on, ...what }) {
		const { bus } = await peer(on);
		published = [];
		heard = [];
		let thrown;
		const note = (e) => { thrown = String(e); };
		process.on("uncaughtException", note);
		process.on("unhandledRejection", note);
		try {
			bus.hear(what);
		} catch (e) {
			note(e);
		}
		for (let i = 0; i < 4; i++) await turn();
		process.off("uncaughtException", note);
		process.off("unhandledRejection", note);
		return { published, heard, thrown };
	},
	async random({ lib, seed }) {
		const data = random(seed);
		const { encode, decode } = libs[lib] ?? {};
		const opts = { rooms: [], except: [], flags: {} };
		if (lib === "bson") { // the adapter itself makes of the driver's binaries what a client gets
			const b = BSON.serialize({ type: 3, data: { packet: { type: 2, data }, opts }, uid: "node01", nsp: "/" }, { ignoreUndefined: false });
			const a = await commands.hear({ on: "mongo", document: hex(b) });
			return { hex: hex(b), ...a.heard[0] };
		}
		if (lib === "notepack") {
			const b = encode(["node01", { type: 2, data, nsp: "/" }, opts]);
			return { hex: hex(b), ...asClient(decode(b)[1].data) };
		}
		const b = encode({ type: 3, data: { packet: { type: 2, data }, opts }, uid: "node01", nsp: "/" });
		return { hex: hex(b), ...asClient(decode(b).data.packet.data) };
	},
	async decode({ lib, hex: bytes, path }) {
		let v = libs[lib].decode(Buffer.from(bytes, "hex"));
		for (const key of path) v = v[key];
		return asClient(v);
	},
};

(async () => {
	for await (const line of readline.createInterface({ input: process.stdin })) {
		const command = JSON.parse(line);
		let answer;
		try {
			answer = await commands[command.do](command);
		} catch (e) {
			answer = { error: e.stack };
		}
		process.stdout.write(JSON.stringify(answer) + "\n");
	}
	process.exit(0); // the adapters have timers
})();
