// The side panel on a small screen: a drawer that is a dialog while it is open.

import { $ } from "./dom.js";

export const narrow = matchMedia("(max-width: 47.5em), (max-height: 30em)"); // as in chat.css

function openDrawer() {
	if (!narrow.matches) return;
	document.body.dataset.menu = "open";
	arrange();
	$("close-menu").focus();
}

export function closeDrawer() {
	if (document.body.dataset.menu !== "open") return;
	delete document.body.dataset.menu;
	arrange();
	$("menu").focus();
}

// arrange keeps the keyboard and screen readers out of what cannot be seen or reached.
function arrange() {
	const open = document.body.dataset.menu === "open";
	const panel = $("panel");
	panel.inert = narrow.matches && !open;
	for (const id of ["main", "skip"]) $(id).inert = open;
	$("shade").hidden = !open;
	$("menu").setAttribute("aria-expanded", String(open));
	panel.setAttribute("role", open ? "dialog" : "complementary");
	if (open) panel.setAttribute("aria-modal", "true");
	else panel.removeAttribute("aria-modal");
}

export function startDrawer() {
	$("menu").addEventListener("click", openDrawer);
	$("close-menu").addEventListener("click", closeDrawer);
	$("shade").addEventListener("click", closeDrawer);
	document.addEventListener("keydown", (e) => {
		if (e.key === "Escape" && !e.isComposing) closeDrawer();
	});
	narrow.addEventListener("change", () => {
		const inside = document.activeElement?.closest("#panel, #main"); // what it is in may become unreachable
		delete document.body.dataset.menu;
		arrange();
		if (inside?.inert) $("menu").focus();
	});
	arrange();
}
