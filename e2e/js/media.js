// The media that servers on Node share rooms by: for each a function of its URL and of the adapter's options, which gives the
// official adapter, and the official emitter where there is one.
"use strict";

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

module.exports = {
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
