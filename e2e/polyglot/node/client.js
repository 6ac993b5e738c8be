// The stock client of browsers and Node in a conversation with a backend of these tests, told in its own words: promises,
// timeouts, retries. Each check is a line on stdout: {check} or {check, error}.
//
//   node client.js URL websocket|polling|upgrade [burst]
//
// With "burst" it does what burst.js says instead.
"use strict";

const assert = require("assert/strict");
const { io } = require("socket.io-client");

const [url, way, burst] = process.argv.slice(2);
const common = {
	forceNew: true, transports: way === "upgrade" ? ["polling", "websocket"] : [way],
	reconnectionDelay: 50, reconnectionDelayMax: 200,
};
const open = [];

function connect(namespace = "/", options = {}) {
	const socket = io(url + namespace, { ...common, ...options });
	open.push(socket);
	return socket;
}

// once resolves with the arguments of the next event of this name.
function once(emitter, event) {
	return new Promise((done, fail) => {
		const late = setTimeout(() => fail(new Error(`no ${event}`)), 15_000);
		emitter.once(event, (...args) => {
			clearTimeout(late);
			done(args);
		});
	});
}

async function connected(namespace, options) {
	const socket = connect(namespace, options);
	const failed = once(socket, "connect_error").then(([err]) => Promise.reject(err));
	failed.catch(() => {});
	await Promise.race([once(socket, "connect"), failed]);
	return socket;
}

const values = [1, -2.5, "Grüße, 東京, \u{1F600}", null, true, [], {}, { "ключ": [{ deep: [[1]] }], "": 0 }];
const bytes = Buffer.from(Array.from({ length: 256 }, (_, i) => i));
const plain = (v) => (Buffer.isBuffer(v) || ArrayBuffer.isView(v) ? Buffer.from(v) : Array.isArray(v) ? v.map(plain)
	: v && typeof v === "object" ? Object.fromEntries(Object.entries(v).map(([k, x]) => [k, plain(x)])) : v);

const checks = {
	async "connect with auth and query"() {
		const socket = await connected("/", { auth: { user: "ann", rooms: ["a"], deep: { n: [1, null] } }, query: { page: "ü&=" } });
		const got = await socket.emitWithAck("handshake");
		assert.equal(got.query.page, "ü&=");
		assert.equal(got.query.EIO, "4");
		assert.deepEqual(got.auth, { user: "ann", rooms: ["a"], deep: { n: [1, null] } });
		assert.equal(got.user, "ann");
		assert.deepEqual(got.data, { came: "/" });
		assert.equal(got.address, "127.0.0.1");
	},
	async "auth by a function"() {
		const socket = await connected("/", { auth: (done) => setTimeout(() => done({ user: "fetched" }), 10) });
		assert.equal((await socket.emitWithAck("handshake")).user, "fetched");
	},
	async "refused with data"() {
		const socket = connect("/members", { auth: { token: "wrong" } });
		const [err] = await once(socket, "connect_error");
		assert.equal(err.message, "not authorized");
		assert.deepEqual(err.data, { code: 401, content: "Please log in" });
		assert.equal(socket.active, false);
		socket.auth = { token: "open sesame" }; // as the manual says: change auth and connect
		socket.connect();
		await once(socket, "connect");
		assert.deepEqual(await socket.emitWithAck("x", 1), 1);
	},
	async "an event and its acknowledgement"() {
		const socket = await connected();
		const got = await new Promise((done) => socket.emit("echo", ...values, (...args) => done(args)));
		assert.deepEqual(got, values);
		assert.deepEqual(await new Promise((done) => socket.emit("echo", (...args) => done(args))), []);
	},
	async "an event from the backend and before the acknowledgement"() {
		const socket = await connected();
		const order = [];
		const back = once(socket, "back").then((args) => (order.push("event"), args));
		const ack = socket.emitWithAck("back", ...values).then((answer) => order.push(answer));
		assert.deepEqual(await back, values);
		await ack;
		assert.deepEqual(order, ["event", "after"]);
	},
	async "acknowledged to the backend"() {
		const socket = await connected();
		socket.on("question", (a, b, ack) => ack("answer", a + b, null));
		assert.deepEqual(await socket.emitWithAck("ask", "question", 5000, 1, 2), ["answer", 3, null]);
		assert.equal(await socket.emitWithAck("ask", "nobody listens", 1000), "ACK_FAILURE_TIMEOUT");
	},
	async binary() {
		const socket = await connected();
		const args = [bytes, { deep: [Buffer.from("second"), { empty: Buffer.alloc(0) }] }, "text"];
		const back = once(socket, "back");
		socket.emit("back", ...args);
		assert.deepEqual(plain(await back), args);
		assert.deepEqual(plain(await new Promise((done) => socket.emit("echo", ...args, (...got) => done(got)))), args);
		socket.on("file", (file, ack) => ack(file, new Uint8Array([1, 2]).buffer)); // an ArrayBuffer goes as well
		const [file, buffer] = await socket.emitWithAck("ask", "file", 5000, bytes);
		assert.deepEqual([plain(file), Buffer.from(buffer)], [bytes, Buffer.from([1, 2])]);
	},
	async dates() {
		const socket = await connected();
		assert.deepEqual(await socket.emitWithAck("time"), { at: "2026-02-28T12:34:56.789Z" });
		assert.equal(await socket.emitWithAck("echo", new Date(0)), "1970-01-01T00:00:00.000Z");
	},
	async "namespaces on one link"() {
		const root = await connected();
		const members = root.io.socket("/members", { auth: { token: "open sesame", user: "m" } });
		const tenant = root.io.socket("/tenant-7", { auth: { user: "t" } });
		const both = Promise.all([once(members, "connect"), once(tenant, "connect")]);
		await both;
		for (const [socket, came] of [[root, "/"], [members, "/members"], [tenant, "/tenant-7"]]) {
			assert.deepEqual((await socket.emitWithAck("handshake")).data, { came });
		}
		assert.equal(new Set([root.id, members.id, tenant.id]).size, 3);
		members.disconnect();
		assert.equal(await tenant.emitWithAck("still here", 1), 1);
	},
	async "timeout"() {
		const socket = await connected();
		await assert.rejects(socket.timeout(200).emitWithAck("silent"), /timed out/);
		assert.equal(await socket.timeout(5000).emitWithAck("in time", 1), 1);
	},
	async "retries"() {
		const socket = await connected("/", { retries: 100, ackTimeout: 250 });
		assert.equal(await socket.emitWithAck("flaky", `${socket.id} ${way}`), "at last");
	},
	async "volatile"() {
		const socket = await connected();
		socket.disconnect();
		socket.volatile.emit("back", "lost"); // not connected: it is not kept
		socket.emit("back", "kept");
		socket.connect();
		assert.deepEqual(await once(socket, "back"), ["kept"]);
		// Nor is it sent while the POST before it is under way, whose answer may come after the event that it caused.
		while (!socket.io.engine.transport.writable) {
			await new Promise((done) => setTimeout(done, 10));
		}
		socket.volatile.emit("back", "sent");
		assert.deepEqual(await once(socket, "back"), ["sent"]);
	},
	async "two hundred in order"() {
		const socket = await connected();
		const got = [];
		socket.on("back", (i) => got.push(i));
		const acks = Array.from({ length: 200 }, (_, i) => socket.emitWithAck("back", i));
		await Promise.all(acks);
		assert.deepEqual(got, Array.from({ length: 200 }, (_, i) => i));
	},
	async "disconnected by the backend"() {
		const socket = await connected();
		const words = once(socket, "last words");
		const gone = once(socket, "disconnect");
		socket.emit("throw_out", "NAMESPACE");
		assert.deepEqual(await words, ["NAMESPACE"]); // what was sent before arrives before
		assert.equal((await gone)[0], "io server disconnect");
		assert.equal(socket.active, false);
	},
	async "disconnected by itself"() {
		const socket = await connected();
		const gone = once(socket, "disconnect");
		socket.disconnect();
		assert.equal((await gone)[0], "io client disconnect");
	},
	async "reconnects"() {
		const socket = await connected();
		const before = socket.id;
		const gone = once(socket, "disconnect");
		const again = gone.then(() => once(socket, "connect"));
		socket.emit("throw_out", "TRANSPORT");
		assert.match((await gone)[0], /^transport (close|error)$/); // which of the two depends on the transport
		socket.emit("back", "buffered meanwhile");
		const back = once(socket, "back");
		await again;
		assert.notEqual(socket.id, before);
		assert.deepEqual(await back, ["buffered meanwhile"]);
	},
	async "the transport"() {
		const socket = await connected();
		const engine = socket.io.engine;
		if (way === "upgrade" && engine.transport.name === "polling") await once(engine, "upgrade");
		assert.equal(engine.transport.name, way === "upgrade" ? "websocket" : way);
		assert.equal(await socket.emitWithAck("echo", 1), 1);
	},
};

if (burst) require("./burst.js")(url, common);
else (async () => {
	for (const [check, run] of Object.entries(checks)) {
		const line = { check };
		try {
			await run();
		} catch (err) {
			line.error = String(err.stack);
		}
		open.splice(0).forEach((socket) => socket.disconnect());
		console.log(JSON.stringify(line));
	}
	process.exit(0); // timers of what was waited for in vain would hold it up
})();
