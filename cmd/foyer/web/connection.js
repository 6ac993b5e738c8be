// The connection to Foyer, and what the page says about it.

import { $, make, say, sentence, text } from "./dom.js";

const answerWithin = 5000; // ms
const complainFor = 8000; // ms
const offline = "Your device is offline. This page comes back when the network does.";

export const link = {
	socket: null,
	state: "connecting",
	ready: false, // the backend knows our name and rooms: messages can go out
};

// ask sends an event and waits for its acknowledgement. Its result is never an exception. Without ok, sent tells
// whether the event was on its way: then nobody knows whether it arrived.
export async function ask(event, ...args) {
	if (!link.socket?.connected) return { ok: false, sent: false, error: "You are not connected. Try it again when the connection is back." };
	try {
		const reply = await link.socket.timeout(answerWithin).emitWithAck(event, ...args);
		return { error: "That did not work", sent: false, ...reply };
	} catch {
		return { ok: false, sent: true, error: link.socket.connected ? "The chat backend does not answer." : "The connection was lost." };
	}
}

// connect opens the connection. events are the backend's; changed() is called when the state of the connection is
// another.
export function connect(events, changed) {
	const status = (state, words, transport = "") => {
		const element = $("status");
		link.state = state;
		if (state !== "connected") link.ready = false;
		element.dataset.state = state;
		element.dataset.transport = transport;
		say(element, make("span", { class: "words" }, words), ...(transport ? [" ", make("span", { class: "transport" }, transport)] : []));
		changed();
	};
	if (typeof io === "undefined") {
		status("missing", "No client");
		trouble("The Socket.IO client was not loaded. If this foyer was built without it, run “make web” and build again. If it is behind a proxy, the proxy has to pass on the path of Socket.IO too.");
		return;
	}
	// The path of the protocol is where the client came from, also when a proxy put a path before it.
	const socket = io({ path: new URL(".", $("client").src).pathname });
	link.socket = socket;
	const connected = () => status("connected", "Connected", socket.io.engine.transport.name);

	socket.on("connect", () => {
		connected();
		content();
		socket.io.engine.on("upgrade", connected);
	});
	socket.on("connect_error", (err) => {
		if (socket.active) {
			status("reconnecting", "Reconnecting");
			trouble(navigator.onLine ? "Foyer does not answer. This page keeps trying." : offline);
		} else {
			status("disconnected", "Refused");
			trouble(`Foyer refused the connection: ${err.message}`, { reconnect: true });
		}
	});
	socket.on("disconnect", (reason) => {
		if (socket.active) {
			status("reconnecting", "Reconnecting");
			trouble(navigator.onLine ? "The connection was lost. This page keeps trying to come back." : offline);
		} else {
			status("disconnected", "Disconnected");
			trouble(reason === "io server disconnect" ? "Foyer ended the connection." : "The connection has ended.", { reconnect: true });
		}
	});
	socket.io.on("reconnect_attempt", () => status("reconnecting", "Reconnecting"));
	$("reconnect").addEventListener("click", () => {
		status("connecting", "Connecting");
		socket.connect();
		$("message-input").focus(); // the button will go
	});
	for (const [event, take] of Object.entries(events)) socket.on(event, take);
}

// ---- the banner

let standing = null; // trouble that lasts: {what, reconnect}
let timer = 0;

// trouble is shown until it is over. With reconnect, a person has to do something about it.
function trouble(what, { reconnect = false } = {}) {
	standing = { what, reconnect };
	clearTimeout(timer);
	banner(standing);
}

// complain shows for a while what went wrong or happened to us.
export function complain(what) {
	clearTimeout(timer);
	banner({ what: sentence(text(what)), reconnect: standing?.reconnect ?? false });
	timer = setTimeout(() => banner(standing), complainFor);
}

// calm takes away what complain shows, before its time.
export function calm() {
	clearTimeout(timer);
	banner(standing);
}

function content() {
	standing = null;
	clearTimeout(timer);
	banner(null);
}

function banner(what) {
	$("banner").hidden = !what;
	$("reconnect").hidden = !what?.reconnect;
	if (what) say($("banner-text"), what.what);
}
