import io.socket.client.Ack;
import io.socket.client.AckWithTimeout;
import io.socket.client.IO;
import io.socket.client.Socket;
import java.net.URI;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Map;
import java.util.Objects;
import java.util.Set;
import java.util.concurrent.ArrayBlockingQueue;
import java.util.concurrent.BlockingQueue;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.TimeUnit;
import org.json.JSONArray;
import org.json.JSONObject;

/**
 * The stock client of Java in a conversation with a backend of these tests. Each check is a line on stdout: {check} or {check,
 * error}.
 *
 * <p>java -cp 'target/classes:target/lib/*' Client URL websocket|polling|upgrade [burst]
 *
 * <p>With "burst" it does what Burst says instead.
 */
public final class Client {
	private interface Check {
		void run() throws Exception;
	}

	private static final long PATIENCE_SECONDS = 15;
	private static final byte[] BYTES = new byte[256];

	static {
		for (int i = 0; i < BYTES.length; i++) {
			BYTES[i] = (byte) i;
		}
	}

	private static String url;
	private static String way;
	private static final List<Socket> open = new ArrayList<>();

	public static void main(String[] args) throws Exception {
		url = args[0];
		way = args[1];
		if (args.length > 2) {
			Burst.serve(url, transports());
		}
		check("connect with auth and query", Client::connectWithAuth);
		check("refused with data", Client::refused);
		check("an event and its acknowledgement", Client::echo);
		check("an event from the backend and before the acknowledgement", Client::back);
		check("acknowledged to the backend", Client::asked);
		check("binary", Client::binary);
		check("namespaces on one link", Client::namespaces);
		check("timeout", Client::timeout);
		check("two hundred in order", Client::order);
		check("disconnected by the backend", Client::thrownOut);
		check("disconnected by itself", Client::leaves);
		check("reconnects", Client::reconnects);
		check("the transport", Client::transport);
		System.exit(0); // the client's threads are not daemons
	}

	private static void check(String name, Check check) throws Exception {
		JSONObject line = new JSONObject().put("check", name);
		try {
			check.run();
		} catch (Exception | AssertionError e) {
			line.put("error", e + " " + Arrays.toString(e.getStackTrace()));
		}
		open.forEach(Socket::disconnect);
		open.clear();
		System.out.println(line);
	}

	private static String[] transports() {
		return way.equals("upgrade") ? new String[] {"polling", "websocket"} : new String[] {way};
	}

	private static Socket make(String namespace, Map<String, String> auth, String query) {
		IO.Options options = IO.Options.builder().setForceNew(true).setTransports(transports()).setAuth(auth).setQuery(query)
			.setReconnectionDelay(50).setReconnectionDelayMax(200).build();
		Socket socket = IO.socket(URI.create(url + namespace), options);
		open.add(socket);
		return socket;
	}

	private static Socket connected(Map<String, String> auth, String query) throws Exception {
		Socket socket = make("/", auth, query);
		BlockingQueue<Object[]> connects = on(socket, Socket.EVENT_CONNECT);
		socket.connect();
		next(connects, "connect");
		return socket;
	}

	private static Socket connected() throws Exception {
		return connected(Map.of(), "");
	}

	private static BlockingQueue<Object[]> on(Socket socket, String event) {
		BlockingQueue<Object[]> seen = new LinkedBlockingQueue<>();
		socket.on(event, seen::add);
		return seen;
	}

	private static Object[] next(BlockingQueue<Object[]> seen, String what) throws Exception {
		Object[] args = seen.poll(PATIENCE_SECONDS, TimeUnit.SECONDS);
		if (args == null) {
			throw new AssertionError("no " + what);
		}
		return args;
	}

	/** Emits and waits for the acknowledgement. */
	private static Object[] ask(Socket socket, String event, Object... args) throws Exception {
		BlockingQueue<Object[]> answer = new ArrayBlockingQueue<>(1);
		socket.emit(event, args, answer::add);
		return next(answer, "acknowledgement of " + event);
	}

	private static void same(Object got, Object want) {
		if (!Objects.equals(plain(got), plain(want))) {
			throw new AssertionError("got " + plain(got) + ", want " + plain(want));
		}
	}

	/** What can be compared: this JSON library's objects cannot, and its numbers are of whatever class was shortest. */
	private static Object plain(Object value) {
		try {
			if (value instanceof Object[] array) {
				List<Object> out = new ArrayList<>();
				for (Object item : array) {
					out.add(plain(item));
				}
				return out;
			}
			if (value instanceof JSONArray array) {
				Object[] items = new Object[array.length()];
				for (int i = 0; i < items.length; i++) {
					items[i] = array.get(i);
				}
				return plain(items);
			}
			if (value instanceof JSONObject object) {
				Map<String, Object> out = new java.util.TreeMap<>();
				for (var keys = object.keys(); keys.hasNext();) {
					String key = (String) keys.next();
					out.put(key, plain(object.get(key)));
				}
				return out;
			}
		} catch (org.json.JSONException e) {
			throw new AssertionError(e);
		}
		if (value instanceof byte[] bytes) {
			return "bytes " + Arrays.toString(bytes);
		}
		if (value instanceof Number number) {
			return number.doubleValue();
		}
		return value == JSONObject.NULL ? null : value;
	}

	private static Object[] values() throws Exception {
		JSONObject deep = new JSONObject().put("\u043a\u043b\u044e\u0447", new JSONArray("[{\"deep\":[[1]]}]")).put("", 0);
		return new Object[] {
			1, -2.5, "Gr\u00fc\u00dfe, \u6771\u4eac, \ud83d\ude00", JSONObject.NULL, true, new JSONArray(), new JSONObject(), deep,
		};
	}

	private static void connectWithAuth() throws Exception {
		Socket socket = connected(Map.of("user", "ann", "token", "\u00fc"), "page=%C3%BC%26%3D");
		JSONObject got = (JSONObject) ask(socket, "handshake")[0];
		same(got.getJSONObject("query").get("page"), "\u00fc&=");
		same(got.get("auth"), new JSONObject().put("user", "ann").put("token", "\u00fc"));
		same(got.get("user"), "ann");
		same(got.get("data"), new JSONObject().put("came", "/"));
		same(got.get("address"), "127.0.0.1");
	}

	private static void refused() throws Exception {
		Socket socket = make("/members", Map.of("token", "wrong"), "");
		BlockingQueue<Object[]> errors = on(socket, Socket.EVENT_CONNECT_ERROR);
		socket.connect();
		JSONObject want = new JSONObject().put("message", "not authorized")
			.put("data", new JSONObject().put("code", 401).put("content", "Please log in"));
		same(next(errors, "connect_error")[0], want);
	}

	private static void echo() throws Exception {
		Socket socket = connected();
		same(ask(socket, "echo", values()), values());
		same(ask(socket, "echo"), new Object[] {});
	}

	private static void back() throws Exception {
		Socket socket = connected();
		List<String> order = Collections.synchronizedList(new ArrayList<>());
		BlockingQueue<Object[]> events = new LinkedBlockingQueue<>();
		BlockingQueue<Object[]> answer = new LinkedBlockingQueue<>();
		socket.on("back", args -> {
			order.add("event");
			events.add(args);
		});
		socket.emit("back", values(), (Ack) args -> {
			order.add("acknowledgement");
			answer.add(args);
		});
		same(next(answer, "acknowledgement"), new Object[] {"after"});
		same(next(events, "back"), values());
		same(order.toArray(), new Object[] {"event", "acknowledgement"});
	}

	private static void asked() throws Exception {
		Socket socket = connected();
		socket.on("question", args -> ((Ack) args[2]).call("answer", (Integer) args[0] + (Integer) args[1], JSONObject.NULL));
		same(ask(socket, "ask", "question", 5000, 1, 2), new Object[] {new Object[] {"answer", 3, null}});
		same(ask(socket, "ask", "nobody listens", 1000), new Object[] {"ACK_FAILURE_TIMEOUT"});
	}

	private static void binary() throws Exception {
		Socket socket = connected();
		JSONObject deep = new JSONObject().put("deep", new JSONArray().put("second".getBytes()).put(new JSONObject().put("empty", new byte[0])));
		Object[] args = {BYTES, deep, "text"};
		BlockingQueue<Object[]> events = on(socket, "back");
		same(ask(socket, "back", args), new Object[] {"after"});
		same(next(events, "back"), args);
		same(ask(socket, "echo", args), args);
		socket.on("file", got -> ((Ack) got[1]).call(got[0], new byte[] {1, 2}));
		same(ask(socket, "ask", "file", 5000, BYTES), new Object[] {new Object[] {BYTES, new byte[] {1, 2}}});
	}

	private static void namespaces() throws Exception {
		Socket root = connected();
		Set<String> ids = new HashSet<>(Set.of(root.id()));
		for (String name : List.of("/members", "/tenant-7")) {
			IO.Options options = IO.Options.builder().setAuth(Map.of("token", "open sesame")).build();
			Socket socket = root.io().socket(name, options);
			open.add(socket);
			BlockingQueue<Object[]> connects = on(socket, Socket.EVENT_CONNECT);
			socket.connect();
			next(connects, "connect to " + name);
			same(((JSONObject) ask(socket, "handshake")[0]).get("data"), new JSONObject().put("came", name));
			ids.add(socket.id());
		}
		same(ids.size(), 3);
		same(ask(root, "echo", 1), new Object[] {1});
	}

	private static void timeout() throws Exception {
		Socket socket = connected();
		BlockingQueue<Object[]> outcome = new LinkedBlockingQueue<>();
		AckWithTimeout ack = new AckWithTimeout(200) {
			@Override
			public void onSuccess(Object... args) {
				outcome.add(new Object[] {"answered"});
			}

			@Override
			public void onTimeout() {
				outcome.add(new Object[] {"timed out"});
			}
		};
		socket.emit("silent", new Object[] {}, ack);
		same(next(outcome, "outcome"), new Object[] {"timed out"});
		same(ask(socket, "in time", 1), new Object[] {1});
	}

	private static void order() throws Exception {
		Socket socket = connected();
		BlockingQueue<Object[]> events = on(socket, "back");
		for (int i = 0; i < 200; i++) {
			socket.emit("back", i);
		}
		for (int i = 0; i < 200; i++) {
			same(next(events, "back " + i), new Object[] {i});
		}
	}

	private static void thrownOut() throws Exception {
		Socket socket = connected();
		BlockingQueue<Object[]> words = on(socket, "last words");
		BlockingQueue<Object[]> gone = on(socket, Socket.EVENT_DISCONNECT);
		socket.emit("throw_out", "NAMESPACE");
		same(next(words, "last words"), new Object[] {"NAMESPACE"});
		same(next(gone, "disconnect"), new Object[] {"io server disconnect"});
	}

	private static void leaves() throws Exception {
		Socket socket = connected();
		BlockingQueue<Object[]> gone = on(socket, Socket.EVENT_DISCONNECT);
		socket.disconnect();
		same(next(gone, "disconnect"), new Object[] {"io client disconnect"});
	}

	private static void reconnects() throws Exception {
		Socket socket = connected();
		String before = socket.id();
		BlockingQueue<Object[]> gone = on(socket, Socket.EVENT_DISCONNECT);
		BlockingQueue<Object[]> connects = on(socket, Socket.EVENT_CONNECT);
		socket.emit("throw_out", "TRANSPORT");
		// On websocket it stops reading at the close frame, and finds out by its heartbeat.
		String reason = (String) next(gone, "disconnect")[0];
		same(Set.of("transport close", "transport error", "ping timeout").contains(reason), true);
		next(connects, "connect");
		same(socket.id().equals(before), false);
		same(ask(socket, "echo", 1), new Object[] {1});
	}

	/** The client does not say which transport it is on, but tells of its upgrade. */
	private static void transport() throws Exception {
		Socket socket = make("/", Map.of(), "");
		BlockingQueue<String> seen = new LinkedBlockingQueue<>();
		socket.io().on(io.socket.client.Manager.EVENT_TRANSPORT, args -> {
			var transport = (io.socket.engineio.client.Transport) args[0];
			seen.add(transport.name);
		});
		BlockingQueue<Object[]> connects = on(socket, Socket.EVENT_CONNECT);
		socket.connect();
		next(connects, "connect");
		for (String want : way.equals("upgrade") ? List.of("polling", "websocket") : List.of(way)) {
			same(seen.poll(PATIENCE_SECONDS, TimeUnit.SECONDS), want);
		}
		same(ask(socket, "echo", 1), new Object[] {1});
	}
}
