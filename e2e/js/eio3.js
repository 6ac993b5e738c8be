// Makes the puppets of puppet.js clients of Socket.IO v2: node --require ./js/eio3.js js/puppet.js. It puts the stock v2
// client in the place of v4's and gives it the few methods of v4 that a puppet uses; what the client does stays its own.
//
// An error that v2 reports is a connect_error, with its words as message if it is a string, and otherwise as data.
"use strict";

const Module = require("module");
const io = require("socket.io-client-v2");

function dress(socket) {
	Object.defineProperty(socket, "active", { get: () => Boolean(socket.subs) });
	let any = () => {};
	socket.onAny = (listener) => (any = listener);
	socket.onevent = (packet) => {
		const args = packet.data.slice();
		if (packet.id !== undefined) args.push(socket.ack(packet.id));
		any(...args);
	};
	socket.on("error", (what) => {
		const refused = typeof what === "string" ? { message: what } : { message: what?.message, data: what };
		for (const listener of socket.listeners("connect_error")) listener(refused);
	});
	return socket;
}

function open(url, opts) {
	const socket = dress(io(url, opts));
	const manager = socket.io;
	const beside = manager.socket;
	manager.socket = (...args) => dress(beside.apply(manager, args));
	return socket;
}

const load = Module._load;
Module._load = (name, ...rest) => (name === "socket.io-client" ? { io: open } : load(name, ...rest));
