import io.socket.client.Ack;
import io.socket.client.IO;
import io.socket.client.Socket;
import java.io.BufferedReader;
import java.io.InputStreamReader;
import java.net.URI;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.Collections;
import java.util.HashSet;
import java.util.List;
import java.util.Set;
import java.util.concurrent.Semaphore;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.function.BooleanSupplier;
import org.json.JSONArray;
import org.json.JSONObject;

/**
 * Bursts: many events in one tick, and many to be read. A Go test writes commands to stdin, one JSON object a line; each has a
 * link of its own, which must stay until all is there. What came of it is a line on stdout. See the Go test for the fields.
 */
final class Burst {
	private static final long PATIENCE_SECONDS = 30; // without anything new

	private final JSONObject command;
	private final String name;
	private final int bytes;
	private final List<Socket> sockets = new ArrayList<>();
	private final List<String> errors = Collections.synchronizedList(new ArrayList<>());
	private final AtomicInteger acked = new AtomicInteger();
	private final AtomicInteger received = new AtomicInteger();
	private final Semaphore news = new Semaphore(0);
	private volatile boolean gone;

	private Burst(JSONObject command) throws Exception {
		this.command = command;
		name = command.getString("name");
		bytes = command.getInt("bytes");
	}

	static void serve(String url, String[] transports) throws Exception {
		BufferedReader lines = new BufferedReader(new InputStreamReader(System.in));
		for (String line; (line = lines.readLine()) != null;) {
			Burst burst = new Burst(new JSONObject(line));
			Thread thread = new Thread(() -> {
				try {
					burst.run(url, transports);
				} catch (Exception e) {
					System.err.println(e + " " + Arrays.toString(e.getStackTrace()));
				}
			});
			thread.setDaemon(true);
			thread.start();
		}
		System.exit(0);
	}

	private void run(String url, String[] transports) throws Exception {
		JSONArray namespaces = command.getJSONArray("namespaces");
		IO.Options options = IO.Options.builder().setForceNew(true).setTransports(transports).setReconnection(false).build();
		for (int i = 0; i < namespaces.length(); i++) {
			String namespace = namespaces.getString(i);
			Socket socket = i == 0 ? IO.socket(URI.create(url + namespace), options) : sockets.get(0).io().socket(namespace);
			sockets.add(socket);
			listen(socket, namespace);
		}
		sockets.forEach(Socket::connect);
		until("connect", () -> sockets.stream().allMatch(Socket::connected));
		JSONObject ids = new JSONObject();
		for (int i = 0; !gone && i < sockets.size(); i++) {
			ids.put(namespaces.getString(i), sockets.get(i).id());
		}
		say(new JSONObject().put("name", name).put("k", "connected").put("ids", ids));

		int send = command.getInt("send");
		byte[] binary = new byte[bytes];
		Arrays.fill(binary, (byte) 'x');
		Object data = command.getBoolean("binary") ? binary : "x".repeat(bytes);
		AtomicInteger[] due = new AtomicInteger[sockets.size()];
		Arrays.setAll(due, i -> new AtomicInteger());
		for (int i = 0; !gone && i < send; i++) {
			for (int n = 0; n < sockets.size(); n++) {
				sockets.get(n).emit("burst", new Object[] {i, data}, acknowledged(i, due[n]));
			}
		}
		int receive = command.getInt("receive");
		until("the burst", () -> acked.get() >= send * sockets.size() && received.get() >= receive * sockets.size());

		// The link is still there, and nothing is behind the rest.
		AtomicInteger last = new AtomicInteger();
		for (Socket socket : sockets) {
			socket.emit("last", new Object[] {}, (Ack) args -> {
				last.incrementAndGet();
				news.release();
			});
		}
		until("the last word", () -> last.get() == sockets.size());
		JSONObject done = new JSONObject().put("name", name).put("k", "done").put("acked", acked.get())
			.put("received", received.get()).put("wrong", new JSONArray(new ArrayList<>(errors)));
		for (Socket socket : sockets) {
			socket.off();
			socket.disconnect();
		}
		say(done);
	}

	private void listen(Socket socket, String namespace) throws Exception {
		boolean unordered = command.getBoolean("unordered");
		Set<Object> seen = new HashSet<>();
		socket.on(Socket.EVENT_CONNECT, args -> news.release());
		socket.on(Socket.EVENT_CONNECT_ERROR, args -> end(namespace + ": connect_error " + args[0]));
		socket.on(Socket.EVENT_DISCONNECT, args -> end(namespace + ": disconnect " + args[0]));
		socket.on("down", args -> {
			int size = args[1] instanceof byte[] got ? got.length : ((String) args[1]).length();
			if (!unordered && !args[0].equals(seen.size())) {
				wrong(namespace + ": " + args[0] + " came as number " + seen.size());
			}
			if (!seen.add(args[0])) {
				wrong(namespace + ": " + args[0] + " came twice");
			}
			if (size != bytes) {
				wrong(namespace + ": " + args[0] + " has " + size + " bytes");
			}
			received.incrementAndGet();
			news.release();
		});
	}

	private Ack acknowledged(int i, AtomicInteger due) {
		return args -> {
			if (!args[0].equals(i) || due.getAndIncrement() != i || !args[1].equals(bytes)) {
				wrong(i + " is acknowledged as " + Arrays.toString(args));
			}
			acked.incrementAndGet();
			news.release();
		};
	}

	private void wrong(String what) {
		if (errors.size() < 10) {
			errors.add(what);
		}
	}

	private void end(String what) {
		wrong(what);
		gone = true;
		news.release();
	}

	private void until(String what, BooleanSupplier there) throws Exception {
		while (!gone && !there.getAsBoolean()) {
			if (!news.tryAcquire(PATIENCE_SECONDS, TimeUnit.SECONDS)) {
				end("nothing new while it waits for " + what);
			}
		}
	}

	private static void say(JSONObject line) {
		synchronized (System.out) {
			System.out.println(line);
		}
	}
}
