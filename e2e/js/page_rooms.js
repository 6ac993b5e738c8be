// What belongs to which room, and what becomes of it: messages, drafts, people, names, and all of it without a
// connection. argv, JSON: {url, api, shots}.
"use strict";

const { execFileSync } = require("child_process");
const { use, quiet, rename, says, sees, goTo, notice, focused, equal, desk, phone, patience } = require("./browser.js");

const settings = JSON.parse(process.argv[2]);
const call = (method, request) =>
	execFileSync("grpcurl", ["-plaintext", "-d", JSON.stringify(request), settings.api, `foyer.v1.${method}`], { encoding: "utf8", timeout: patience });
const emit = (rooms, ...values) => call("EmitService/Emit", { target: { rooms }, payload: { event: "chat message", values } });

const texts = (page) => page.locator("#log [data-message] [data-text]").allTextContents();
const unread = (page, room, n) => page.waitForSelector(`#room-list [data-room="${room}"][data-unread="${n}"]`, { state: "attached" });
const joined = (page, room, yes) => page.waitForSelector(`#room-list [data-room="${room}"][data-joined=${yes}]`, { state: "attached" });
const people = (page) => page.locator("#who [data-name]").allTextContents();
const draft = (page) => page.inputValue("#message-input");

use(settings, async ({ open, shot, step, troubles }) => {
	const ann = await open("ann", { ...desk, permissions: ["clipboard-read", "clipboard-write"] });
	const bob = await open("bob", phone);
	await rename(ann, "Ann");
	await rename(bob, "Bob");
	await ann.waitForFunction(() => [...document.querySelectorAll("#who [data-name]")].map((e) => e.textContent).join() === "Ann,Bob");

	await step("a message is shown in its room, wherever one looks", async () => {
		await goTo(ann, "garden");
		await says(bob, "from Bob, for the lobby");
		await unread(ann, "lobby", 1);
		emit(["lobby"], "for the lobby, without a word of it");
		await unread(ann, "lobby", 2);
		emit(["lobby"], "for the lobby by name", { room: "lobby" });
		await unread(ann, "lobby", 3);
		equal(await ann.title(), "(3) #garden · Foyer chat", "the title");
		equal(await texts(ann), [], "the garden has");
		await goTo(ann, "lobby");
		await unread(ann, "lobby", 0);
		equal(await texts(ann), ["from Bob, for the lobby", "for the lobby, without a word of it", "for the lobby by name"], "the lobby has");
	});

	await step("each room has its own draft", async () => {
		await ann.fill("#message-input", "half a thought");
		await goTo(ann, "garden");
		equal(await draft(ann), "", "the garden's draft");
		await ann.fill("#message-input", "flowers");
		await goTo(ann, "lobby");
		equal(await draft(ann), "half a thought", "the lobby's draft");
		await goTo(ann, "garden");
		equal(await draft(ann), "flowers", "the garden's draft");
		await ann.fill("#message-input", "");
		await goTo(ann, "lobby");
		await ann.fill("#message-input", "");
	});

	await step("rooms that a program joins and leaves for us", async () => {
		call("RoomService/JoinRooms", { target: { all: true }, rooms: ["attic"] });
		emit(["attic"], "up here", { room: "attic" }); // it may come before the news of the room does
		for (const page of [ann, bob]) {
			await joined(page, "attic", true);
			await unread(page, "attic", 1);
			await page.locator("#banner-text", { hasText: "A program put you into the room #attic." }).waitFor();
		}
		await goTo(ann, "attic");
		await ann.waitForFunction(() => document.querySelector("#who-count").textContent === "2");
		await says(ann, "I am here too");
		await sees(ann, "Ann", "I am here too");
		await ann.fill("#message-input", "and I think");
		call("RoomService/LeaveRooms", { target: { rooms: ["attic"] }, rooms: ["attic"] });
		await ann.waitForFunction(() => document.querySelector("#room-title").textContent === "lobby");
		await ann.locator("#banner-text", { hasText: "A program took you out of the room #attic." }).waitFor();
		equal(await draft(ann), "", "the lobby's draft");
		for (const page of [ann, bob]) await page.waitForSelector('#room-list [data-room="attic"]', { state: "detached" });
		await goTo(ann, "attic");
		equal(await draft(ann), "and I think", "the attic's draft");
		await ann.fill("#message-input", "");
		await ann.click("#leave");
		await ann.waitForFunction(() => document.querySelector("#room-title").textContent === "lobby");
	});

	await step("the list is kept while it changes: a press is not lost", async () => {
		await ann.evaluate(() => (document.querySelector('#room-list [data-room="garden"] button').mark = 1));
		await ann.focus('#room-list [data-room="garden"] button');
		call("RoomService/JoinRooms", { target: { rooms: ["lobby"] }, rooms: ["aaa"] });
		await joined(ann, "aaa", true);
		call("RoomService/LeaveRooms", { target: { rooms: ["lobby"] }, rooms: ["aaa"] });
		await ann.waitForSelector('#room-list [data-room="aaa"]', { state: "detached" });
		equal(await ann.evaluate(() => document.activeElement.mark), 1, "the focused button's mark");
	});

	await step("a rename says who became who, and holds for what was said before", async () => {
		await says(bob, "remember me");
		await sees(ann, "Bob", "remember me");
		await rename(bob, "Robert");
		await notice(ann, "Bob is now called Robert");
		await notice(bob, "You are now called Robert");
		await sees(ann, "Robert", "remember me");
		const id = await ann.locator("#who li", { hasText: "Robert" }).getAttribute("data-person");
		equal(await ann.locator("#log [data-message]", { hasText: "remember me" }).getAttribute("data-from"), id, "the one who spoke");
	});
	await step("two people of one name are told apart", async () => {
		await bob.click("#menu");
		await bob.fill("#nickname", "Ann");
		await bob.click("#rename");
		const id = await ann.locator("#who [data-own=false]").getAttribute("data-person");
		await notice(ann, `Robert is now called Ann (${id.slice(-4)})`);
		await sees(ann, `Ann (${id.slice(-4)})`, "remember me");
		equal(new Set(await people(ann)).size, 2, "different names");
		await rename(bob, "Bob");
	});

	await step("what is pasted stays whole, and the limit is told", async () => {
		await ann.evaluate(() => navigator.clipboard.writeText("word ".repeat(500)));
		await ann.focus("#message-input");
		await ann.keyboard.press("Control+V");
		await ann.waitForSelector("#limit:not([hidden])");
		equal(await ann.textContent("#counter"), "2,500 of 2,000 characters", "the counter");
		await shot(ann, "desk-too-long");
		await ann.keyboard.press("Enter");
		await ann.locator("#banner-text", { hasText: "A message can have 2,000 characters. This one has 2,500." }).waitFor();
		equal((await draft(ann)).length, 2500, "what is in the box");
		await ann.fill("#message-input", "word ".repeat(400));
		await ann.waitForSelector("#limit", { state: "hidden" });
		await ann.keyboard.press("Enter");
		await sees(bob, "Ann", "word word");

		await ann.fill("#nickname", "n".repeat(40));
		await ann.click("#rename");
		await ann.locator("#nickname-error", { hasText: "A name can have 32 characters. This one has 40." }).waitFor();
		equal(await ann.inputValue("#nickname"), "n".repeat(40), "the name");
		await ann.fill("#nickname", "Ann");
		await ann.waitForSelector("#nickname-error", { state: "hidden" });
		await ann.fill("#join-input", "r".repeat(70));
		await ann.click("#join");
		await ann.locator("#join-input-error", { hasText: "A room name can have 64 characters. This one has 70." }).waitFor();
		equal(await ann.inputValue("#join-input"), "r".repeat(70), "the room");
		await ann.fill("#join-input", "");
	});

	quiet(troubles);
	await step("offline the list says of when it is, and messages wait", async () => {
		await ann.evaluate(() => {
			window.said = { status: [], banner: [] };
			const note = (id, list) => new MutationObserver(() => list.push(document.getElementById(id).textContent)).observe(document.getElementById(id), { childList: true, characterData: true, subtree: true });
			note("status", window.said.status);
			note("banner-text", window.said.banner);
		});
		let tries = 0;
		ann.on("requestfailed", () => tries++);
		await ann.context().setOffline(true);
		await ann.waitForSelector("#status[data-state=reconnecting]");
		await ann.waitForSelector("#people[data-stale]");
		await ann.locator("#who-stale", { hasText: /^As of .*\d.* not connected/ }).waitFor();
		await ann.locator("#away", { hasText: "waits here and goes out when the connection is back" }).waitFor();
		await says(ann, "first, from afar");
		await says(ann, "a mistake");
		await says(ann, "second, from afar");
		equal(await ann.locator("#log [data-held] [data-text]").allTextContents(), ["first, from afar", "a mistake", "second, from afar"], "held");
		await ann.locator("#log [data-held]", { hasText: "a mistake" }).getByRole("button").click();
		equal(await draft(ann), "a mistake", "what was taken back");
		equal(await focused(ann), "message-input", "the focus");
		await ann.fill("#message-input", "");
		await ann.fill("#join-input", "elsewhere");
		await ann.click("#join");
		await ann.locator("#join-input-error", { hasText: "You are not connected" }).waitFor();
		await shot(ann, "desk-offline");
		await ann.fill("#join-input", "");
		while (tries < 3) await ann.waitForEvent("requestfailed");
		const said = await ann.evaluate(() => window.said);
		if (said.status.length > 2 || said.banner.length > 3) throw new Error(`each try is announced: ${JSON.stringify(said)}`);
	});
	await step("back online they go out, once and in order", async () => {
		await ann.context().setOffline(false);
		await sees(bob, "Ann", "second, from afar");
		await ann.waitForFunction(() => !document.querySelector("#log [data-held]"));
		await ann.waitForSelector("#people:not([data-stale])");
		await ann.waitForSelector("#away", { state: "hidden" });
		for (const page of [ann, bob]) equal((await texts(page)).slice(-2), ["first, from afar", "second, from afar"], "the end");
		await ann.waitForFunction(() => [...document.querySelectorAll("#who [data-name]")].map((e) => e.textContent).join() === "Ann,Bob");
	});
	quiet(troubles, /ERR_INTERNET_DISCONNECTED|WebSocket/);
});
