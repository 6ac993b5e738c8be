// What was said in a room, and what happened there, down to the end of the page.

import { $, avatar, clock, make, name } from "./dom.js";
import { me, view } from "./state.js";

const keepMessages = 500; // in the page, a room

// addMessage takes where from whoever knows that it is worth a word: "to everyone", "no room named", "".
export function addMessage(room, { from, nickname, body, where, time }) {
	const own = from !== "" && from === me.id;
	const follows = room.last && room.last.from === from && room.last.nickname === nickname && time - room.last.time < 120_000 && !where;
	room.last = where ? null : { from, nickname, time };

	const item = make("li", { class: "message", "data-message": "", "data-room": room.name, "data-from": from, "data-own": String(own) });
	if (follows) item.classList.add("follows");
	const meta = make("p", { class: "meta" }, name(nickname, { class: "name", "data-name": "" }));
	if (where) meta.append(" ", make("span", { class: "where" }, where));
	meta.append(" ", make("time", { datetime: time.toISOString(), title: time.toLocaleString() }, clock(time)));
	item.append(avatar(from, nickname), make("div", { class: "said" }, meta, bubble(body)));
	add(room, item, own);
}

export const bubble = (body) => make("p", { class: "bubble", dir: "auto", "data-text": "" }, body);

// notice tells what happened: strings and elements.
export function notice(room, ...what) {
	room.last = null;
	add(room, make("li", { class: "notice", "data-notice": "" }, ...what), false);
}

// add puts an item at the end, and stays there if that is where the reader was.
export function add(room, item, always) {
	room.list.append(item);
	while (room.list.childElementCount > keepMessages) room.list.firstElementChild.remove();
	if (room.name !== view.open) return;
	if (atEnd || always) toEnd();
	else if (item.matches("[data-message]")) $("to-end").hidden = false;
}

let atEnd = true; // the reader is at the end, and wants to stay there when something grows or the window shrinks

export function toEnd() {
	const scroll = $("scroll");
	scroll.scrollTop = scroll.scrollHeight;
	atEnd = true;
	if ($("to-end") === document.activeElement) scroll.focus(); // the button goes
	$("to-end").hidden = true;
}

export function startMessages() {
	const scroll = $("scroll");
	scroll.addEventListener("scroll", () => {
		atEnd = scroll.scrollHeight - scroll.scrollTop - scroll.clientHeight < 80;
		if (atEnd) toEnd();
	});
	new ResizeObserver(() => atEnd && toEnd()).observe(scroll);
	$("to-end").addEventListener("click", toEnd);
}
