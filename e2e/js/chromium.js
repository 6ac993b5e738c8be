// Headless Chromium on strings: a Go test writes commands to stdin, one JSON object a line, and reads "done" or
// "failed: …" for each from stdout, and between them what the pages say on their consoles. argv: more flags of the
// browser.
"use strict";

const readline = require("readline");
const { setTimeout } = require("timers/promises");
const { chromium } = require("playwright-core");

const patience = 60_000; // ms
const pages = new Map(); // by name

(async () => {
	const browser = await chromium.launch({
		timeout: 100_000,
		executablePath: process.env.CHROMIUM || "/usr/bin/chromium" /* Debian's */,
		args: [
			"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
			"--disable-component-update", "--disable-sync", ...process.argv.slice(2),
		],
	});
	const context = await browser.newContext({ ignoreHTTPSErrors: true });
	context.setDefaultTimeout(patience);
	const commands = {
		async open({ page: name, url }) {
			if (!pages.has(name)) {
				const page = await context.newPage();
				page.on("console", (message) => console.log(`${name}: ${message.text()}`));
				pages.set(name, page);
			}
			await pages.get(name).goto(url);
		},
		run: ({ page, expression }) => pages.get(page).evaluate(expression),
		// Not by waitForFunction, whose eval the page's content security policy may forbid.
		async until({ page, expression }) {
			for (const end = Date.now() + patience; !(await pages.get(page).evaluate(expression)); await setTimeout(50)) {
				if (Date.now() > end) throw new Error("it is never true");
			}
		},
	};
	for await (const line of readline.createInterface({ input: process.stdin })) {
		const { op, ...rest } = JSON.parse(line);
		try {
			await commands[op](rest);
			console.log("done");
		} catch (err) {
			console.log(`failed: ${err.message.replaceAll("\n", " ")}`);
		}
	}
	await browser.close();
})();
