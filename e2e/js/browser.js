// What the page's tests share: a browser, people on the page, and steps that say what failed.
"use strict";

const fs = require("fs");
const path = require("path");
const { chromium } = require("playwright-core");

const patience = 15_000; // ms

const desk = { viewport: { width: 1280, height: 800 } };
const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };

// use runs what(tools) with a browser. The process ends with code 0 when all of it went well; otherwise stderr says
// what did not, and shots has a picture of each page.
async function use({ url, shots }, what) {
	const troubles = []; // what a page complained of
	const pages = new Map();
	const browser = await chromium.launch({
		timeout: 100_000,
		executablePath: process.env.CHROMIUM || "/usr/bin/chromium" /* Debian's */,
		args: [
			"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
			"--disable-component-update", "--disable-sync",
		],
	});

	async function open(name, options = {}) {
		const context = await browser.newContext(options);
		context.setDefaultTimeout(patience);
		const page = await context.newPage();
		pages.set(name, page);
		page.on("console", (message) => {
			if (["error", "warning"].includes(message.type())) troubles.push(`${name}: ${message.type()}: ${message.text()}`);
		});
		page.on("pageerror", (err) => troubles.push(`${name}: ${err}`));
		page.on("request", (request) => {
			if (!request.url().startsWith(url) && !request.url().startsWith(url.replace("http", "ws")) && !request.url().startsWith("data:")) {
				troubles.push(`${name}: asked for ${request.url()}`);
			}
		});
		await page.goto(url + "/");
		await page.waitForSelector("#status[data-state=connected]");
		await page.waitForSelector("#status[data-transport=websocket]"); // it came by polling
		return page;
	}

	const shot = (page, name) => page.screenshot({ path: path.join(shots, `${name}.png`) });

	async function step(name, what) {
		try {
			await what();
			console.log(name);
		} catch (err) {
			throw new Error(`${name}: ${err.message}`);
		}
	}

	try {
		fs.mkdirSync(shots, { recursive: true });
		await what({ open, shot, step, troubles });
	} catch (err) {
		for (const [name, page] of pages) if (!page.isClosed()) await shot(page, `failed-${name}`).catch(() => {});
		console.error(`${err.message}\nthe page complained: ${troubles.join("\n")}`);
		process.exitCode = 1;
	} finally {
		await browser.close();
	}
}

// quiet fails when a page complained of anything but what is allowed.
function quiet(troubles, allowed = /^$/) {
	const other = troubles.filter((trouble) => !allowed.test(trouble));
	if (other.length > 0) throw new Error(`the page complained:\n${other.join("\n")}`);
}

// menu opens or closes the side panel, where there is a button for it.
async function menu(page, open) {
	const button = page.locator(open ? "#menu" : "#close-menu");
	if (await button.isVisible()) await button.click();
}

async function rename(page, name) {
	await menu(page, true);
	await page.fill("#nickname", name);
	await page.click("#rename"); // closes the panel once it is done
	await page.waitForFunction((name) => document.querySelector("#who [data-own=true] [data-name]")?.textContent === name, name);
}

async function says(page, text) {
	await page.fill("#message-input", text);
	await page.click("#send");
}

// types enters a text until another page shows this notice. To say that one is typing is volatile, and may be lost:
// then the text is entered once more, after a time in which the page would not say it again.
async function types(page, text, other, notice) {
	for (let tries = 5; ; tries--) {
		await page.locator("#message-input").pressSequentially(text);
		try {
			return await other.locator("#typing", { hasText: notice }).waitFor({ timeout: tries > 1 ? 3000 : patience });
		} catch (err) {
			if (tries <= 1) throw err;
		}
	}
}

// sees waits for a message in the open room.
const sees = (page, who, text) =>
	page
		.locator("#log [data-message]")
		.filter({ has: page.locator("[data-text]", { hasText: text }) })
		.filter({ has: page.locator("[data-name]", { hasText: who }) })
		.waitFor({ timeout: patience });

// goTo opens a room, which may have to be joined first.
async function goTo(page, room) {
	await menu(page, true);
	const row = page.locator(`#room-list [data-room="${room}"] button`);
	// A room that everybody has left may go from the list while we reach for it.
	const listed = (await row.count()) && (await row.click({ timeout: 2000 }).then(() => true, () => false));
	if (!listed) {
		await page.fill("#join-input", room);
		await page.click("#join");
	}
	await page.waitForSelector(`#room-list [data-room="${room}"][data-open=true]`, { state: "attached" });
}

const notice = (page, text) => page.locator("#log [data-notice]", { hasText: text }).waitFor({ timeout: patience });
const focused = (page) => page.evaluate(() => document.activeElement.id);

function equal(got, want, what) {
	if (JSON.stringify(got) !== JSON.stringify(want)) throw new Error(`${what}: got ${JSON.stringify(got)}, want ${JSON.stringify(want)}`);
}

module.exports = { use, quiet, menu, rename, says, types, sees, goTo, notice, focused, equal, desk, phone, patience };
