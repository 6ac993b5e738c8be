// Stock clients of all transports and parsers for a soak: each joins what it is told to, hears numbered events of its rooms,
// acknowledges those that ask with its id, and says numbered events "n" of its own, which the backend answers by an event and
// an acknowledgement. A Go test knows who is in which room when; this program only takes note, and reports at the end.
//
// argv: JSON {url, clients, first}. Orders on stdin, one JSON object a line: {op: "again" | "break", c} makes a client come
// back, by its own wish or since its transport broke; {op: "finish"} ends it all.
"use strict";

const readline = require("readline");
const { io } = require("socket.io-client");
const msgpack = require("socket.io-msgpack-parser");

const { url, clients: wanted, first } = JSON.parse(process.argv[2]);
const say = (line) => process.stdout.write(JSON.stringify(line) + "\n");

const total = { said: 0, echoed: 0, acked: 0, doubled: 0, misdirected: 0, upgrades: 0, wrong: [] };
const runs = {}; // by socket id and room: the numbers that came, as [from, to] without a gap
const wrong = (what) => total.wrong.length < 20 && total.wrong.push(what);
let saying = true;
let newsAt = performance.now(); // when an answer came last

class Client {
	constructor(c) {
		this.c = c;
		this.number = 0;
		this.open = new Map(); // what was said and not answered twice: number to answers still due
		const transports = [["websocket"], ["polling"], ["polling", "websocket"]][c % 3];
		const parser = c % 2 ? { parser: msgpack } : {};
		this.socket = io(url, { forceNew: true, transports, ...parser, reconnectionDelay: 50, reconnectionDelayMax: 500 });
		this.socket.io.on("open", () => this.socket.io.engine.on("upgrade", () => total.upgrades++));
		this.socket.on("connect", () => {
			this.number = 0;
			say({ k: "connect", c, id: this.socket.id });
		});
		this.socket.on("disconnect", (reason) => {
			this.open.clear(); // what was under way is lost with the link, as it must be
			say({ k: "disconnect", c, reason });
		});
		this.socket.on("room", (room, seq, bytes, ack) => this.hear(room, seq, bytes, ack));
		this.socket.on("n", (number, id) => this.answered("echoed", number, id));
		setInterval(() => this.talk(), 100 + c % 7);
	}

	hear(room, seq, bytes, ack) {
		if (bytes && bytes.byteLength !== 300) wrong(`${room} ${seq} has ${bytes.byteLength} bytes`);
		const mine = ((runs[this.socket.id] ??= {})[room] ??= []);
		const last = mine.at(-1);
		if (last && last[1] + 1 === seq) last[1] = seq;
		else mine.push([seq, seq]);
		ack?.(this.socket.id);
	}

	talk() {
		if (!saying || !this.socket.connected || this.open.size > 200) return;
		const number = this.number++;
		const id = this.socket.id;
		this.open.set(number, { echoed: true, acked: true });
		total.said++;
		this.socket.emit("n", number, id, (got, to) => id === this.socket.id && this.answered("acked", got, to));
	}

	answered(how, number, id) {
		newsAt = performance.now();
		if (id !== this.socket.id) {
			total.misdirected++;
			return wrong(`${how}: ${number} of ${id} came to ${this.socket.id}`);
		}
		const due = this.open.get(number);
		if (!due?.[how]) {
			total.doubled++;
			return wrong(`${how}: ${number} of ${id} again`);
		}
		due[how] = false;
		total[how]++;
		if (!due.echoed && !due.acked) this.open.delete(number);
	}
}

const clients = Array.from({ length: wanted }, (_, i) => new Client(first + i));

const orders = {
	again({ c }) {
		clients[c - first].socket.disconnect().connect();
	},
	break({ c }) {
		const { transport } = clients[c - first].socket.io.engine;
		if (transport.ws) transport.ws.terminate?.();
		else transport.onError("cut by the test");
	},
	// It waits until all that was said is answered, or nothing new has come for ten seconds.
	finish() {
		saying = false;
		newsAt = performance.now();
		setInterval(() => {
			const unanswered = clients.reduce((n, client) => n + client.open.size, 0);
			if (unanswered > 0 && performance.now() - newsAt < 10_000) return;
			say({ k: "report", ...total, unanswered, runs });
			process.stdout.write("", () => process.exit(0));
		}, 100);
	},
};

readline.createInterface({ input: process.stdin }).on("line", (line) => {
	const { op, ...rest } = JSON.parse(line);
	orders[op](rest);
}).on("close", () => process.exit(0));
