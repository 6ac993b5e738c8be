// The page of a node whose path, API or way to the browser is not the usual one: it connects, and the command that it
// shows works. argv, JSON: {url, shots, token}.
"use strict";

const { execFileSync } = require("child_process");
const { use, quiet, sees, desk, patience } = require("./browser.js");

const settings = JSON.parse(process.argv[2]);

use(settings, async ({ open, step, troubles }) => {
	const ann = await open("ann", desk);
	await step("the command works as it is shown, but for the token", async () => {
		let command = await ann.textContent("#hint-command");
		if ((await ann.isVisible("#hint-token")) !== !!settings.token) throw new Error("whether a token is needed is not told");
		if (command.includes(settings.token || "Bearer")) throw new Error(`the page tells a token: ${command}`);
		if (settings.token) command = command.replace("TOKEN", settings.token);
		execFileSync("sh", ["-c", command], { encoding: "utf8", timeout: patience });
		await sees(ann, "via gRPC", "hello from grpcurl");
	});
	quiet(troubles);
});
