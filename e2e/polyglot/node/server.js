// A backend on Node, in the manner of a Socket.IO server: io.use, io.on("connection"), socket.to(…).emit. What Socket.IO does
// inside of its process is here a call of Foyer's API; proto/ is loaded as it is, nothing is generated.
//
// backend.js shows it in use.
"use strict";

const path = require("path");
const grpc = require("@grpc/grpc-js");
const loader = require("@grpc/proto-loader");

const files = ["emit", "handler", "node", "presence", "room", "socket"].map((name) => `foyer/v1/${name}.proto`);
const definition = loader.loadSync(files, {
	includeDirs: [path.join(__dirname, "../../../proto")], keepCase: true, longs: String, enums: String, oneofs: true, defaults: true,
});
const { foyer } = grpc.loadPackageDefinition(definition);

// ---- values: JavaScript's to protobuf's and back

// pack makes arguments of an event; buffers become attachments.
function pack(args) {
	const attachments = [];
	const walk = (v) => {
		if (Buffer.isBuffer(v)) return { _placeholder: true, num: attachments.push(v) - 1 };
		if (v instanceof Date) return v; // JSON.stringify knows how
		if (Array.isArray(v)) return v.map(walk);
		if (v === null || typeof v !== "object") return v;
		return Object.fromEntries(Object.entries(v).map(([k, x]) => [k, walk(x)]));
	};
	return { json: JSON.stringify(args.map(walk)), attachments };
}

function unpack({ json, attachments }) {
	return JSON.parse(json, (_, v) => (attachments.length > 0 && v?._placeholder === true ? attachments[v.num] : v));
}

// The loader knows Struct and Value only by their fields.
const toStruct = (object) => ({ fields: Object.fromEntries(Object.entries(object).map(([k, v]) => [k, toValue(v)])) });
function toValue(v) {
	if (v === null || v === undefined) return { nullValue: "NULL_VALUE" };
	if (Array.isArray(v)) return { listValue: { values: v.map(toValue) } };
	if (typeof v === "object") return { structValue: toStruct(v) };
	return { [`${typeof v === "boolean" ? "bool" : typeof v}Value`]: v };
}
const fromStruct = (struct) => Object.fromEntries(Object.entries(struct?.fields ?? {}).map(([k, v]) => [k, fromValue(v)]));
function fromValue(v) {
	if (v.kind === "listValue") return v.listValue.values.map(fromValue);
	if (v.kind === "structValue") return fromStruct(v.structValue);
	return v.kind === "nullValue" ? null : v[v.kind];
}
const duration = (ms) => ({ seconds: Math.floor(ms / 1000), nanos: (ms % 1000) * 1e6 });

// ---- the server

// Broadcast collects whom and how, as io.to(…).except(…).volatile does; it never changes, each step makes another.
class Broadcast {
	constructor(io, target, options = {}, wait = undefined) {
		Object.assign(this, { io, target, options, wait });
	}
	with(target, options, wait = this.wait) {
		return new Broadcast(this.io, { ...this.target, ...target }, { ...this.options, ...options }, wait);
	}
	to(rooms) {
		return this.with({ all: false, rooms: [...(this.target.rooms ?? []), ...[rooms].flat()] });
	}
	in(rooms) {
		return this.to(rooms);
	}
	except(rooms) {
		return this.with({ except_rooms: [...(this.target.except_rooms ?? []), ...[rooms].flat()] });
	}
	get local() {
		return this.with({ local: true });
	}
	get volatile() {
		return this.with({}, { volatile: true });
	}
	compress(compress) {
		return this.with({}, { compress });
	}
	timeout(ms) {
		return this.with({}, {}, ms);
	}
	request(event, args) {
		return { target: this.target, payload: { event, ...pack(args) }, options: this.options };
	}
	emit(event, ...args) {
		return this.io.call("EmitService", "Emit", this.request(event, args));
	}
	emitWithAck(event, ...args) {
		return this.io.call("EmitService", "EmitWithAck", { ...this.request(event, args), timeout: this.wait && duration(this.wait) });
	}
	// collectAcks calls step with each message as it comes.
	collectAcks(step, event, ...args) {
		const stream = this.io.clients.EmitService.CollectAcks({ ...this.request(event, args), timeout: this.wait && duration(this.wait) });
		return new Promise((done, fail) => stream.on("data", step).on("error", fail).on("end", done));
	}
	socketsJoin(rooms) {
		return this.io.call("RoomService", "JoinRooms", { target: this.target, rooms: [rooms].flat() });
	}
	socketsLeave(rooms) {
		return this.io.call("RoomService", "LeaveRooms", { target: this.target, rooms: [rooms].flat() });
	}
	async fetchSockets() {
		const sockets = [];
		let page_token = "";
		do {
			const page = await this.io.call("SocketService", "ListSockets", { target: this.target, view: "SOCKET_VIEW_FULL", page_size: 2, page_token });
			sockets.push(...page.sockets);
			page_token = page.next_page_token;
		} while (page_token !== "");
		return sockets;
	}
	disconnectSockets(mode = "NAMESPACE") {
		return this.io.call("SocketService", "DisconnectSockets", { target: this.target, mode: `DISCONNECT_MODE_${mode}` });
	}
}

// Socket is one client. socket.emit goes to itself, socket.to and socket.broadcast leave it out.
class Socket extends Broadcast {
	constructor(io, { id, namespace, user_id, rooms, data }, handshake) {
		super(io, { namespace, rooms: [id] });
		Object.assign(this, { id, namespace, user: user_id, rooms, data: fromStruct(data), handshake, handlers: new Map() });
	}
	get broadcast() {
		return new Broadcast(this.io, { namespace: this.namespace, all: true, except_rooms: [this.id] });
	}
	to(rooms) {
		return this.broadcast.to(rooms);
	}
	join(rooms) {
		return this.socketsJoin(rooms);
	}
	leave(rooms) {
		return this.socketsLeave(rooms);
	}
	disconnect(mode) {
		return this.disconnectSockets(mode);
	}
	// emitInOrder is emit on the handler's own stream: it arrives before whatever that stream says next, and waits for nobody.
	emitInOrder(event, ...args) {
		this.io.command({ emit: this.request(event, args) });
	}
	// update replaces data, or merges into it, and renames the user.
	async update({ data, merge_data, user_id }) {
		const { socket } = await this.io.call("SocketService", "UpdateSocket", {
			namespace: this.namespace, socket_id: this.id, user_id, data: data && toStruct(data), merge_data: merge_data && toStruct(merge_data),
		});
		return { user: socket.user_id, data: fromStruct(socket.data) };
	}
}

class Server {
	// listeners: use [(socket) => throws an error with data, or answers {rooms, user, data}], connection, any, disconnect,
	// serverSide, and say, which is told everything.
	constructor(address, listeners) {
		const credentials = grpc.credentials.createInsecure();
		this.listeners = listeners;
		this.clients = {};
		for (const name of ["EmitService", "HandlerService", "RoomService", "SocketService"]) {
			this.clients[name] = new foyer.v1[name](address, credentials);
		}
		this.sockets = new Map();
		this.handshakes = new Map(); // of clients that are let in and not connected yet: auth is told only when it is decided
		this.results = new Map(); // commands that await theirs
		this.commands = 0;
	}
	of(namespace) {
		return new Broadcast(this, { namespace, all: true });
	}
	call(service, method, request) {
		return new Promise((done, fail) => {
			this.clients[service][method](request, { deadline: Date.now() + 15_000 }, (err, response) => (err ? fail(err) : done(response)));
		});
	}
	attach(register) {
		this.stream = this.clients.HandlerService.Attach();
		this.stream.write({ register });
		return new Promise((done, fail) => {
			this.stream.on("data", (m) => this[m.message](m[m.message])).on("error", fail).on("end", done);
		});
	}
	drain() {
		this.stream.write({ drain: {} });
	}
	// command sends a call in the order of the stream; with an id it has a result.
	command(command) {
		this.stream.write({ command });
	}
	serverSideEmit(event, ...args) {
		const id = String(++this.commands);
		this.command({ id, server_side_emit: { payload: { event, ...pack(args) }, wants_replies: true } });
		return new Promise((done, fail) => this.results.set(id, { done, fail }));
	}

	// ---- what Foyer says, by the name of its message

	registered({ handler_id }) {
		this.listeners.say({ k: "attached", handler: handler_id });
	}
	connect({ call_id, socket }) {
		const handshake = { ...socket.handshake, auth: fromStruct(socket.handshake.auth) };
		try {
			const { rooms = [], user = "", data = {} } = this.listeners.use.reduce((all, check) => ({ ...all, ...check({ ...socket, handshake }) }), {});
			this.handshakes.set(`${socket.namespace} ${socket.id}`, handshake);
			this.stream.write({ connect_reply: { call_id, accept: { rooms, user_id: user, data: toStruct(data) } } });
		} catch (err) {
			const { message, data, retry = false } = err;
			this.stream.write({ connect_reply: { call_id, reject: { message, data: data && toValue(data), retry } } });
		}
	}
	connected({ socket }) {
		const key = `${socket.namespace} ${socket.id}`;
		const handshake = this.handshakes.get(key);
		this.handshakes.delete(key);
		const known = new Socket(this, socket, handshake);
		this.sockets.set(key, known);
		this.listeners.connection(known);
	}
	// assigned are sockets that another handler has had: what only that one knew is gone with it.
	assigned({ sockets, cause }) {
		for (const socket of sockets) {
			this.sockets.set(`${socket.namespace} ${socket.id}`, new Socket(this, socket, undefined));
			this.listeners.say({ k: "assigned", id: socket.id, namespace: socket.namespace, rooms: socket.rooms, reason: cause });
		}
	}
	event({ call_id, socket, payload, wants_ack }) {
		const args = unpack(payload);
		const known = this.sockets.get(`${socket.namespace} ${socket.id}`);
		// What wants no acknowledgement is told of as handled, which frees its slot; an acknowledgement does that by itself.
		const ack = wants_ack ? (...answer) => this.stream.write({ event_reply: { call_id, args: pack(answer) } }) : undefined;
		if (!wants_ack) this.stream.write({ handled: { up_to: call_id } });
		this.listeners.say({ k: "event", id: socket.id, namespace: socket.namespace, event: payload.event, args, wants_ack });
		this.listeners.any(known, payload.event, args, ack);
	}
	disconnected({ socket, reason, detail }) {
		this.listeners.say({ k: "disconnected", id: socket.id, namespace: socket.namespace, rooms: socket.rooms, reason, detail });
		this.sockets.delete(`${socket.namespace} ${socket.id}`);
	}
	server_side_event({ call_id, payload, wants_reply }) {
		const args = unpack(payload);
		this.listeners.say({ k: "server_side", event: payload.event, args });
		if (wants_reply) this.stream.write({ event_reply: { call_id, args: pack(this.listeners.serverSide(payload.event, args)) } });
	}
	command_result({ id, result, [result]: answer }) {
		const { done, fail } = this.results.get(id);
		this.results.delete(id);
		if (result === "error") fail(Object.assign(new Error(answer.message), { code: answer.code, details: answer.message }));
		else done(answer);
	}
	draining() {}
}

module.exports = { Server, unpack, statusName: (code) => grpc.status[code] };
