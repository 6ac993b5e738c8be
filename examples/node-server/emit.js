// Sends a message into the chat by the official emitter, without being a server.
//
//	node emit.js [REDIS [TEXT]]
import { Emitter } from "@socket.io/redis-emitter";
import { createClient } from "redis";

const [redis = "redis://127.0.0.1:6379", text = "hello from an emitter"] = process.argv.slice(2);
const client = createClient({ url: redis });
client.on("error", (err) => console.error(`redis: ${err.message}`));
await client.connect();
new Emitter(client).to("lobby").emit("chat message", text, { nickname: "emitter", room: "lobby", time: Date.now() });
await client.close(); // when all of it is sent
