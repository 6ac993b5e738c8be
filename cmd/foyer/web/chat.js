// The page of the demo chat. Its backend is cmd/foyer/chat; between them, over the stock Socket.IO client:
//
//   to the backend, each acknowledged with {ok, error?, …}
//     "chat message", text             to everyone, as in Socket.IO's well-known example
//     "chat message", text, room       to a room
//     "nickname", name                 {nickname}
//     "join", room                     {room, count, people: [{id, nickname}]}
//     "leave", room                    {room}
//     "typing", room, true or false    {room}
//     "who", room                      {room, count, people}
//   from the backend
//     "welcome", {id, nickname}        who we are to it; tell it again what we want to be called and where we are
//     "chat message", text, {from, nickname, room?, time}      from a gRPC call perhaps the text alone
//     "typing", {from, nickname, room, typing}
//     "who", room, {count, people}     each time it changes; people are the first 50
//     "rooms", [{name, size}]          all there are, the largest 50
//     "roll call", ack                 from a gRPC call with acknowledgements: we answer who we are
//
// Everything that came from somebody goes to the page as text, never as HTML.
"use strict";

const lobby = "lobby";
const keepMessages = 500; // in the page, a room
const answerWithin = 5000; // ms
const typingLasts = 4000; // ms, unless it is said again
const sayTypingEvery = 2000; // ms
const nameSettles = 500; // ms from a newcomer's arrival to its nickname
const narrow = matchMedia("(max-width: 760px), (max-height: 480px)"); // as in chat.css

const $ = (id) => document.getElementById(id);
const text = (value) => (typeof value === "string" ? value : value == null ? "" : JSON.stringify(value));

// make builds an element: make("li", {class: "notice", "data-notice": ""}, "text", child, …).
function make(tag, attributes = {}, ...children) {
	const element = document.createElement(tag);
	for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
	element.append(...children);
	return element;
}

// ---- state: where we are, who we are

const me = { id: "", nickname: "", wanted: remembered() };
const rooms = new Map(); // those we are in, by name
let open = ""; // the one we look at; "" is none
let allRooms = []; // [{name, size}], ours and others

function enter(name) {
	if (!rooms.has(name)) {
		rooms.set(name, {
			name,
			list: make("ol"),
			people: null, // Map of id to nickname; null until we are told
			count: 0,
			unread: 0,
			typing: new Map(), // id to {nickname, timer}
			last: null, // who spoke last, and when
		});
	}
	return rooms.get(name);
}

// A name lasts as long as its tab, so that two tabs can be two people.
function remembered() {
	try {
		return sessionStorage.getItem("foyer.nickname") || "";
	} catch {
		return "";
	}
}

function remember(name) {
	try {
		sessionStorage.setItem("foyer.nickname", name);
	} catch {} // not allowed here: then it is only for this page
}

// ---- the rooms

function show(name) {
	const room = rooms.get(name);
	open = room ? name : "";
	if (room) room.unread = 0;

	$("log").setAttribute("aria-live", "off"); // going elsewhere is no news
	$("log").replaceChildren(...(room ? [room.list] : []));
	setTimeout(() => $("log").setAttribute("aria-live", "polite"), 100);
	$("room-title").textContent = open || "No room";
	$("room-hash").hidden = !room;
	$("leave").hidden = !room;
	$("message-input").disabled = !room;
	$("message-input").placeholder = room ? `Message #${open}` : "Join a room first";
	$("hint").hidden = !room;
	$("nowhere").hidden = !!room;
	$("hint-room").textContent = `#${open}`;
	$("hint-command").textContent = command(open);
	document.title = room ? `#${open} · Foyer chat` : "Foyer chat";
	renderRooms();
	renderPeople();
	renderTyping();
	renderSend();
	toEnd();
}

// command is what sends a message into a room from a terminal, quoted for a shell.
function command(room) {
	const values = ["hello from grpcurl"];
	if (room !== lobby) values.push({ room }); // so that we know where it belongs, wherever we look
	const request = JSON.stringify({ target: { rooms: [room] }, payload: { event: "chat message", values } });
	return `grpcurl -plaintext -d '${request.replaceAll("'", `'\\''`)}' 127.0.0.1:50051 foyer.v1.EmitService/Emit`;
}

function renderRooms() {
	const sizes = new Map(allRooms.map(({ name, size }) => [name, size]));
	const names = [...rooms.keys(), ...[...sizes.keys()].filter((name) => !rooms.has(name))];
	const focused = document.activeElement?.closest?.("#room-list [data-room]")?.dataset.room;
	let unread = 0;
	$("room-list").replaceChildren(
		...names.map((name) => {
			const room = rooms.get(name);
			const button = make("button", { type: "button", class: "room" }, make("span", { class: "hash", "aria-hidden": "true" }, "#"));
			button.append(make("span", { class: "room-name" }, name));
			if (name === open) button.setAttribute("aria-current", "true");
			if (room?.unread) {
				unread += room.unread;
				button.append(make("span", { class: "badge" }, String(Math.min(room.unread, 99)), make("span", { class: "hidden" }, " unread")));
			} else if (!room) {
				button.append(make("span", { class: "join-it" }, "Join"));
			}
			const size = sizes.get(name) ?? room?.count ?? 0;
			button.append(make("span", { class: "count" }, String(size), make("span", { class: "hidden" }, " here")));
			button.addEventListener("click", () => goTo(name));
			return make(
				"li",
				{ "data-room": name, "data-joined": String(!!room), "data-open": String(name === open), "data-unread": String(room?.unread ?? 0) },
				button,
			);
		}),
	);
	for (const item of $("room-list").children) {
		if (item.dataset.room === focused) item.firstChild.focus();
	}
	$("menu-badge").hidden = unread === 0;
	$("menu").setAttribute("aria-label", unread ? `Rooms and people, ${unread} unread` : "Rooms and people");
}

async function goTo(name) {
	if (!rooms.has(name)) {
		const reply = await ask("join", name);
		if (!reply.ok) return complain(reply.error);
		name = text(reply.room) || name;
		setPeople(enter(name), reply);
	}
	show(name);
	closeMenu();
	if (!narrow.matches) $("message-input").focus(); // a phone would bring up its keyboard
}

async function leave() {
	const name = open;
	const reply = await ask("leave", name);
	if (!reply.ok) return complain(reply.error);
	rooms.delete(name);
	show(rooms.keys().next().value ?? "");
}

// ---- the people

// setPeople takes a new list of who is in a room, and tells of those who came, went, or have a new name.
function setPeople(room, list) {
	const before = room.people;
	const people = new Map();
	for (const person of Array.isArray(list.people) ? list.people : []) people.set(text(person.id), text(person.nickname));
	const all = people.size === list.count; // a list that was cut says nothing about those who are not on it
	room.people = people;
	room.count = list.count ?? people.size;

	if (before && all) {
		const came = [...people.keys()].filter((id) => !before.has(id) && id !== me.id);
		const went = [...before.keys()].filter((id) => !people.has(id) && id !== me.id);
		setTimeout(() => {
			const here = came.filter((id) => room.people.has(id));
			tell(room, here.map((id) => room.people.get(id)), "came in");
		}, nameSettles);
		tell(room, went.map((id) => before.get(id)), "left");
		for (const id of went) stopTyping(room, id);
		for (const [id, nickname] of people) {
			const old = before.get(id);
			if (old !== undefined && old !== nickname && !isGuest(old)) notice(room, `${old} is now ${nickname}`);
		}
	}
	if (room.name === open) renderPeople();
}

const isGuest = (nickname) => nickname.startsWith("guest-"); // to take a first name is no news

function tell(room, names, what) {
	if (names.length > 4) notice(room, `${names.length} people ${what}`);
	else for (const name of names) notice(room, `${name} ${what}`);
}

function renderPeople() {
	const room = rooms.get(open);
	const people = [...(room?.people ?? [])];
	people.sort(([a], [b]) => (b === me.id) - (a === me.id)); // ourselves first, the others as they came: by name
	const items = people.map(([id, nickname]) =>
		make(
			"li",
			{ "data-person": id, "data-own": String(id === me.id) },
			avatar(id, nickname),
			make("bdi", { class: "person", "data-name": "" }, nickname),
			...(id === me.id ? [make("span", { class: "you" }, "you")] : []),
		),
	);
	const more = (room?.count ?? 0) - items.length;
	if (more > 0) items.push(make("li", { class: "more" }, `and ${more} more`));
	$("who").replaceChildren(...items);
	$("who-count").textContent = String(room?.count ?? 0);
}

// avatar is an initial on a colour of its own. What has no socket came from a program.
function avatar(id, nickname) {
	const element = make("span", { class: "avatar", "aria-hidden": "true" });
	if (id) {
		let hash = 0;
		for (const c of id) hash = (hash * 31 + c.codePointAt(0)) >>> 0;
		element.style.setProperty("--hue", String(hash % 360));
		element.textContent = ([...nickname.trim()][0] ?? "?").toUpperCase();
	} else {
		element.classList.add("program");
		element.textContent = ">_";
	}
	return element;
}

// ---- the messages

function receive(...args) {
	const acknowledge = typeof args.at(-1) === "function" ? args.pop() : null; // a backend that sent it by EmitWithAck
	let [body, about] = args;
	if (body !== null && typeof body === "object") {
		about = { ...body, ...about };
		body = about.text ?? about.message ?? JSON.stringify(body);
	}
	about = about !== null && typeof about === "object" ? about : {};
	// To everyone, or we can not know: it belongs where we look. A room that we have left in the meantime has no place for it.
	const toAll = typeof about.room !== "string" || about.room === "";
	const room = rooms.get(toAll ? open || lobby : about.room);
	if (room) {
		const from = text(about.from);
		addMessage(room, {
			from,
			nickname: text(about.nickname) || (from ? "somebody" : "via gRPC"),
			body: text(body),
			toAll: toAll && from !== "",
			time: Math.abs(about.time) < 8e15 ? new Date(about.time) : new Date(), // what a Date can hold
		});
		stopTyping(room, from);
		if (room.name !== open) {
			room.unread++;
			renderRooms();
		}
	}
	acknowledge?.({ ok: true });
}

function addMessage(room, { from, nickname, body, toAll, time }) {
	const own = from !== "" && from === me.id;
	const follows = room.last && room.last.from === from && room.last.nickname === nickname && time - room.last.time < 120_000 && !toAll;
	room.last = toAll ? null : { from, nickname, time };

	const item = make("li", { class: "message", "data-message": "", "data-room": room.name, "data-from": from, "data-own": String(own) });
	if (follows) item.classList.add("follows");
	const meta = make("p", { class: "meta" }, make("bdi", { class: "name", "data-name": "" }, nickname));
	meta.append(make("span", { class: "where" }, toAll ? "to everyone" : `#${room.name}`));
	meta.append(make("time", { datetime: time.toISOString() }, time.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit" })));
	const bubble = make("p", { class: "bubble", dir: "auto", "data-text": "" }, body);
	bubble.title = time.toLocaleString();
	item.append(avatar(from, nickname), make("div", { class: "said" }, meta, bubble));
	add(room, item, own);
}

function notice(room, what) {
	room.last = null;
	add(room, make("li", { class: "notice", "data-notice": "", dir: "auto" }, what), false);
}

// add puts an item at the end, and stays there if that is where the reader was.
function add(room, item, always) {
	room.list.append(item);
	while (room.list.childElementCount > keepMessages) room.list.firstElementChild.remove();
	if (room.name !== open) return;
	if (atEnd || always) toEnd();
	else if (item.matches("[data-message]")) $("to-end").hidden = false;
}

let atEnd = true; // the reader is at the end, and wants to stay there when something grows or the window shrinks

function toEnd() {
	const scroll = $("scroll");
	scroll.scrollTop = scroll.scrollHeight;
	atEnd = true;
	$("to-end").hidden = true;
}

function scrolled() {
	const scroll = $("scroll");
	atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
	if (atEnd) $("to-end").hidden = true;
}

async function send() {
	const input = $("message-input");
	const body = input.value;
	if (body.trim() === "" || !open || !socket?.connected) return;
	input.value = "";
	fit();
	sayTyping(false);
	const reply = await ask("chat message", body, open);
	if (reply.ok) return;
	complain(reply.error);
	if (input.value === "") {
		input.value = body; // to try again
		fit();
	}
}

function fit() {
	const input = $("message-input");
	input.style.height = "auto";
	input.style.height = `${input.scrollHeight}px`;
	renderSend();
}

function renderSend() {
	$("send").disabled = !open || !socket?.connected || $("message-input").value.trim() === "";
}

// ---- who is typing

let saidTyping = 0; // when we last said so; 0: not typing

function sayTyping(on) {
	const now = Date.now();
	if (!open || !socket?.connected || (on ? now - saidTyping < sayTypingEvery : saidTyping === 0)) return;
	saidTyping = on ? now : 0;
	socket.volatile.emit("typing", open, on);
}

function heardTyping(who) {
	const room = rooms.get(who?.room);
	if (!room) return;
	stopTyping(room, who.from);
	if (who.typing) {
		const timer = setTimeout(() => stopTyping(room, who.from), typingLasts);
		room.typing.set(who.from, { nickname: text(who.nickname), timer });
	}
	if (room.name === open) renderTyping();
}

function stopTyping(room, id) {
	clearTimeout(room.typing.get(id)?.timer);
	if (room.typing.delete(id) && room.name === open) renderTyping();
}

function renderTyping() {
	const names = [...(rooms.get(open)?.typing.values() ?? [])].map(({ nickname }) => nickname);
	const what = names.length > 2 ? "Several people are" : names.length === 2 ? `${names.join(" and ")} are` : `${names[0]} is`;
	$("typing").textContent = names.length ? `${what} typing` : "";
	$("typing").toggleAttribute("data-on", names.length > 0);
}

// ---- ourselves

function setMe(nickname) {
	me.nickname = nickname;
	if (document.activeElement !== $("nickname")) $("nickname").value = nickname;
}

async function rename(name) {
	const reply = await ask("nickname", name);
	if (!reply.ok) return complain(reply.error);
	me.wanted = text(reply.nickname);
	remember(me.wanted);
	$("nickname").blur();
	setMe(me.wanted);
	closeMenu();
}

// welcome: the backend has seen us, for the first time or anew after it restarted or the connection was lost. It is told what
// it can not know.
async function welcome(self) {
	me.id = text(self?.id) || socket.id;
	setMe(text(self?.nickname));
	for (const room of rooms.values()) room.people = null; // what happened meanwhile is no news
	if (me.wanted) {
		const reply = await ask("nickname", me.wanted);
		if (reply.ok) setMe(text(reply.nickname));
	}
	for (const room of [...rooms.values()]) {
		const reply = await ask("join", room.name);
		if (reply.ok) setPeople(room, reply);
	}
	if (!rooms.has(lobby)) ask("leave", lobby); // everybody starts there, but we had left
}

// ---- the connection

let socket = null;

// ask sends an event and waits for its acknowledgement; its result is never an exception.
async function ask(event, ...args) {
	if (!socket?.connected) return { ok: false, error: "Not connected" };
	try {
		const reply = await socket.timeout(answerWithin).emitWithAck(event, ...args);
		return { error: "That did not work", ...reply };
	} catch {
		return { ok: false, error: "The chat backend does not answer" };
	}
}

function status(state, words, transport = "") {
	const element = $("status");
	element.dataset.state = state;
	element.dataset.transport = transport;
	element.replaceChildren(words, ...(transport ? [make("span", { class: "transport" }, transport)] : []));
	renderSend();
}

let complaint = 0;

// complain shows what went wrong: for a while, or until it is over when a person has to do something about it.
function complain(what, { stay = false, reconnect = false } = {}) {
	clearTimeout(complaint);
	$("banner-text").textContent = sentence(text(what));
	$("banner").hidden = false;
	$("reconnect").hidden = !reconnect;
	if (!stay) complaint = setTimeout(content, 6000);
}

const sentence = (s) => s.slice(0, 1).toUpperCase() + s.slice(1);

function content() {
	clearTimeout(complaint);
	$("banner").hidden = true;
}

function connect() {
	if (typeof io === "undefined") {
		status("missing", "No client");
		complain("The Socket.IO client is not built into this foyer: run “make web” and build again.", { stay: true });
		return;
	}
	socket = io();
	const connected = () => status("connected", "Connected", socket.io.engine.transport.name);

	socket.on("connect", () => {
		me.id = socket.id;
		connected();
		content();
		socket.io.engine.on("upgrade", connected);
	});
	socket.on("connect_error", (err) => {
		if (socket.active) {
			status("reconnecting", "Trying again");
			complain(`No connection: ${err.message}`, { stay: true });
		} else {
			status("disconnected", "Refused");
			complain(`Connection refused: ${err.message}`, { stay: true, reconnect: true });
		}
	});
	socket.on("disconnect", (reason) => {
		for (const room of rooms.values()) for (const id of [...room.typing.keys()]) stopTyping(room, id);
		saidTyping = 0;
		if (socket.active) {
			status("reconnecting", "Reconnecting");
			complain(`Connection lost (${reason}). Coming back by itself.`, { stay: true });
		} else {
			status("disconnected", "Disconnected");
			complain(`Disconnected (${reason}).`, { stay: true, reconnect: true });
		}
	});
	socket.io.on("reconnect_attempt", (attempt) => status("reconnecting", `Reconnecting, try ${attempt}`));

	socket.on("welcome", welcome);
	socket.on("chat message", receive);
	socket.on("typing", heardTyping);
	socket.on("roll call", (...args) => args.at(-1)?.call?.(null, { id: me.id, nickname: me.nickname }));
	socket.on("who", (name, list) => {
		const room = rooms.get(name);
		if (room && list) setPeople(room, list);
	});
	socket.on("rooms", (list) => {
		allRooms = (Array.isArray(list) ? list : []).map(({ name, size }) => ({ name: text(name), size: Number(size) || 0 }));
		renderRooms();
	});
}

// ---- the page

function openMenu() {
	if (!narrow.matches) return;
	document.body.dataset.menu = "open";
	arrange();
	$("close-menu").focus();
}

function closeMenu() {
	if (document.body.dataset.menu !== "open") return;
	delete document.body.dataset.menu;
	arrange();
	$("menu").focus();
}

// arrange keeps the keyboard and screen readers out of what can not be seen.
function arrange() {
	const isOpen = document.body.dataset.menu === "open";
	$("panel").inert = narrow.matches && !isOpen;
	$("main").inert = narrow.matches && isOpen;
	$("shade").hidden = !(narrow.matches && isOpen);
	$("menu").setAttribute("aria-expanded", String(isOpen));
}

function start() {
	$("composer").addEventListener("submit", (e) => (e.preventDefault(), send()));
	$("message-input").addEventListener("keydown", (e) => {
		if (e.key === "Enter" && !e.shiftKey && !e.isComposing) (e.preventDefault(), send());
	});
	$("message-input").addEventListener("input", (e) => (fit(), sayTyping(e.target.value !== "")));
	$("message-input").addEventListener("blur", () => sayTyping(false));
	$("join-form").addEventListener("submit", (e) => {
		e.preventDefault();
		const name = $("join-input").value.trim();
		$("join-input").value = "";
		if (name) goTo(name);
	});
	$("nickname-form").addEventListener("submit", (e) => (e.preventDefault(), rename($("nickname").value)));
	$("nickname").addEventListener("focus", (e) => e.target.select());
	$("leave").addEventListener("click", leave);
	$("reconnect").addEventListener("click", () => (status("connecting", "Connecting"), socket.connect()));
	$("to-end").addEventListener("click", toEnd);
	$("scroll").addEventListener("scroll", scrolled);
	new ResizeObserver(() => atEnd && toEnd()).observe($("scroll"));
	$("copy").hidden = !navigator.clipboard; // only on localhost or by https
	$("copy").addEventListener("click", async () => {
		await navigator.clipboard.writeText($("hint-command").textContent).catch(() => {});
		$("copy").textContent = "Copied";
		setTimeout(() => ($("copy").textContent = "Copy"), 1500);
	});
	$("menu").addEventListener("click", openMenu);
	$("close-menu").addEventListener("click", closeMenu);
	$("shade").addEventListener("click", closeMenu);
	document.addEventListener("keydown", (e) => e.key === "Escape" && closeMenu());
	narrow.addEventListener("change", () => (delete document.body.dataset.menu, arrange()));

	arrange();
	enter(lobby);
	show(lobby);
	connect();
	if (!narrow.matches) $("message-input").focus();
}

start();
