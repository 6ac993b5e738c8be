// The chat page in a real browser: two people on it, one at a desk and one with a phone. argv, JSON: {url, api, shots}.
// It ends with code 0 when all was seen, and otherwise says on stderr what was not.
"use strict";

const { execFileSync } = require("child_process");
const { use, quiet, menu, rename, says, types, sees, desk, phone, patience } = require("./browser.js");

const settings = JSON.parse(process.argv[2]);
const { api } = settings;

use(settings, async ({ open, shot, step, troubles }) => {
	let ann, bob;
	await step("both connect and upgrade", async () => {
		ann = await open("ann", { ...desk, permissions: ["clipboard-read", "clipboard-write"] });
		bob = await open("bob", phone);
	});
	await step("they see each other's names", async () => {
		await rename(ann, "Ann");
		await rename(bob, "Bob");
		for (const page of [ann, bob]) {
			await page.waitForFunction(() => document.querySelector("#who-count").textContent === "2");
			await page.waitForFunction(() => [...document.querySelectorAll("#who [data-name]")].map((e) => e.textContent).sort().join() === "Ann,Bob");
		}
	});
	await step("typing is shown, to the other", async () => {
		await types(ann, "Hello B", bob, "Ann is typing");
		if ((await ann.locator("#typing").textContent()) !== "") throw new Error("Ann is told that she is typing");
	});
	await step("they chat", async () => {
		await says(ann, "Hello Bob, can you hear me?");
		await sees(bob, "Ann", "Hello Bob, can you hear me?");
		await bob.waitForFunction(() => document.getElementById("typing").textContent === "");
		await says(bob, "Loud and clear \u{1F44B}");
		await sees(ann, "Bob", "Loud and clear \u{1F44B}");
		await sees(ann, "Ann", "Hello Bob, can you hear me?"); // one's own
	});
	await step("what looks like HTML is text", async () => {
		const evil = "<img src=x onerror=\"document.title='owned'\"><b>bold</b>";
		await says(bob, evil);
		await sees(ann, "Bob", evil);
		if ((await ann.locator("#log img, #log b").count()) > 0) throw new Error("it became HTML");
	});
	await step("grpcurl speaks into the room, by the command that the page shows", async () => {
		const command = await ann.locator("#hint-command").textContent();
		if (!command.includes(` ${api} `)) throw new Error(`it does not call ${api}: ${command}`);
		const answer = JSON.parse(execFileSync("sh", ["-c", command], { encoding: "utf8", timeout: patience }));
		if (answer.matched !== 2 || answer.enqueued !== 2) throw new Error(`it answered ${JSON.stringify(answer)}`);
		for (const page of [ann, bob]) await page.locator("#log [data-text]", { hasText: "hello from grpcurl" }).waitFor();
	});
	await step("each message is there once", async () => {
		for (const page of [ann, bob]) {
			const texts = await page.locator("#log [data-message] [data-text]").allTextContents();
			if (texts.length !== 4 || new Set(texts).size !== 4) throw new Error(JSON.stringify(texts));
		}
	});
	await step("pictures", async () => {
		await shot(ann, "desk");
		await shot(bob, "phone");
		await menu(bob, true);
		await bob.waitForFunction(() => document.body.dataset.menu === "open");
		await bob.waitForFunction(() => document.getAnimations().every((a) => a.playState === "finished"));
		await shot(bob, "phone-menu");
		await menu(bob, false);
		await ann.emulateMedia({ colorScheme: "dark" });
		await shot(ann, "desk-dark");
		await ann.emulateMedia({ colorScheme: "light" });
	});
	await step("a room of one's own", async () => {
		await ann.fill("#join-input", "garden");
		await ann.click("#join");
		await ann.waitForSelector('#room-list [data-room="garden"][data-joined=true][data-open=true]');
		await says(ann, "Anybody here?");
		await sees(ann, "Ann", "Anybody here?");
		await menu(bob, true);
		await bob.waitForSelector('#room-list [data-room="garden"][data-joined=false]');
		await bob.click('#room-list [data-room="garden"] button');
		await bob.waitForSelector('#room-list [data-room="garden"][data-open=true]', { state: "attached" });
		await ann.waitForFunction(() => document.querySelector("#who-count").textContent === "2");
		await says(bob, "I am");
		await sees(ann, "Bob", "I am");
		if ((await bob.locator("#log [data-text]", { hasText: "Anybody here?" }).count()) > 0) throw new Error("Bob sees what was said before he came");
		await ann.click("#leave");
		await ann.waitForFunction(() => document.querySelector("#room-title").textContent === "lobby");
	});
	await step("who closes the page is gone from the list", async () => {
		await bob.close();
		await ann.waitForFunction(() => document.querySelector("#who-count").textContent === "1");
		await ann.waitForFunction(() => [...document.querySelectorAll("#who [data-name]")].map((e) => e.textContent).join() === "Ann");
	});
	quiet(troubles);
	await step("it survives a restart of foyer", async () => {
		console.log("stop foyer"); // the test that runs us does as we say
		await ann.waitForSelector("#status[data-state=reconnecting]");
		await ann.waitForSelector("#banner:not([hidden])");
		await shot(ann, "desk-reconnecting");
		console.log("start foyer");
		await ann.waitForSelector("#status[data-state=connected]");
		await ann.waitForSelector("#banner", { state: "hidden" });
		await ann.waitForFunction(() => document.querySelector("#who [data-own=true] [data-name]")?.textContent === "Ann");
		await says(ann, "Here I am again");
		await sees(ann, "Ann", "Here I am again");
	});
	// The browser itself reports each try that found nobody.
	quiet(troubles, /ERR_CONNECTION_REFUSED|WebSocket/);
});
