// A Socket.IO server on Node with an official adapter, on strings: a Go test writes JavaScript to stdin, a line each, in which
// io, emitter and heard are known, and reads {value} or {err} for each from stdout. argv: the medium, its URL, and options of
// the adapter as JSON. The first line that it says is its port.
"use strict";

const readline = require("readline");
const { createServer } = require("http");
const { Server } = require("socket.io");

const connected = async (url) => {
	const client = require("redis").createClient({ url });
	client.on("error", (err) => console.error(`redis: ${err.message}`));
	await client.connect();
	return client;
};

// Several addresses in a URL are of one Redis Cluster.
const addresses = (url) => url.replace("redis://", "").split(",");

const clustered = async (url) => {
	const rootNodes = addresses(url).map((address) => ({ url: `redis://${address}` }));
	const client = require("redis").createCluster({ rootNodes });
	client.on("error", (err) => console.error(`redis: ${err.message}`));
	await client.connect();
	return client;
};

const ioredis = async (url) => {
	const { Redis, Cluster } = require("ioredis");
	const client = url.includes(",") ? new Cluster(addresses(url).map((address) => `redis://${address}`), { shardedSubscribers: true }) : new Redis(url);
	client.on("error", (err) => console.error(`redis: ${err.message}`));
	await new Promise((ready) => client.once("ready", ready));
	return client;
};

// Each medium gives the adapter, and the official emitter where there is one.
const media = {
	redis: async (url, { library, ...options }) => {
		const connect = library === "ioredis" ? ioredis : connected;
		const [pub, sub] = [await connect(url), await connect(url)];
		const { createAdapter } = require("@socket.io/redis-adapter");
		const { Emitter } = require("@socket.io/redis-emitter");
		return { adapter: createAdapter(pub, sub, options), emitter: new Emitter(pub) };
	},
	"redis-sharded": async (url, { library, ...options }) => {
		const { createShardedAdapter } = require("@socket.io/redis-adapter");
		const connect = library === "ioredis" ? ioredis : url.includes(",") ? clustered : connected;
		return { adapter: createShardedAdapter(await connect(url), await connect(url), options) };
	},
	"redis-streams": async (url, options) => {
		const { createAdapter } = require("@socket.io/redis-streams-adapter");
		return { adapter: createAdapter(await connected(url), options) };
	},
	postgres: async (url, options) => {
		const { Pool } = require("pg");
		const { createAdapter } = require("@socket.io/postgres-adapter");
		const { Emitter } = require("@socket.io/postgres-emitter");
		const pool = new Pool({ connectionString: url });
		pool.on("error", (err) => console.error(`postgres: ${err.message}`));
		return { adapter: createAdapter(pool, options), emitter: new Emitter(pool) };
	},
	mongo: async (url, { collection, ...options }) => {
		const { MongoClient } = require("mongodb");
		const { createAdapter } = require("@socket.io/mongo-adapter");
		const { Emitter } = require("@socket.io/mongo-emitter");
		const shared = (await new MongoClient(url).connect()).db().collection(collection);
		const { addCreatedAtField } = options;
		return { adapter: createAdapter(shared, options), emitter: new Emitter(shared, "/", { addCreatedAtField }) };
	},
};

(async () => {
	const [medium, url, options] = process.argv.slice(2);
	const { adapter, emitter } = await media[medium](url, JSON.parse(options));
	const server = createServer();
	const io = new Server(server, { adapter });
	const heard = []; // server-side events
	for (const name of ["/", "/chat"]) {
		io.of(name).on("connection", (socket) => {
			socket.data.name = "on Node";
			socket.onAny((event, ...args) => {
				const ack = args.at(-1);
				if (typeof ack === "function") ack(...args.slice(0, -1));
			});
		});
		io.of(name).on("news", (...args) => {
			const ack = args.at(-1);
			heard.push(args.filter((arg) => typeof arg !== "function"));
			if (typeof ack === "function") ack("heard on Node");
		});
	}
	await new Promise((listening) => server.listen(0, "127.0.0.1", listening));
	console.log(JSON.stringify({ value: server.address().port }));
	for await (const line of readline.createInterface({ input: process.stdin })) {
		try {
			const value = await new Function("io", "emitter", "heard", `return (async () => (${line}))()`)(io, emitter, heard);
			console.log(JSON.stringify({ value: value === undefined ? null : value }));
		} catch (err) {
			console.log(JSON.stringify({ err: `${err.message} ${JSON.stringify(err.responses ?? null)}` }));
		}
	}
	process.exit(0);
})();
