// The box where a message is written: a draft for each room, a limit that is told, and messages that wait for the
// connection.

import { $, characters, make } from "./dom.js";
import { ask, complain, link } from "./connection.js";
import { add, bubble } from "./messages.js";
import { rooms, view } from "./state.js";

const maxMessage = 2000; // characters, the backend's limit
const nearLimit = 1800; // from here on the count is shown
const maxHeld = 50; // messages that wait
const sayTypingEvery = 2000; // ms

const drafts = new Map(); // room to text; the text of the open room is in the box
const held = []; // {room, body, item}, in the order in which they go out
const box = $("message-input");

// openDraft puts away the draft of one room and takes out that of another. A room "" has none.
export function openDraft(before, now) {
	if (before !== now) sayTyping(before, false);
	keepDraft(before, box.value);
	box.value = drafts.get(now) ?? "";
	drafts.delete(now);
	fit();
}

function keepDraft(room, body) {
	if (room && body) drafts.set(room, body);
}

// giveBack puts a message that did not go out before what was written meanwhile.
function giveBack(room, body) {
	if (room === view.open) {
		box.value = box.value ? `${body}\n${box.value}` : body;
		fit();
	} else {
		const later = drafts.get(room);
		drafts.set(room, later ? `${body}\n${later}` : body);
	}
}

async function send() {
	const body = box.value;
	const room = view.open;
	if (body.trim() === "" || !room || link.state === "missing") return;
	if (characters(body) > maxMessage) return complain(`A message can have ${count(maxMessage)} characters. This one has ${count(characters(body))}. It is still in the box: shorten it, then send it.`);
	if (!link.ready && held.length >= maxHeld) return complain(`${maxHeld} messages wait already. This one stays in the box.`);
	box.value = "";
	fit();
	sayTyping(room, false);
	hold(room, body);
	await sendHeld();
}

// hold shows a message that has not gone out. While the connection is good nobody sees it for long.
function hold(room, body) {
	const item = make("li", { class: "message held", "data-held": "", "data-own": "true" });
	const entry = { room, body, item };
	const back = make("button", { type: "button", class: "quiet" }, "Take back");
	back.addEventListener("click", () => {
		drop(entry);
		giveBack(room, body);
		box.focus();
	});
	const state = make("p", { class: "meta" }, make("span", { "data-state": "" }, "Not sent yet"), " ", back);
	item.append(make("div", { class: "said" }, state, bubble(body)));
	held.push(entry);
	if (!link.ready) show(entry);
}

function show({ room, item }) {
	if (!item.isConnected && rooms.has(room)) add(rooms.get(room), item, true);
}

function drop(entry) {
	held.splice(held.indexOf(entry), 1);
	entry.item.remove();
}

let sending = false;

// sendHeld sends what waits, in order, for as long as it goes well.
export async function sendHeld() {
	if (sending) return;
	sending = true;
	while (link.ready && held.length > 0) {
		const entry = held[0];
		entry.item.dataset.sending = "";
		const reply = await ask("chat message", entry.body, entry.room);
		delete entry.item.dataset.sending;
		if (!held.includes(entry)) continue; // its room is gone
		if (!reply.ok && !reply.sent && !link.socket.connected) break; // it was never on its way
		drop(entry);
		if (reply.ok) continue;
		giveBack(entry.room, entry.body);
		complain(reply.sent ? `${reply.error} Your message is in the box again, but it may have arrived: look before you send it once more.` : reply.error);
	}
	sending = false;
	for (const entry of held) show(entry);
}

// release gives back what waits for a room that we are no longer in.
export function release(room) {
	for (const entry of held.filter((entry) => entry.room === room)) {
		drop(entry);
		giveBack(room, entry.body);
	}
}

// ---- the box

const count = (n) => n.toLocaleString("en");

function fit() {
	if (!CSS.supports("field-sizing", "content")) {
		box.style.height = "auto";
		box.style.height = `${box.scrollHeight + 2}px`; // its borders
	}
	renderComposer();
}

export function renderComposer() {
	const length = characters(box.value);
	const away = link.state === "reconnecting" || link.state === "disconnected";
	box.disabled = !view.open;
	box.placeholder = view.open ? `Message #${view.open}` : "Join a room first";
	$("send").disabled = !view.open || link.state === "missing" || box.value.trim() === "";
	$("send").setAttribute("aria-label", away ? "Send when the connection is back" : "Send");
	if (length > maxMessage) box.setAttribute("aria-invalid", "true");
	else box.removeAttribute("aria-invalid");

	$("limit").hidden = length <= maxMessage; // read aloud once, and not with each key
	$("measure").hidden = length < nearLimit;
	$("counter").textContent = `${count(length)} of ${count(maxMessage)} characters`;
	$("composer").toggleAttribute("data-long", length > maxMessage);
	$("away").hidden = !away || !view.open;
	const back = link.state === "disconnected" ? "when you connect again" : "when the connection is back";
	const words = `You are not connected. A message that you send now waits here and goes out ${back}.`;
	if ($("away").textContent !== words) $("away").textContent = words;
}

// ---- that we are typing

let saidTyping = 0; // when we last said so; 0: not typing

function sayTyping(room, on) {
	const now = Date.now();
	if (!link.ready) saidTyping = 0;
	if (!room || !link.ready || (on ? now - saidTyping < sayTypingEvery : saidTyping === 0)) return;
	saidTyping = on ? now : 0;
	link.socket.volatile.emit("typing", room, on);
}

export function startComposer() {
	$("composer").addEventListener("submit", (e) => (e.preventDefault(), send()));
	box.addEventListener("keydown", (e) => {
		if (e.key === "Enter" && !e.shiftKey && !e.isComposing) (e.preventDefault(), send());
	});
	box.addEventListener("input", () => (fit(), sayTyping(view.open, box.value !== "")));
	box.addEventListener("blur", () => sayTyping(view.open, false));
	addEventListener("beforeunload", (e) => held.length > 0 && e.preventDefault()); // they would be lost
}
