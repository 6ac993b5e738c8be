// The Admin UI in a real browser, as an operator uses it: she logs in, sees a socket and its room, and disconnects it.
// argv, JSON: {url, edge, shots}. It ends with code 0 when all was seen.
"use strict";

const { mkdirSync } = require("fs");
const { chromium } = require("playwright-core");
const { io } = require("socket.io-client");

const { url, edge, shots } = JSON.parse(process.argv[2]);
const patience = 25_000;

(async () => {
	mkdirSync(shots, { recursive: true });
	const client = io(edge, { transports: ["websocket"], reconnection: false });
	const gone = new Promise((resolve) => client.on("disconnect", resolve));
	await new Promise((resolve) => client.on("connect", resolve));
	const { id } = client; // it has none once it is disconnected
	const browser = await chromium.launch({ timeout: 100_000, executablePath: process.env.CHROMIUM || "/usr/bin/chromium", args: ["--no-sandbox", "--disable-gpu"] });
	const page = await browser.newPage({ viewport: { width: 1280, height: 900 } });
	page.setDefaultTimeout(patience);
	const errors = [];
	page.on("pageerror", (error) => errors.push(error.message));
	const shot = (name) => page.screenshot({ path: `${shots}/${name}.png` });
	const connected = () => page.getByText(/^\s*connected\s*$/i).first().waitFor();
	const go = (where) => page.goto(`${url}/ui/#/${where}`);

	await go("");
	await page.getByLabel("Server URL").last().fill(url);
	await page.getByLabel("Username").fill("ann");
	await page.getByLabel("Password").fill("wrong");
	await page.getByRole("button", { name: "Connect" }).click();
	await page.getByText("Invalid credentials").waitFor();
	await page.getByLabel("Password").fill("secret");
	await page.getByRole("button", { name: "Connect" }).click();
	await connected();
	await page.locator("main tbody code", { hasText: "/" }).first().waitFor(); // the table of namespaces has statistics
	await shot("dashboard");

	await go("sockets/");
	await page.locator("main tbody tr", { hasText: id }).waitFor();
	await shot("sockets");
	await go("rooms/");
	const room = page.locator("main tbody tr", { hasText: "lobby" });
	await room.waitFor();
	await shot("rooms");

	await page.reload(); // the page comes back by its session, without a password
	await connected();
	await go("sockets/");
	await page.locator("main tbody tr", { hasText: id }).click();
	await page.getByText("Initial HTTP request").waitFor();
	await page.getByLabel("Join a room").fill("by hand");
	await page.locator("form button").last().click();
	await page.locator("main td", { hasText: "by hand" }).waitFor();
	await shot("socket");

	await go("sockets/");
	await page.getByText("Select namespace").waitFor(); // no longer the page of the socket
	await page.locator("main tbody tr", { hasText: id }).getByRole("button").click();
	const reason = await gone;
	if (reason !== "io server disconnect") throw new Error(`the client was disconnected by ${reason}`);
	await go("sockets/");
	await page.getByText("No data available").first().waitFor();
	await shot("disconnected");
	if (errors.length > 0) throw new Error(`the page has errors: ${errors}`);
	await browser.close();
	client.close();
})().catch((error) => {
	console.error(error);
	process.exit(1);
});
