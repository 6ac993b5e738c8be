// The rooms: which there are, which one is open, and which one a message belongs to.

import { $, fault, fits, keep, make, name as named, say, text } from "./dom.js";
import { ask, calm, complain } from "./connection.js";
import { openDraft, release, renderComposer } from "./composer.js";
import { closeDrawer, narrow } from "./drawer.js";
import { addMessage, notice, toEnd } from "./messages.js";
import { nameOf, renderPeople, renderTyping, setPeople, stopTyping } from "./people.js";
import { enter, lobby, rooms, view } from "./state.js";

const maxRoom = 64; // characters, the backend's limit
const earlyLasts = 5000; // ms
const maxEarly = 100;

export function show(name) {
	const room = rooms.get(name);
	const before = view.open;
	view.open = room ? name : "";
	openDraft(before, view.open);
	if (room) room.unread = 0;

	$("log").setAttribute("aria-live", "off"); // going elsewhere is no news
	$("log").replaceChildren(...(room ? [room.list] : []));
	setTimeout(() => $("log").setAttribute("aria-live", "polite"), 100);
	$("room-title").textContent = view.open || "No room";
	$("room-hash").hidden = !room;
	$("leave").hidden = !room;
	$("hint").hidden = !room;
	$("nowhere").hidden = !!room;
	$("hint-room").textContent = view.open;
	$("hint-command").textContent = command(view.open);
	renderRooms();
	renderPeople();
	renderTyping();
	renderComposer();
	toEnd();
}

// command is what sends a message into a room from a terminal, quoted for a shell. It names the room twice: the target
// is not told to the browsers.
function command(room) {
	const { flags, api } = $("hint-command").dataset;
	$("hint-token").hidden = !flags.includes("TOKEN");
	const quoted = (s) => `'${s.replaceAll("'", `'\\''`)}'`;
	const request = JSON.stringify({ target: { rooms: [room] }, payload: { event: "chat message", values: ["hello from grpcurl", { room }] } });
	return `grpcurl ${flags} -d ${quoted(request)} ${/^[\w.:-]+$/.test(api) ? api : quoted(api)} foyer.v1.EmitService/Emit`;
}

export function renderRooms() {
	const sizes = new Map(view.all.map(({ name, size }) => [name, size]));
	const names = [...rooms.keys(), ...[...sizes.keys()].filter((name) => !rooms.has(name))];
	keep($("room-list"), "data-room", names.map((name) => [name, name]), (item, name) => {
		const room = rooms.get(name);
		const unread = room?.unread ?? 0;
		if (!item.firstChild) item.append(roomButton(name));
		const button = item.firstChild;
		const [, , badge, join, count] = button.children;
		item.dataset.joined = String(!!room);
		item.dataset.open = String(name === view.open);
		item.dataset.unread = String(unread);
		if (name === view.open) button.setAttribute("aria-current", "true");
		else button.removeAttribute("aria-current");
		badge.hidden = unread === 0;
		say(badge, unread > 99 ? "99+" : String(unread), make("span", { class: "hidden" }, " unread "));
		join.hidden = !!room;
		say(count, String(sizes.get(name) ?? room?.count ?? 0), make("span", { class: "hidden" }, " here"));
	});
	const unread = [...rooms.values()].reduce((sum, room) => sum + room.unread, 0);
	$("menu-badge").hidden = unread === 0;
	$("menu").setAttribute("aria-label", unread ? `Rooms and people, ${unread} unread` : "Rooms and people");
	document.title = `${unread ? `(${unread}) ` : ""}${view.open ? `#${view.open} · ` : ""}Foyer chat`;
}

function roomButton(name) {
	const button = make(
		"button",
		{ type: "button", class: "room", title: name },
		make("span", { class: "hash", "aria-hidden": "true" }, "#"),
		named(name, { class: "room-name" }),
		make("span", { class: "badge" }),
		make("span", { class: "join-it" }, "Join "),
		make("span", { class: "count" }),
	);
	button.addEventListener("click", () => goTo(name));
	return button;
}

async function goTo(name) {
	fault($("join-input"));
	if (!rooms.has(name)) {
		const reply = await ask("join", name);
		if (!reply.ok) {
			fault($("join-input"), `You could not join #${name}. ${text(reply.error)}`);
			return false;
		}
		name = text(reply.room) || name;
		setPeople(enterAs(name), reply);
	}
	calm();
	show(name);
	closeDrawer();
	if (!narrow.matches) $("message-input").focus(); // a phone would bring up its keyboard
	return true;
}

async function leave() {
	const name = view.open;
	const reply = await ask("leave", name);
	if (!reply.ok) return complain(reply.error);
	forget(name);
}

function enterAs(name) {
	const room = enter(name);
	for (const message of early.splice(0)) receive(...message.args);
	return room;
}

// forget takes a room away that we are no longer in. What was not sent there is kept as its draft.
export function forget(name) {
	if (!rooms.delete(name)) return;
	release(name);
	if (name !== view.open) return renderRooms();
	const leaving = document.activeElement === $("leave");
	show(rooms.keys().next().value ?? "");
	if (leaving) $(view.open ? "leave" : narrow.matches ? "menu" : "join-input").focus();
}

// ---- put in and taken out by somebody else

export function joinedFromOutside(name) {
	name = text(name);
	if (rooms.has(name)) return;
	notice(enterAs(name), "A program put you into this room");
	renderRooms();
	complain(`A program put you into the room #${name}.`);
	if (!view.open) show(name);
}

export function leftFromOutside(name) {
	name = text(name);
	if (!rooms.has(name)) return;
	forget(name);
	complain(`A program took you out of the room #${name}.`);
}

// ---- which room a message belongs to

const early = []; // {at, args}: messages for rooms that we are about to hear that we are in

export function receive(...args) {
	const acknowledge = typeof args.at(-1) === "function" ? args.pop() : null; // a backend that sent it by EmitWithAck
	acknowledge?.({ ok: true });
	let [body, about] = args;
	if (body !== null && typeof body === "object") {
		about = { ...body, ...about };
		body = about.text ?? about.message ?? JSON.stringify(body);
	}
	about = about !== null && typeof about === "object" ? about : {};
	const from = text(about.from);
	const tells = typeof about.room === "string" && about.room !== "";
	// The browser is not told whom a message was for. One that does not say belongs in the lobby, wherever we look.
	const room = rooms.get(tells ? about.room : rooms.has(lobby) ? lobby : rooms.keys().next().value);
	if (!room) {
		if (tells) hold(args);
		else complain(`A message came while you are in no room: ${text(body)}`);
		return;
	}
	const unnamed = room.name === lobby ? "" : "no room named";
	addMessage(room, {
		from,
		nickname: nameOf(room, from, text(about.nickname) || (from ? "somebody" : "via gRPC")),
		body: text(body),
		where: tells ? "" : from ? "to everyone" : unnamed,
		time: Math.abs(about.time) < 8e15 ? new Date(about.time) : new Date(), // what a Date can hold
	});
	stopTyping(room, from);
	if (room.name !== view.open) {
		room.unread++;
		renderRooms();
	}
}

function hold(args) {
	const now = Date.now();
	while (early.length >= maxEarly || (early.length > 0 && now - early[0].at > earlyLasts)) early.shift();
	early.push({ at: now, args });
}

export function startRooms() {
	$("join-input").addEventListener("input", (e) => fits(e.target, "room name", maxRoom));
	$("join-form").addEventListener("submit", async (e) => {
		e.preventDefault();
		const input = $("join-input");
		const name = input.value.trim();
		if (name && fits(input, "room name", maxRoom) && (await goTo(name))) input.value = "";
	});
	$("leave").addEventListener("click", leave);
	$("copy").hidden = !navigator.clipboard; // only on localhost or by https
	$("copy").addEventListener("click", async () => {
		const done = await navigator.clipboard.writeText($("hint-command").textContent).then(() => true, () => false);
		$("copy").firstChild.data = done ? "Copied" : "Not copied";
		$("announce").textContent = done ? "The command is copied." : "The command could not be copied.";
		setTimeout(() => ($("copy").firstChild.data = "Copy"), 1500);
	});
}
