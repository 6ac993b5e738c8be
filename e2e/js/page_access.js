// The page for those who have no mouse, see little or nothing, or hold a small screen. argv, JSON: {url, api, shots}.
"use strict";

const { use, quiet, menu, rename, says, types, sees, goTo, focused, equal, desk, phone } = require("./browser.js");

const settings = JSON.parse(process.argv[2]);
const small = { viewport: { width: 320, height: 568 }, deviceScaleFactor: 2, isMobile: true, hasTouch: true };
const rules = require("fs").readFileSync(require.resolve("axe-core/axe.min.js"), "utf8");

// blameless runs axe's rules. By evaluate, since the page's own policy lets no script in.
async function blameless(page, where) {
	await page.waitForFunction(() => document.getAnimations().every((a) => a.playState !== "running" || a.effect.getTiming().iterations === Infinity));
	await page.evaluate(rules);
	const found = await page.evaluate(async () => (await axe.run()).violations.map((v) => `${v.id}: ${v.nodes.map((n) => n.target.join(" ")).join(", ")}`));
	if (found.length > 0) throw new Error(`${where}: ${found.join("\n")}`);
}

// within fails when something is wider than the place it has. Places that scroll by themselves count too.
async function within(page, where) {
	const wide = await page.evaluate(() =>
		[document.documentElement, ...document.querySelectorAll("#panel, #main, #scroll, #log, #room-list, #who, #composer, #banner")]
			.filter((e) => e.scrollWidth > e.clientWidth + 1)
			.map((e) => `${e.id || "the page"} is ${e.scrollWidth} in ${e.clientWidth}`),
	);
	if (wide.length > 0) throw new Error(`${where}: ${wide.join(", ")}`);
}

// seen tells whether what has the focus shows it.
const seen = (page) =>
	page.evaluate(() => {
		const style = getComputedStyle(document.activeElement);
		return style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
	});

use(settings, async ({ open, shot, step, troubles }) => {
	const ann = await open("ann", desk);

	await step("by keyboard alone", async () => {
		equal(await focused(ann), "message-input", "where one begins");
		const there = ["lobby", "join-input", "join", "nickname", "rename", "leave", "scroll", "copy", "message-input"];
		const steps = [...there.slice(0, -1).reverse().map((id) => ["Shift+Tab", id]), ["Shift+Tab", "skip"], ...there.map((id) => ["Tab", id])];
		for (const [key, want] of steps) {
			await ann.keyboard.press(key);
			equal(await ann.evaluate(() => document.activeElement.closest("[data-room]")?.dataset.room ?? document.activeElement.id), want, "the focus");
			if (!(await seen(ann))) throw new Error(`nobody sees that ${want} has the focus`);
		}
		for (const _ of there) await ann.keyboard.press("Shift+Tab");
		await shot(ann, "desk-skip");
		await ann.keyboard.press("Enter");
		equal(await focused(ann), "message-input", "where the skip link leads");

		await ann.keyboard.type("typed");
		await ann.keyboard.press("Tab");
		equal(await focused(ann), "send", "behind the box");
		await ann.keyboard.press("Enter");
		await sees(ann, "", "typed");
		await ann.focus("#join-input");
		await ann.keyboard.type("garden");
		await ann.keyboard.press("Enter");
		await ann.waitForFunction(() => document.querySelector("#room-title").textContent === "garden");
		equal(await focused(ann), "message-input", "after joining");
		await ann.focus('#room-list [data-room="lobby"] button');
		await ann.keyboard.press("Space");
		await ann.waitForFunction(() => document.querySelector("#room-title").textContent === "lobby");
		await ann.focus("#nickname");
		await ann.keyboard.type("Ann"); // its text was selected
		await ann.keyboard.press("Enter");
		await ann.waitForFunction(() => document.querySelector("#who [data-own=true] [data-name]").textContent === "Ann");
		equal(await focused(ann), "nickname", "after a rename");
		for (const left of ["lobby", "garden"]) {
			await ann.focus("#leave");
			await ann.keyboard.press("Enter");
			await ann.waitForFunction((left) => document.querySelector("#room-title").textContent !== left, left);
			if ((await focused(ann)) === "") throw new Error(`after leaving ${left} the focus is nowhere`);
		}
		await shot(ann, "desk-nowhere");
		await goTo(ann, "lobby");
	});

	const bob = await open("bob", phone);
	await step("the drawer takes the focus, keeps it and gives it back", async () => {
		await bob.focus("#menu");
		for (const [how, close] of [
			["by Escape", () => bob.keyboard.press("Escape")],
			["by its button", () => bob.click("#close-menu")],
			["by the shade", () => bob.mouse.click(380, 400)],
		]) {
			await bob.keyboard.press("Enter");
			await bob.waitForFunction(() => document.activeElement.id === "close-menu");
			equal(await bob.getAttribute("#panel", "role"), "dialog", "its role");
			for (let i = 0; i < 16; i++) {
				await bob.keyboard.press(i < 8 ? "Tab" : "Shift+Tab");
				const where = await bob.evaluate(() => (document.activeElement === document.body || document.activeElement.closest("#panel") ? "" : document.activeElement.id));
				if (where) throw new Error(`the focus went to ${where}, behind the drawer`);
			}
			await close();
			await bob.waitForFunction(() => document.body.dataset.menu === undefined);
			equal(await focused(bob), "menu", `the focus after closing ${how}`);
			equal(await bob.evaluate(() => document.getElementById("panel").inert), true, "the closed drawer is inert");
		}
		await rename(bob, "Bob");
		equal(await focused(bob), "menu", "the focus after a rename");
	});

	await step("axe has nothing to say", async () => {
		await says(bob, "שלום, hello, مرحبا");
		await sees(ann, "Bob", "שלום, hello, مرحبا");
		equal(await ann.evaluate(() => getComputedStyle([...document.querySelectorAll("#log [data-text]")].at(-1)).direction), "rtl", "the direction");
		for (const colorScheme of ["light", "dark"]) {
			for (const [name, page] of Object.entries({ ann, bob })) {
				await page.emulateMedia({ colorScheme, reducedMotion: "reduce" });
				await blameless(page, `${name}, ${colorScheme}`);
			}
			await menu(bob, true);
			await blameless(bob, `the drawer, ${colorScheme}`);
			await bob.fill("#nickname", "n".repeat(40));
			await blameless(bob, `a fault, ${colorScheme}`);
			await bob.fill("#nickname", "Bob");
			await menu(bob, false);
			await ann.fill("#message-input", "x".repeat(2001));
			await blameless(ann, `too long, ${colorScheme}`);
			await ann.fill("#message-input", "");
			await ann.context().setOffline(true);
			await ann.waitForSelector("#people[data-stale]");
			await says(ann, "later");
			await blameless(ann, `offline, ${colorScheme}`);
			await shot(ann, `desk-offline-${colorScheme}`);
			await ann.context().setOffline(false);
			await ann.waitForFunction(() => !document.querySelector("#log [data-held]"));
		}
		equal(await ann.evaluate(() => document.getAnimations().filter((a) => a.playState === "running").length), 0, "what moves though nothing should");
	});

	await step("forced colours lose nothing", async () => {
		for (const [name, page] of Object.entries({ desk: ann, phone: bob })) {
			await page.emulateMedia({ colorScheme: "dark", forcedColors: "active" });
			await shot(page, `${name}-forced`);
		}
		// What only a colour told apart has a border or a line now.
		const lines = await ann.evaluate(() => {
			const of = (selector) => getComputedStyle(document.querySelector(selector));
			return {
				own: parseFloat(of("[data-own=true] .bubble").borderTopWidth) > parseFloat(of("[data-own=false] .bubble").borderTopWidth),
				open: of("[data-open=true] .room-name").textDecorationLine === "underline",
				avatar: parseFloat(of("#log .avatar").borderTopWidth) > 0,
			};
		});
		equal(lines, { own: true, open: true, avatar: true }, "lines");
		for (const page of [ann, bob]) await page.emulateMedia({ colorScheme: "light", forcedColors: "none" });
	});

	await step("wide names and long words stay within", async () => {
		const kim = await open("kim", small);
		const wide = "W".repeat(32);
		await rename(ann, wide);
		await goTo(ann, "W".repeat(64));
		await goTo(bob, "W".repeat(64));
		await goTo(kim, "W".repeat(64));
		await says(ann, "W".repeat(2000));
		await sees(bob, wide, "WWW");
		await rename(ann, "M".repeat(32)); // the notice has two wide names
		await bob.locator("#log [data-notice]", { hasText: "is now called" }).waitFor();
		await types(ann, "W".repeat(80), bob, "is typing");
		for (const [name, page] of Object.entries({ desk: ann, phone: bob, small: kim })) {
			for (const size of ["100%", "200%"]) {
				await page.evaluate((size) => (document.documentElement.style.fontSize = size), size);
				await within(page, `${name}, text of ${size}`);
				await menu(page, true);
				await within(page, `${name}, text of ${size}, the drawer open`);
				await shot(page, `${name}-wide-${parseInt(size)}`);
				await menu(page, false);
			}
		}
	});
	quiet(troubles, /ERR_INTERNET_DISCONNECTED|WebSocket/);
});
