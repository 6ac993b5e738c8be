// A backend of Foyer, to copy from: who may connect, what happens to the events of browsers, and how to reach browsers.
//
//   foyer serve --namespaces /example --connect /example=handler &
//   npm ci && npm start
//
// FOYER_API is the address of Foyer's API, FOYER_TOKEN the bearer token, when Foyer asks for one. The browser's side is
// in ../README.md.

import { once } from "node:events";
import { setTimeout as sleep } from "node:timers/promises";
import { fileURLToPath } from "node:url";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import { fromStruct, pack, toStruct, toValue, unpack } from "./payload.js";

const NAMESPACE = "/example"; // in the browser: io("/example", { auth: { token: "ann's secret" } })
const ROOM = "lobby";
const CALL_MS = 10_000; // gRPC sets no deadline by itself: a call without one can wait for ever
const GRACE_MS = 10_000; // how long events in flight may take when this program is asked to end
const FIRST_PAUSE_MS = 100;
const LONGEST_PAUSE_MS = 5_000;

// ---- Connect.

// proto/ is loaded as it is; nothing is generated.
const definition = loader.loadSync(
	["foyer/v1/emit.proto", "foyer/v1/handler.proto", "foyer/v1/socket.proto", "google/rpc/error_details.proto"],
	{ includeDirs: [fileURLToPath(new URL("../../proto", import.meta.url))], longs: String, enums: String, defaults: true, oneofs: true },
);
const api = grpc.loadPackageDefinition(definition).foyer.v1;

// The clients of the API's services. They share one connection, since their address and options are the same.
function connect() {
	const address = process.env.FOYER_API || "127.0.0.1:50051";
	const token = process.env.FOYER_TOKEN;
	// Every call carries the token.
	const bearer = (options, next) =>
		new grpc.InterceptingCall(next(options), {
			start(metadata, listener, start) {
				if (token) metadata.set("authorization", `Bearer ${token}`);
				start(metadata, listener);
			},
		});
	const options = {
		interceptors: [bearer],
		// A network that dies without a word is noticed after 20 s. Foyer takes no pings that come faster than every 5 s.
		"grpc.keepalive_time_ms": 10_000,
		"grpc.keepalive_timeout_ms": 10_000,
		// The connection has pauses of its own, which grow to two minutes by default.
		"grpc.initial_reconnect_backoff_ms": FIRST_PAUSE_MS,
		"grpc.max_reconnect_backoff_ms": LONGEST_PAUSE_MS,
	};
	const credentials = grpc.credentials.createInsecure(); // createSsl() when Foyer has --api-cert
	return {
		emits: new api.EmitService(address, credentials, options),
		handlers: new api.HandlerService(address, credentials, options),
		sockets: new api.SocketService(address, credentials, options),
	};
}

const call = (client, method, request) =>
	new Promise((done, fail) => {
		client[method](request, { deadline: Date.now() + CALL_MS }, (err, response) => (err ? fail(err) : done(response)));
	});

// ---- Attach a handler.

// attach registers, and serves until the stream ends. It throws unless that is as it should be: we have left, or Foyer
// is going down.
async function attach(foyer, stop) {
	const stream = foyer.handlers.attach();
	const ended = new AbortController();
	stream.once("status", () => ended.abort());
	// No new work once we are to stop; when the last event is answered, the stream ends.
	const leave = () => {
		stream.write({ drain: {} });
		setTimeout(() => stream.cancel(), GRACE_MS).unref();
	};
	stop.addEventListener("abort", leave);
	try {
		stream.write({
			register: {
				namespaces: [NAMESPACE],
				group: "example", // several processes of one group share the sockets
				decideConnects: true,
				maxInFlight: 64, // so many events are answered at once, and no more
			},
		});
		const people = new Map(); // by socket id: who is here. Empty each time: Foyer hands over the sockets that it still has
		for await (const heard of stream) {
			take(foyer, stream, people, heard);
			// While Foyer does not read, we do not read either: what waits to be written stays small.
			if (stream.writableNeedDrain) await once(stream, "drain", { signal: ended.signal }).catch(() => {});
		}
	} finally {
		stop.removeEventListener("abort", leave);
	}
}

function take(foyer, stream, people, heard) {
	switch (heard.message) {
		case "registered":
			console.log("attached to node", heard.registered.nodeId);
			break;
		case "connect":
			stream.write({ connectReply: decide(heard.connect) });
			break;
		case "connected": {
			const { id, userId } = heard.connected.socket;
			console.log(userId, "connected");
			people.set(id, { userId, last: Promise.resolve() });
			break;
		}
		case "assigned":
			for (const { id, userId } of heard.assigned.sockets) people.set(id, { userId, last: Promise.resolve() });
			break;
		case "disconnected": {
			const { id, userId } = heard.disconnected.socket;
			console.log(`${userId} disconnected: ${heard.disconnected.detail}`);
			people.delete(id);
			break;
		}
		case "event": {
			// The events of one socket are answered one after another, in their order, and those of different sockets at the
			// same time. maxInFlight bounds how many there are.
			const person = people.get(heard.event.socket.id); // Foyer tells of each socket before its first event
			person.last = person.last.then(() => reply(foyer, stream, person.userId, heard.event));
			break;
		}
	}
}

// ---- Decide who may connect.

// Here a session would be looked up, or a JWT be checked.
const userOf = new Map([["ann's secret", "ann"], ["bob's secret", "bob"]]);

function decide({ callId, socket }) {
	const user = userOf.get(fromStruct(socket.handshake.auth).token);
	if (user === undefined) {
		console.log("turned a client away: no such token");
		// The browser has these two in its connect_error.
		return { callId, reject: { message: "not authorized", data: toValue({ code: 401, hint: "log in first" }) } };
	}
	return {
		callId,
		accept: {
			rooms: [ROOM], // it is in there before it hears that it is connected
			userId: user,
			data: toStruct({ name: user.toUpperCase() }), // ours to use; the browser does not see it
		},
	};
}

// ---- Answer events.

// Every event gets a reply, also one that wants no acknowledgement: it makes room for the next.
async function reply(foyer, stream, user, { callId, socket, payload }) {
	let args;
	try {
		args = pack(...(await answer(foyer, socket.id, user, payload.event, unpack(payload))));
	} catch (err) {
		console.log(`${payload.event}: ${explain(err)}`);
		args = pack({ error: err.details ?? "a fault of the backend" });
	}
	stream.write({ eventReply: { callId, args } });
}

// answer does what an event asks for, and returns the arguments of its acknowledgement.
async function answer(foyer, sender, user, event, [text, file]) {
	const isText = typeof text === "string";
	// Browsers send whatever they like: what does not look as it should is an unknown event.
	if (event === "greet") return [`hello, ${user}`];
	if (event === "say" && isText) return say(foyer, sender, user, text);
	if (event === "ask" && isText) return ask(foyer, sender, text);
	if (event === "photo" && isText && Buffer.isBuffer(file)) return photo(foyer, sender, text, file);
	if (event === "who") return who(foyer);
	if (event === "oops") return oops(foyer);
	return [{ error: "no such event" }];
}

// The others in the room. Each socket is also alone in a room that has its id as the name.
const others = (sender) => ({ namespace: NAMESPACE, rooms: [ROOM], exceptRooms: [sender] });

// Emit to a room.
async function say(foyer, sender, user, text) {
	const told = await call(foyer.emits, "emit", { target: others(sender), payload: { event: "said", ...pack(user, text) } });
	return [{ told: told.matched }];
}

// Emit to a room, and wait for the acknowledgement of each client.
async function ask(foyer, sender, question) {
	const { outcomes } = await call(foyer.emits, "emitWithAck", {
		target: others(sender), payload: { event: "question", ...pack(question) }, timeout: { seconds: 3 },
	});
	const answered = outcomes.filter(({ outcome }) => outcome === "args"); // the rest took too long, or went away: see failure
	return [{ answers: answered.map(({ args }) => unpack(args)[0] ?? null), silent: outcomes.length - answered.length }];
}

// Take a binary value, and pass it on.
async function photo(foyer, sender, name, file) {
	await call(foyer.emits, "emit", { target: others(sender), payload: { event: "photo", ...pack(name, file) } });
	return [{ size: file.length, start: file.subarray(0, 4) }];
}

// List sockets, page by page.
async function who(foyer) {
	const list = { target: { namespace: NAMESPACE, rooms: [ROOM] }, view: "SOCKET_VIEW_FULL", pageSize: 100, pageToken: "" };
	const people = [];
	do {
		const page = await call(foyer.sockets, "listSockets", list);
		people.push(...page.sockets.map(({ userId, rooms, data }) => ({ user: userId, rooms, name: fromStruct(data).name })));
		list.pageToken = page.nextPageToken;
	} while (list.pageToken !== "");
	return [people];
}

// A mistake, to see what an error tells: a room must have a name.
async function oops(foyer) {
	await call(foyer.emits, "emit", { target: { namespace: NAMESPACE, rooms: [""] }, payload: { event: "never" } });
	return [];
}

// What an error says: its code, the reason (a word of foyer.v1.ErrorReason, to be tested for), the fields, and the
// text.
function explain(err) {
	if (grpc.status[err.code] === undefined) return err.stack; // not of a call
	let reason = "no reason";
	const fields = [];
	for (const packed of err.metadata?.get("grpc-status-details-bin") ?? []) {
		for (const { type_url, value } of definition["google.rpc.Status"].deserialize(packed).details) {
			const detail = definition[type_url.split("/").at(-1)]?.deserialize(value);
			if (detail?.reason) reason = detail.reason;
			fields.push(...(detail?.fieldViolations ?? []).map(({ field }) => field));
		}
	}
	return `${grpc.status[err.code]}, ${reason}, fields ${JSON.stringify(fields)}: ${err.details}`;
}

// ---- Come back when the stream ends, and leave when asked to.

const HOPELESS = [grpc.status.UNAUTHENTICATED, grpc.status.PERMISSION_DENIED, grpc.status.INVALID_ARGUMENT];

// run attaches again and again, with pauses that grow, until it is to stop. It throws what no waiting mends.
async function run(foyer, stop) {
	for (let pause = FIRST_PAUSE_MS; ; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
		const began = Date.now();
		let why = "an end without an error";
		try {
			await attach(foyer, stop);
		} catch (err) {
			const away = err.code === grpc.status.UNAVAILABLE; // then there is nothing to finish
			if ((stop.aborted && !away) || HOPELESS.includes(err.code)) throw err;
			why = explain(err);
		}
		if (stop.aborted) return;
		if (Date.now() - began > LONGEST_PAUSE_MS) pause = FIRST_PAUSE_MS; // it had worked
		// Not all at the same moment: many backends have lost the same Foyer.
		const wait = Math.round(pause * (0.5 + Math.random() / 2));
		console.log(`detached, again in ${wait} ms: ${why}`);
		await sleep(wait, undefined, { signal: stop }).catch(() => {});
		if (stop.aborted) return;
	}
}

const stop = new AbortController();
process.once("SIGTERM", () => stop.abort()).once("SIGINT", () => stop.abort());
const foyer = connect();
try {
	await run(foyer, stop.signal);
} catch (err) {
	console.error(explain(err));
	process.exitCode = 1;
} finally {
	Object.values(foyer).forEach((client) => client.close()); // open, they would keep the process
}
