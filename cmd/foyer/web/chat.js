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
//     "joined", room                   somebody else put us into it, by JoinRooms
//     "left", room                     somebody else took us out of it
//     "roll call", ack                 from a gRPC call with acknowledgements: we answer who we are
//
// The page is a module for each concern; a module uses those before it:
//
//   dom.js         building and changing the page
//   state.js       who we are, the rooms we are in
//   connection.js  the connection, and the banner that tells of it
//   drawer.js      the side panel on a phone
//   messages.js    what was said
//   people.js      who is here
//   composer.js    the message box, its drafts, what waits to be sent
//   rooms.js       the list of rooms, the open one, where a message belongs
//   chat.js        ourselves, and the start

import { $, fault, fits, text } from "./dom.js";
import { ask, connect, link } from "./connection.js";
import { renderComposer, sendHeld, startComposer } from "./composer.js";
import { closeDrawer, narrow, startDrawer } from "./drawer.js";
import { startMessages } from "./messages.js";
import { heardTyping, lose, setPeople } from "./people.js";
import { forget, joinedFromOutside, leftFromOutside, receive, renderRooms, show, startRooms } from "./rooms.js";
import { enter, lobby, me, remember, rooms, view } from "./state.js";

const maxNickname = 32; // characters, the backend's limit

function setMe(nickname) {
	me.nickname = nickname;
	if (document.activeElement !== $("nickname")) $("nickname").value = nickname;
}

async function rename() {
	const field = $("nickname");
	if (!fits(field, "name", maxNickname)) return;
	const reply = await ask("nickname", field.value);
	if (!reply.ok) return fault(field, text(reply.error));
	me.wanted = text(reply.nickname);
	remember(me.wanted);
	setMe(me.wanted);
	field.value = me.wanted;
	$("announce").textContent = `You are now called ${me.wanted}.`;
	closeDrawer();
}

let welcomes = 0;

// welcome: the backend has seen us, for the first time or anew after it restarted or the connection was lost. It is told what
// it cannot know.
async function welcome(self) {
	const turn = ++welcomes;
	const over = () => turn !== welcomes || !link.socket.connected; // another welcome does it all again
	lose();
	me.id = text(self?.id) || link.socket.id;
	setMe(text(self?.nickname));
	if (me.wanted) {
		const reply = await ask("nickname", me.wanted);
		if (over()) return;
		if (reply.ok) setMe(text(reply.nickname));
	}
	for (const room of [...rooms.values()]) {
		const reply = await ask("join", room.name);
		if (over()) return;
		if (reply.ok) setPeople(room, reply);
		else if (!reply.sent) forget(room.name);
	}
	if (!rooms.has(lobby)) ask("leave", lobby); // everybody starts there, but we had left
	link.ready = true;
	renderComposer();
	sendHeld();
}

function changed() {
	if (link.state !== "connected") lose();
	document.body.toggleAttribute("data-away", link.state === "reconnecting" || link.state === "disconnected");
	renderComposer();
}

startDrawer();
startMessages();
startComposer();
startRooms();
$("nickname").addEventListener("input", (e) => fits(e.target, "name", maxNickname));
$("nickname").addEventListener("focus", (e) => e.target.select());
$("nickname-form").addEventListener("submit", (e) => (e.preventDefault(), rename()));

enter(lobby);
show(lobby);
connect(
	{
		welcome,
		"chat message": receive,
		typing: heardTyping,
		joined: joinedFromOutside,
		left: leftFromOutside,
		"roll call": (...args) => args.at(-1)?.call?.(null, { id: me.id, nickname: me.nickname }),
		who: (name, list) => {
			const room = rooms.get(name);
			if (room && list) setPeople(room, list);
		},
		rooms: (list) => {
			view.all = (Array.isArray(list) ? list : []).map(({ name, size }) => ({ name: text(name), size: Number(size) || 0 }));
			renderRooms();
		},
	},
	changed,
);
if (!narrow.matches) $("message-input").focus();
