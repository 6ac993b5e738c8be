// Small tools for building and changing the page. What came from somebody goes in as text, never as HTML.

export const $ = (id) => document.getElementById(id);
export const text = (value) => (typeof value === "string" ? value : value == null ? "" : JSON.stringify(value));
export const sentence = (s) => s.slice(0, 1).toUpperCase() + s.slice(1);
export const characters = (s) => [...s].length; // as the backend counts them
export const clock = (time) => time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" });

// make builds an element: make("li", {class: "notice", "data-notice": ""}, "text", child, …).
export function make(tag, attributes = {}, ...children) {
	const element = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
	element.append(...children);
	return element;
}

// name is what somebody or something is called, set apart from the words around it: it may run from right to left.
export const name = (what, attributes = {}) => make("bdi", attributes, what);

// say changes a text only when it differs, so that a screen reader does not read the same again.
export function say(element, ...parts) {
	const next = make("span", {}, ...parts);
	if (element.textContent !== next.textContent || element.childElementCount !== next.childElementCount) element.replaceChildren(...next.childNodes);
}

// keep brings the children of a list in line with items, [key, value] each, and keeps those that stay: a press, the
// keyboard's focus and a screen reader's place survive. fill(child, value) builds or changes a child.
export function keep(list, attribute, items, fill) {
	const focused = list.contains(document.activeElement) ? document.activeElement : null;
	const wanted = new Set(items.map(([key]) => key));
	const there = new Map();
	for (const child of [...list.children]) {
		const key = child.getAttribute(attribute);
		if (wanted.has(key)) there.set(key, child);
		else child.remove();
	}
	let at = list.firstElementChild;
	for (const [key, value] of items) {
		const child = there.get(key) ?? make("li", { [attribute]: key });
		fill(child, value);
		if (child === at) at = at.nextElementSibling;
		else list.insertBefore(child, at);
	}
	if (focused && document.activeElement !== focused) (focused.isConnected ? focused : list.querySelector("button"))?.focus();
}

// avatar is an initial on a colour of its own. What has no socket came from a program.
export function avatar(id, nickname) {
	const element = make("span", { class: "avatar", "aria-hidden": "true" });
	if (id) {
		let hash = 0;
		for (const c of id) hash = (hash * 31 + c.codePointAt(0)) >>> 0;
		element.style.setProperty("--hue", String(hash % 360));
		element.textContent = initial(nickname);
	} else {
		element.classList.add("program");
		element.textContent = ">_";
	}
	return element;
}

export const initial = (nickname) => ([...nickname.trim()][0] ?? "?").toUpperCase();

// fault shows below a field what is wrong with it; no words: nothing is.
export function fault(field, words = "") {
	const place = $(`${field.id}-error`);
	say(place, words);
	place.hidden = words === "";
	place.scrollIntoView({ block: "nearest" });
	if (words) field.setAttribute("aria-invalid", "true");
	else field.removeAttribute("aria-invalid");
}

// fits tells whether a field's text is short enough, and says so when it is not. The text stays as it is.
export function fits(field, what, most) {
	const long = characters(field.value.trim());
	fault(field, long > most ? `A ${what} can have ${most} characters. This one has ${long}.` : "");
	return long <= most;
}
