// What the tests ask of a backend, written against server.js as one would against Socket.IO. ../python/backend.py is the same
// in Python: no test tells the two apart.
//
//   node backend.js ADDRESS [HANDLER_ID]
//
// What it is told goes to stdout, one JSON object a line. When its stdin ends, it drains and is gone.
"use strict";

const { Server, unpack, statusName } = require("./server");

// rows are the lines of Socket.IO's cheat sheet. The sender is who asked for the row; ids has everybody's id.
const rows = {
	"socket.emit": ({ sender }, event) => sender.emit(event, "hello", 1),
	"io.to(socketId).emit": ({ io, ids }, event) => io.to(ids.none).emit(event, "hello", 1),
	"socket.broadcast.emit": ({ sender }, event) => sender.broadcast.emit(event, "hello", 1),
	"socket.to(room1).emit": ({ sender }, event) => sender.to("room1").emit(event, "hello", 1),
	"socket.to([room1,room2]).emit": ({ sender }, event) => sender.to(["room1", "room2"]).emit(event, "hello", 1),
	"io.in(room1).emit": ({ io }, event) => io.in("room1").emit(event, "hello", 1),
	"io.to([room1,room2]).except(room3).emit": ({ io }, event) => io.to(["room1", "room2"]).except("room3").emit(event, "hello", 1),
	"io.of(myNamespace).emit": ({ server }, event) => server.of("myNamespace").emit(event, "hello", 1),
	"io.of(myNamespace).to(room1).emit": ({ server }, event) => server.of("myNamespace").to("room1").emit(event, "hello", 1),
	"io.local.emit": ({ io }, event) => io.local.emit(event, "hello", 1),
	"io.emit": ({ io }, event) => io.emit(event, "hello", 1),
	"socket.compress(false).emit": ({ sender }, event) => sender.compress(false).emit(event, "hello", 1),
	"socket.volatile.emit": ({ sender }, event) => sender.volatile.emit(event, "hello", 1),

	"socket.emit(question, ack)": async ({ sender }, event) => outcomes(await sender.emitWithAck(event, "?")),
	"socket.timeout(5000).emit": async ({ sender }, event) => outcomes(await sender.timeout(300).emitWithAck(event)),
	"io.timeout(1000).emit(hi, acks)": async ({ io }, event) => outcomes(await io.to(["room1", "room2"]).timeout(4000).emitWithAck(event, 7)),
	"the same by CollectAcks": async ({ io }, event) => {
		const got = { outcomes: [], order: "" };
		await io.to(["room1", "room2"]).timeout(4000).collectAcks((m) => {
			got.order += m.message[0];
			if (m.message === "started") got.started = m.started.matched;
			if (m.message === "outcome") got.outcomes.push(m.outcome);
			if (m.message === "summary") got.summary = m.summary;
		}, event, 7);
		return { ...outcomes(got), order: got.order, started: got.started };
	},

	"socket.join": async ({ sender }) => matched(await sender.join("room9")),
	"socket.leave": async ({ sender }) => matched(await sender.leave("room9")),
	"io.in(room1).socketsJoin([room4,room5])": async ({ io }) => matched(await io.in("room1").socketsJoin(["room4", "room5"])),
	"io.in(room4).socketsLeave(room4)": async ({ io }) => matched(await io.in("room4").socketsLeave("room4")),
	"io.in(room2).fetchSockets": async ({ io }) => {
		const sockets = await io.in("room2").fetchSockets();
		return Object.fromEntries(sockets.map((s) => [s.user_id, { id: s.id, rooms: s.rooms }]));
	},
	"io.in(room3).disconnectSockets": async ({ io }) => matched(await io.in("room3").disconnectSockets()),
	"socket.data": async ({ sender }) => {
		await sender.update({ data: { color: "red", size: 1 } });
		return sender.update({ merge_data: { color: null, shape: "round" }, user_id: "renamed" });
	},
	"io.serverSideEmit": async ({ server }, event) => {
		const { matched, replies } = await server.serverSideEmit(event, 1);
		return { matched, replies: replies.map((r) => ({ handler: r.handler_id, args: unpack(r.args) })) };
	},
	"a reserved event": ({ sender }) => sender.emit("disconnect"),
};

const matched = (response) => ({ matched: response.matched });

function outcomes({ outcomes, summary }) {
	const told = outcomes.map((o) => [o.socket_id, o.outcome === "args" ? { args: unpack(o.args) } : { failure: o.failure.replace("ACK_FAILURE_", "") }]);
	return { outcomes: Object.fromEntries(told), matched: summary.matched, acked: summary.acked };
}

// Middleware: each throws, or answers what the acceptance shall have.
const refuse = (message, data, retry) => {
	throw Object.assign(new Error(message), { data, retry });
};
const use = [
	({ handshake: { auth } }) => (auth.reject ? refuse(auth.reject, auth.data, auth.retry) : {}),
	({ namespace, handshake: { auth } }) =>
		namespace === "/members" && auth.token !== "open sesame" ? refuse("not authorized", { code: 401, content: "Please log in" }) : {},
	({ namespace, handshake: { auth } }) => ({ rooms: auth.rooms, user: auth.user, data: { came: namespace } }),
];

// Events that are not here are echoed: the acknowledgement has their arguments.
const attempts = new Map();
const unanswered = []; // only an answer frees an event that wants one: these are given theirs at the very end
const on = {
	// says it again by an event; the acknowledgement, on the same stream, comes after it.
	back(socket, args, ack) {
		socket.emitInOrder("back", ...args);
		ack?.("after");
	},
	handshake(socket, args, ack) {
		const { query, auth, address, url, headers } = socket.handshake;
		ack({ query, auth, address, url, agent: headers["user-agent"] ?? null, user: socket.user, data: socket.data });
	},
	time(socket, args, ack) {
		ack({ at: new Date(Date.UTC(2026, 1, 28, 12, 34, 56, 789)) });
	},
	silent(socket, args, ack) {
		unanswered.push(ack);
	},
	// answers the third time only.
	flaky(socket, [key], ack) {
		attempts.set(key, (attempts.get(key) ?? 0) + 1);
		if (attempts.get(key) > 2) ack("at last", attempts.get(key));
		else unanswered.push(ack);
	},
	// asks the client something, and acknowledges with what it says.
	async ask(socket, [event, ms, ...args], ack) {
		const { outcomes } = await socket.timeout(ms).emitWithAck(event, ...args);
		ack(outcomes[0].outcome === "args" ? unpack(outcomes[0].args) : outcomes[0].failure);
	},
	async throw_out(socket, [mode]) {
		await socket.emit("last words", mode); // a call that has been answered is before the next; the stream would not be
		await socket.disconnect(mode);
	},
	async row(socket, [name, event, ids], ack) {
		try {
			const io = socket.io.of(socket.namespace);
			ack({ ok: await rows[name]({ server: socket.io, io, sender: socket, ids }, event) });
		} catch (err) {
			ack({ code: statusName(err.code) ?? "BUG", message: String(err.details ?? err.stack) });
		}
	},
};

// What JSON does not have is told as puppet.js tells it.
function plain(v) {
	if (Buffer.isBuffer(v)) return { $bin: v.toString("base64") };
	if (Array.isArray(v)) return v.map(plain);
	return v === null || typeof v !== "object" ? v : Object.fromEntries(Object.entries(v).map(([k, x]) => [k, plain(x)]));
}

async function main(address, handler_id) {
	const server = new Server(address, {
		use,
		connection: (socket) => server.listeners.say({ k: "connected", id: socket.id, namespace: socket.namespace, rooms: socket.rooms }),
		any: (socket, event, args, ack) => (on[event] ?? (() => ack?.(...args)))(socket, args, ack),
		serverSide: (event, args) => ["pong", ...args],
		say: (what) => process.stdout.write(JSON.stringify(plain(what)) + "\n"),
	});
	process.stdin.resume().on("end", () => {
		unanswered.forEach((ack) => ack());
		server.drain();
	});
	await server.attach({
		namespaces: ["/", "/myNamespace", "/members", "/tenant-*"], group: "polyglot", handler_id, decide_connects: true,
		server_side_events: true, socket_view: "SOCKET_VIEW_FULL",
	});
	process.exit(0); // it drained: open channels would keep the process
}

main(...process.argv.slice(2));
