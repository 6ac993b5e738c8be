// Who is in a room, who came, went, has a new name or is typing. A person is an id; a name is what it is called now.

import { $, avatar, clock, initial, keep, make, name, say, text } from "./dom.js";
import { notice } from "./messages.js";
import { me, rooms, view } from "./state.js";

const typingLasts = 4000; // ms, unless it is said again
const nameSettles = 500; // ms from a newcomer's arrival to its nickname
const firstNames = 2000; // ms from our own arrival: the backend may be new itself, and knows only guests

// setPeople takes a new list of who is in a room, and tells of those who came, went, or have a new name.
export function setPeople(room, list) {
	const before = room.asOf ? null : room.people; // what happened while we were away is no news
	const wasWhole = room.whole;
	const people = new Map();
	for (const person of Array.isArray(list.people) ? list.people : []) people.set(text(person.id), text(person.nickname));
	room.people = people;
	room.count = list.count ?? people.size;
	room.whole = people.size === room.count;
	if (room.asOf) room.quietUntil = Date.now() + firstNames;
	room.asOf = null;

	for (const [id, nickname] of before ? people : []) {
		const old = before.get(id);
		const guest = `guest-${id.slice(-4)}`;
		const first = (old === guest || nickname === guest) && (room.arriving.has(id) || Date.now() < room.quietUntil);
		if (old !== undefined && old !== nickname && !first) tellRenamed(room, id, called(id, old, before), nickname);
	}
	if (before && wasWhole && room.whole) { // a list that was cut says nothing about those who are not on it
		const came = [...people.keys()].filter((id) => !before.has(id) && id !== me.id);
		const went = [...before.keys()].filter((id) => !people.has(id) && id !== me.id);
		for (const id of came) room.arriving.add(id);
		setTimeout(() => {
			for (const id of came) room.arriving.delete(id);
			const here = came.filter((id) => room.people.has(id));
			tell(room, here.map((id) => called(id, room.people.get(id), room.people)), "came in");
		}, nameSettles);
		const announced = went.filter((id) => !room.arriving.has(id)); // nobody is seen to go who was not seen to come
		tell(room, announced.map((id) => called(id, before.get(id), before)), "left");
		for (const id of went) stopTyping(room, id);
	}
	nameMessages(room);
	if (room.name === view.open) renderPeople();
}

// called is somebody's name, with the end of the id behind it while another person there has the same.
function called(id, nickname, people) {
	for (const [other, name] of people) if (other !== id && name === nickname) return `${nickname} (${id.slice(-4)})`;
	return nickname;
}

function tell(room, names, what) {
	if (names.length > 4) notice(room, `${names.length} people ${what}`);
	else for (const who of names) notice(room, name(who), ` ${what}`);
}

function tellRenamed(room, id, old, nickname) {
	const now = name(called(id, nickname, room.people));
	if (id === me.id) notice(room, "You are now called ", now);
	else notice(room, name(old), " is now called ", now);
}

// nameMessages calls people in what they said before as they are called now: a name must not stand for two people.
function nameMessages(room) {
	for (const item of room.list.querySelectorAll("[data-from]")) {
		const nickname = room.people.get(item.dataset.from);
		if (nickname === undefined) continue;
		const now = called(item.dataset.from, nickname, room.people);
		const element = item.querySelector("[data-name]");
		if (element.textContent === now) continue;
		element.textContent = now;
		item.querySelector(".avatar").textContent = initial(nickname);
	}
	if (room.last) room.last.nickname = room.people.get(room.last.from) ?? room.last.nickname;
}

export const nameOf = (room, id, nickname) => (room.people.has(id) ? called(id, room.people.get(id), room.people) : nickname);

// lose notes that from now on nobody tells us who is where.
export function lose() {
	for (const room of rooms.values()) {
		room.asOf ??= new Date();
		for (const id of [...room.typing.keys()]) stopTyping(room, id);
	}
	renderPeople();
}

export function renderPeople() {
	const room = rooms.get(view.open);
	const people = [...(room?.people ?? [])];
	people.sort(([a], [b]) => (b === me.id) - (a === me.id)); // ourselves first, the others as they came: by name
	keep($("who"), "data-person", people.map(([id, nickname]) => [id, { id, nickname }]), (item, { id, nickname }) => {
		if (!item.firstChild) item.append(avatar(id, nickname), name("", { class: "person", "data-name": "" }), make("span", { class: "you" }, "you"));
		const [picture, label, you] = item.children;
		const now = called(id, nickname, room.people);
		if (label.textContent !== now) label.textContent = now;
		picture.textContent = initial(nickname);
		item.dataset.own = String(id === me.id);
		you.hidden = id !== me.id;
	});
	const more = (room?.count ?? 0) - people.length;
	$("who-more").hidden = more <= 0;
	$("who-more").textContent = `and ${more} more`;
	$("who-count").textContent = String(room?.count ?? 0);
	$("who").toggleAttribute("tabindex", false);
	if ($("who").scrollHeight > $("who").clientHeight) $("who").tabIndex = 0; // to scroll it by keyboard

	const stale = room?.asOf && people.length > 0;
	$("people").toggleAttribute("data-stale", !!stale);
	$("who-when").textContent = stale ? "Last seen here" : "Here now";
	$("who-stale").hidden = !stale;
	if (stale) $("who-stale").textContent = `As of ${clock(room.asOf)}. You are not connected, so this list may be out of date.`;
}

// ---- who is typing

export function heardTyping(who) {
	const room = rooms.get(who?.room);
	if (!room) return;
	const id = text(who.from);
	stopTyping(room, id);
	if (who.typing) {
		const timer = setTimeout(() => stopTyping(room, id), typingLasts);
		room.typing.set(id, { nickname: text(who.nickname), timer });
	}
	if (room.name === view.open) renderTyping();
}

export function stopTyping(room, id) {
	clearTimeout(room.typing.get(id)?.timer);
	if (room.typing.delete(id) && room.name === view.open) renderTyping();
}

export function renderTyping() {
	const room = rooms.get(view.open);
	const names = [...(room?.typing ?? [])].map(([id, { nickname }]) => name(nameOf(room, id, nickname)));
	const element = $("typing");
	if (names.length === 0) say(element);
	else if (names.length === 1) say(element, names[0], " is typing");
	else if (names.length === 2) say(element, names[0], " and ", names[1], " are typing");
	else say(element, "Several people are typing");
	element.toggleAttribute("data-on", names.length > 0);
}
