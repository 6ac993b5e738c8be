// What the page knows: who we are, the rooms we are in, the one we look at.

import { make } from "./dom.js";

export const lobby = "lobby";
export const me = { id: "", nickname: "", wanted: remembered() };
export const rooms = new Map(); // those we are in, by name
export const view = {
	open: "", // the room we look at; "" is none
	all: [], // [{name, size}], ours and others
};

export function enter(name) {
	if (!rooms.has(name)) {
		rooms.set(name, {
			name,
			list: make("ol"),
			people: new Map(), // id to nickname
			whole: false, // people has everybody
			asOf: new Date(0), // when we last knew them; null while we are kept up to date
			quietUntil: 0, // until then a guest's first name is no news
			count: 0,
			unread: 0,
			arriving: new Set(), // ids that are not announced yet
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

export function remember(name) {
	try {
		sessionStorage.setItem("foyer.nickname", name);
	} catch {} // not allowed here: then it is only for this page
}
