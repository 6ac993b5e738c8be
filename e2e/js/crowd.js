// A crowd of stock clients with default options: polling first, then the upgrade. They come in at a steady pace, unless this
// process is late, and each says numbered events "n" from its first moment on, through its upgrade and beyond. The backend
// answers each with an event "n" and then an acknowledgement, both with the number; of its own accord it sends so many "push"
// to each newcomer, numbered too. In all of them is when it sent them (ms). Every number is followed: lost, doubled, out of
// order, late.
//
// Two ways to talk (argv, JSON: {url, clients, perSecond, pingInterval, pushes, mode}):
//
//   "through"  a client falls silent about the time of its upgrade, each at another point of it, so that nothing that it says
//              later can set free what was stuck. When all have been answered, everybody says one thing more, all at once.
//              Ends by itself.
//   "steady"   a client goes on at a slow pace until it is told "stop" on stdin. After "mark" it is noted who has been
//              answered to something said since then.
//
// A client that lacks 32 answers waits: with 64 unanswered events the server would close its link, as it says.
//
// Released by a heartbeat: a stuck packet waits in the server's queue until something else for that client sets it free, and for
// a silent client that is a ping. So a packet is counted as released when it comes together with a ping (within 100 ms, before
// or behind it), the two end a silence of more than 1 s, and the backend sent it before that silence. When it was sent is told
// by the backend, in the packet. What is late for lack of a processor must not be mistaken for stuck: all that time this
// process was awake (its clock never late by more than 250 ms), and so were server and backend (a canary, which asks for an
// answer all the time, never waited longer than 250 ms; when a killed backend takes its question along it asks no more, and
// nothing is judged from then on). If no ping comes either, the packet is lost, as the wait at the end is longer than the ping
// interval.
"use strict";

const readline = require("readline");
const { io } = require("socket.io-client");

const { url, clients: wanted, perSecond, pingInterval, pushes, mode } = JSON.parse(process.argv[2]);
const ACK = 3; // the packet type

const now = () => performance.now();
const between = (a, b) => a + Math.random() * (b - a);

const total = {
	said: 0, echoes: 0, acks: 0, pushed: 0, connects: 0, upgrades: 0, disconnects: {}, connectErrors: {}, refused: 0,
	doubled: 0, disordered: 0, ackBeforeEcho: 0, wrong: 0, released: 0, cut: 0, slowestLag: 0,
};
const examples = []; // of what went wrong, the first few
const latency = { ack: [], echo: [], push: [], together: [], canary: [], connect: [], upgrade: [] }; // ms, rounded

function wrong(kind, detail) {
	total[kind]++;
	if (examples.length < 20) examples.push(`${kind}: ${detail}`);
}

// When this process, or what the canary talks to, was last found late.
let lateAt = -Infinity;
let busyAt = -Infinity; // when this process itself was
let canaryAt = Infinity; // when the canary asked; it waits for an answer
let tick = now();
setInterval(() => {
	look();
	tick = now();
}, 20);

// look notes whether they are late now. A process that was late may hear packets before its interval runs.
function look() {
	const lag = now() - tick - 20;
	total.slowestLag = Math.max(total.slowestLag, Math.round(lag));
	if (lag > 250) busyAt = now();
	if (lag > 250 || now() - canaryAt > 250) lateAt = now();
}

const canary = io(url, { forceNew: true, transports: ["websocket"] });
canary.on("disconnect", () => (lateAt = now()));
function sing() {
	canaryAt = now();
	canary.emit("canary", () => {
		look();
		latency.canary.push(Math.round(now() - canaryAt));
		canaryAt = Infinity;
		setTimeout(sing, 25);
	});
}
canary.once("connect", sing);

let mark = Infinity; // when the backend was back
let stopped = false;
let together = false; // everybody speaks at once

class Client {
	constructor(index) {
		this.index = index;
		this.born = now();
		this.saidAt = []; // by number
		this.echoed = []; // by number: true
		this.acked = [];
		this.pushed = [];
		this.lastEcho = this.lastAck = this.lastPush = -1;
		this.ackIDs = new Set(); // of this connection
		this.open = pushes; // what is missing: the pushes, and two answers for each number
		this.hasty = index % 8 > 3; // says much before its upgrade
		this.heardAt = now(); // a packet or a ping
		this.burst = null; // what ended the last long silence
		this.silent = false;
		this.served = false;

		this.socket = io(url, { forceNew: true });
		const { socket } = this;
		socket.on("connect", () => {
			total.connects++;
			this.ackIDs.clear();
			latency.connect.push(Math.round(now() - this.born));
		});
		socket.on("disconnect", (reason) => {
			total.disconnects[reason] = (total.disconnects[reason] ?? 0) + 1;
			// What was said and not answered went down with the link. (What was said since waits in the client.)
			this.saidAt.forEach((_, n) => this.settled(n) || this.drop(n));
		});
		socket.on("connect_error", (err) => {
			total.connectErrors[err.message] = (total.connectErrors[err.message] ?? 0) + 1;
			if (!socket.active) wrong("refused", `client ${index}: ${err.message} ${JSON.stringify(err.data)}`);
		});
		socket.on("n", (n, at) => this.echo(n, at));
		socket.on("push", (n, at) => this.push(n, at));
		socket.io.on("open", () => {
			socket.io.engine.on("upgrading", () => this.stage("upgrading"));
			socket.io.engine.on("upgrade", () => {
				total.upgrades++;
				latency.upgrade.push(Math.round(now() - this.born));
				this.stage("upgrade");
			});
		});
		socket.io.on("ping", () => {
			this.hear();
			if (this.burst) this.burst.ping = true;
			this.judge();
		});
		socket.io.on("packet", (packet) => {
			this.hear();
			// The client drops a second acknowledgement without a word, so it is looked for here.
			if (packet.type !== ACK) return;
			if (this.ackIDs.has(packet.id)) wrong("doubled", `client ${index}: acknowledgement ${packet.id}`);
			this.ackIDs.add(packet.id);
		});
		this.talk();
	}

	// talk says the next thing, and goes on after a pause.
	talk = () => {
		if (this.silent || stopped) return;
		if (this.open < 2 * 32 + pushes) this.say();
		setTimeout(this.talk, this.pause());
	};

	pause() {
		if (mode === "steady") return this.calm || !this.socket.connected ? between(400, 600) : between(20, 50);
		return this.hasty ? between(1, 4) : between(20, 50);
	}

	say() {
		const n = this.saidAt.length;
		this.saidAt.push(now());
		this.open += 2;
		total.said++;
		this.socket.emit("n", n, (m, at) => this.ack(n, m, at));
	}

	// stage: a client in a hundred has the same way to fall silent as another, at another moment.
	stage(name) {
		const quietIn = (ms) => setTimeout(() => (mode === "steady" ? (this.calm = true) : (this.silent = true)), ms);
		const way = mode === "steady" ? 0 : this.index % 4;
		if (name === "upgrading") {
			if (way === 2) {
				this.say(); // the last word falls into the switch
				this.silent = true;
			}
		} else {
			this.hasty = way === 3;
			if (way === 0) quietIn(between(100, 500));
			if (way === 1) {
				this.say();
				this.silent = true;
			}
			if (way === 3) quietIn(between(0, 100));
		}
	}

	echo(n, at) {
		if (this.echoed[n] || this.dropped?.has(n)) return wrong("doubled", `client ${this.index}: echo ${n}`);
		if (n <= this.lastEcho) wrong("disordered", `client ${this.index}: echo ${n} after ${this.lastEcho}`);
		this.lastEcho = n;
		this.echoed[n] = true;
		total.echoes++;
		this.answered(n, "echo", at);
	}

	ack(n, m, at) {
		if (n !== m) wrong("wrong", `client ${this.index}: acknowledgement of ${n} says ${m}`);
		if (n <= this.lastAck) wrong("disordered", `client ${this.index}: acknowledgement ${n} after ${this.lastAck}`);
		if (!this.echoed[n]) wrong("ackBeforeEcho", `client ${this.index}: ${n}`);
		this.lastAck = n;
		this.acked[n] = true;
		total.acks++;
		this.answered(n, "ack", at);
	}

	push(n, at) {
		if (this.pushed[n]) return wrong("doubled", `client ${this.index}: push ${n}`);
		if (n <= this.lastPush) wrong("disordered", `client ${this.index}: push ${n} after ${this.lastPush}`);
		this.pushed[n] = true;
		this.lastPush = n;
		this.open--;
		total.pushed++;
		latency.push.push(Date.now() - at);
		this.watch("push", n, at);
	}

	answered(n, kind, at) {
		this.open--;
		if (this.saidAt[n] > mark) this.served = true;
		latency[together ? "together" : kind].push(Math.round(now() - this.saidAt[n]));
		this.watch(kind, n, at);
	}

	// hear notes that something came, be it a packet or a ping.
	hear() {
		const at = now();
		const silence = at - this.heardAt;
		this.heardAt = at;
		if (silence > 1000) this.burst = { at, silence, ping: false, old: [] };
		else if (this.burst && at - this.burst.at > 100) this.burst = null;
	}

	// watch notes a packet that is older than the silence that it ended; sentAt is when the backend sent it.
	watch(kind, n, sentAt) {
		if (!this.burst) return;
		const age = Date.now() - sentAt;
		if (age > now() - this.burst.at + this.burst.silence - 50) this.burst.old.push(`${kind} ${n}, sent ${age} ms ago`);
		this.judge();
	}

	judge() {
		look();
		const { at, silence, ping, old } = this.burst ?? {};
		if (!ping || lateAt > at - silence) return;
		for (const what of old.splice(0)) wrong("released", `client ${this.index}: ${what}, with a ping that ended ${Math.round(silence)} ms of silence`);
	}

	// in says whether it is connected, and through its upgrade.
	get in() {
		return this.socket.connected && this.socket.io.engine?.transport?.name === "websocket";
	}

	settled(n) {
		return (this.echoed[n] && this.acked[n]) || this.dropped?.has(n);
	}

	drop(n) {
		if (!this.socket.receiveBuffer || this.saidAt[n] === undefined) return;
		// The client keeps what was said while it was not connected, and sends it after the next connect.
		if (this.socket.sendBuffer.some((packet) => packet.data?.[1] === n)) return;
		this.dropped ??= new Set();
		this.dropped.add(n);
		this.open -= 2 - !!this.echoed[n] - !!this.acked[n];
		total.cut++;
	}

	// lost are the numbers said after a moment that lack an answer, if there is no reason for it.
	lost(after) {
		let lost = pushes - this.pushed.filter(Boolean).length;
		this.saidAt.forEach((at, n) => {
			if (at >= after && !this.settled(n)) lost++;
		});
		return lost;
	}
}

const all = [];
const say = (what, then) => process.stdout.write(JSON.stringify(what) + "\n", then);

// until waits for a condition, within ms; the result says whether it came true.
function until(condition, ms) {
	const end = now() + ms;
	return new Promise((resolve) => {
		const look = () => (condition() ? resolve(true) : now() > end ? resolve(false) : setTimeout(look, 50));
		look();
	});
}

function histogram(list) {
	const counts = {};
	for (const ms of list) counts[ms] = (counts[ms] ?? 0) + 1;
	return counts;
}

async function arrive() {
	const began = now();
	let due = began;
	for (let i = 0; i < wanted; i++) {
		if (due > now()) await new Promise((resolve) => setTimeout(resolve, due - now()));
		// Fewer come in while this process is late, as on a busy machine. Otherwise their connections say nothing for
		// more than 10 s, and the server ends them.
		await until(() => now() - busyAt > 250, 100);
		all.push(new Client(i));
		due = Math.max(due + 1000 / perSecond, now());
	}
	say({ arrived: wanted, ms: Math.round(now() - began) });
}

function report(since) {
	const lost = all.reduce((sum, c) => sum + c.lost(since), 0);
	for (const c of all) {
		if (c.lost(since) > 0 && examples.length < 30) {
			const n = c.saidAt.findIndex((at, n) => at >= since && !c.settled(n));
			examples.push(
				`lost: client ${c.index}, last push ${c.lastPush}, ${c.socket.io.engine?.transport?.name}, said ${c.saidAt.length}, missing from ${n}: ` +
					`echo ${!!c.echoed[n]}, ack ${!!c.acked[n]}, last echo ${c.lastEcho}, last ack ${c.lastAck}, connected ${c.socket.connected}`,
			);
		}
	}
	const result = {
		...total,
		clients: all.length,
		connected: all.filter((c) => c.socket.connected).length,
		onWebsocket: all.filter((c) => c.in).length,
		served: all.filter((c) => c.served).length,
		lost,
		examples,
		latency: Object.fromEntries(Object.entries(latency).map(([k, v]) => [k, histogram(v)])),
	};
	say({ result }, () => process.exit(0)); // it is long: not before it is written
}

async function through() {
	await arrive();
	const rest = pingInterval + 10_000; // long enough for a heartbeat to reach everybody
	await until(() => all.every((c) => c.silent && c.open === 0), rest);
	together = true;
	for (const c of all) {
		c.silent = true;
		c.say();
	}
	await until(() => all.every((c) => c.open === 0 && c.in), rest);
	report(-Infinity);
}

async function steady() {
	const orders = readline.createInterface({ input: process.stdin });
	orders.on("line", (line) => {
		if (line === "mark") mark = now();
		if (line === "stop") stopped = true;
	});
	await arrive();
	await until(() => mark < Infinity, 120_000);
	await until(() => all.every((c) => c.served && c.socket.connected), 120_000);
	say({ served: all.filter((c) => c.served).length, ms: Math.round(now() - mark) });
	await until(() => stopped, 120_000);
	await until(() => all.every((c) => c.lost(mark) === 0 && c.in), 60_000);
	report(mark);
}

(mode === "steady" ? steady : through)();
