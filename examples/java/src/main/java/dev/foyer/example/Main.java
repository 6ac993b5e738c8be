package dev.foyer.example;

import com.google.protobuf.Duration;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.rpc.BadRequest;
import com.google.rpc.ErrorInfo;
import dev.foyer.v1.Accept;
import dev.foyer.v1.AckOutcome;
import dev.foyer.v1.Args;
import dev.foyer.v1.AttachRequest;
import dev.foyer.v1.AttachResponse;
import dev.foyer.v1.Connect;
import dev.foyer.v1.ConnectReply;
import dev.foyer.v1.Drain;
import dev.foyer.v1.EmitRequest;
import dev.foyer.v1.EmitServiceGrpc;
import dev.foyer.v1.EmitWithAckRequest;
import dev.foyer.v1.Event;
import dev.foyer.v1.EventReply;
import dev.foyer.v1.HandlerServiceGrpc;
import dev.foyer.v1.ListSocketsRequest;
import dev.foyer.v1.Register;
import dev.foyer.v1.Reject;
import dev.foyer.v1.Socket;
import dev.foyer.v1.SocketServiceGrpc;
import dev.foyer.v1.SocketView;
import dev.foyer.v1.Target;
import io.grpc.Grpc;
import io.grpc.InsecureChannelCredentials;
import io.grpc.ManagedChannel;
import io.grpc.Metadata;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.protobuf.StatusProto;
import io.grpc.stub.ClientCallStreamObserver;
import io.grpc.stub.ClientResponseObserver;
import io.grpc.stub.MetadataUtils;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.HashMap;
import java.util.List;
import java.util.Locale;
import java.util.Map;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.CompletionException;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.ThreadLocalRandom;
import java.util.concurrent.TimeUnit;

/**
 * A backend of Foyer, to copy from: who may connect, what happens to the events of browsers, and how to reach browsers.
 *
 * <pre>
 * foyer serve --namespaces /example --connect /example=handler &
 * mvn compile exec:java
 * </pre>
 *
 * FOYER_API is the address of Foyer's API, FOYER_TOKEN the bearer token, when Foyer asks for one. The browser's side is in
 * ../README.md.
 */
public final class Main {
	static final String NAMESPACE = "/example"; // in the browser: io("/example", { auth: { token: "ann's secret" } })
	static final String ROOM = "lobby";
	static final int IN_FLIGHT = 64; // so many events are answered at once, and no more
	static final int CALL_SECONDS = 10; // gRPC sets no deadline by itself: a call without one can wait for ever
	static final int GRACE_SECONDS = 10; // how long events in flight may take when this program is asked to end
	static final int FIRST_PAUSE_MS = 100;
	static final int LONGEST_PAUSE_MS = 5000;

	final ManagedChannel channel;
	final ExecutorService workers = Executors.newFixedThreadPool(IN_FLIGHT);

	// ---- Connect.

	Main(String address, String token) {
		var headers = new Metadata(); // of every call
		if (token != null && !token.isEmpty()) {
			headers.put(Metadata.Key.of("authorization", Metadata.ASCII_STRING_MARSHALLER), "Bearer " + token);
		}
		channel = Grpc.newChannelBuilder(address, InsecureChannelCredentials.create()) // TlsChannelCredentials when Foyer has --api-cert
			.intercept(MetadataUtils.newAttachHeadersInterceptor(headers))
			// A network that dies without a word is noticed after 20 s. Foyer takes no pings that come faster than every 5 s.
			.keepAliveTime(10, TimeUnit.SECONDS)
			.keepAliveTimeout(10, TimeUnit.SECONDS)
			.build();
	}

	// A deadline begins when the stub is made, so that each call has a stub of its own; that costs next to nothing.
	EmitServiceGrpc.EmitServiceBlockingStub emits() {
		return EmitServiceGrpc.newBlockingStub(channel).withDeadlineAfter(CALL_SECONDS, TimeUnit.SECONDS);
	}

	SocketServiceGrpc.SocketServiceBlockingStub sockets() {
		return SocketServiceGrpc.newBlockingStub(channel).withDeadlineAfter(CALL_SECONDS, TimeUnit.SECONDS);
	}

	// ---- Attach a handler.

	/** One socket. */
	static final class Person {
		final String user;
		CompletableFuture<Void> last = CompletableFuture.completedFuture(null); // done once the last of its events so far is answered

		Person(Socket socket) {
			user = socket.getUserId();
		}
	}

	/** One stream: it registers, and serves until the stream ends. gRPC calls its methods one at a time. */
	final class Attachment implements ClientResponseObserver<AttachRequest, AttachResponse> {
		/** Done when the stream ended as it should: we have left, or Foyer is going down. */
		final CompletableFuture<Void> ended = new CompletableFuture<>();
		private ClientCallStreamObserver<AttachRequest> stream;
		// By socket id: who is here. Empty each time: Foyer hands over the sockets that it still has.
		private final Map<String, Person> people = new HashMap<>();

		@Override
		public void beforeStart(ClientCallStreamObserver<AttachRequest> stream) {
			this.stream = stream;
		}

		void register() {
			send(AttachRequest.newBuilder().setRegister(Register.newBuilder()
				.addNamespaces(NAMESPACE)
				.setGroup("example") // several processes of one group share the sockets
				.setDecideConnects(true)
				.setMaxInFlight(IN_FLIGHT)));
		}

		/** No new work from now on; when the last event is answered, the stream ends. */
		void leave() {
			send(AttachRequest.newBuilder().setDrain(Drain.getDefaultInstance()));
			CompletableFuture.delayedExecutor(GRACE_SECONDS, TimeUnit.SECONDS).execute(() -> stream.cancel("not answered in time", null));
		}

		/** Foyer gives us no more events than we may have in flight, so what waits to be sent stays small. */
		private void send(AttachRequest.Builder message) {
			synchronized (stream) { // gRPC wants one at a time
				if (!ended.isDone()) stream.onNext(message.build());
			}
		}

		@Override
		public void onNext(AttachResponse heard) {
			switch (heard.getMessageCase()) {
				case REGISTERED -> System.out.println("attached to node " + heard.getRegistered().getNodeId());
				case CONNECT -> send(AttachRequest.newBuilder().setConnectReply(decide(heard.getConnect())));
				case CONNECTED -> {
					var socket = heard.getConnected().getSocket();
					System.out.println(socket.getUserId() + " connected");
					people.put(socket.getId(), new Person(socket));
				}
				case ASSIGNED -> heard.getAssigned().getSocketsList().forEach(socket -> people.put(socket.getId(), new Person(socket)));
				case DISCONNECTED -> {
					var socket = heard.getDisconnected().getSocket();
					System.out.println(socket.getUserId() + " disconnected: " + heard.getDisconnected().getDetail());
					people.remove(socket.getId());
				}
				case EVENT -> {
					// The events of one socket are answered one after another, in their order, and those of different sockets at
					// the same time.
					var person = people.get(heard.getEvent().getSocket().getId()); // Foyer tells of each before its first event
					person.last = person.last.thenRunAsync(() -> reply(heard.getEvent(), person.user), workers);
				}
				default -> {} // of a newer version, or what we did not ask for
			}
		}

		/** Every event gets a reply, also one that wants no acknowledgement: it makes room for the next. */
		private void reply(Event event, String user) {
			Args args;
			try {
				args = Payloads.args(answer(event.getSocket().getId(), user, event.getPayload().getEvent(), Payloads.values(event.getPayload())));
			} catch (RuntimeException e) {
				System.out.println(event.getPayload().getEvent() + ": " + explain(e));
				var text = e instanceof StatusRuntimeException refused ? refused.getStatus().getDescription() : "a fault of the backend";
				args = Payloads.args(List.of(Map.of("error", String.valueOf(text))));
			}
			send(AttachRequest.newBuilder().setEventReply(EventReply.newBuilder().setCallId(event.getCallId()).setArgs(args)));
		}

		@Override
		public void onError(Throwable why) {
			ended.completeExceptionally(why);
		}

		@Override
		public void onCompleted() {
			ended.complete(null);
		}
	}

	// ---- Decide who may connect.

	/** Here a session would be looked up, or a JWT be checked. */
	static final Map<Object, String> USER_OF = Map.of("ann's secret", "ann", "bob's secret", "bob");

	static ConnectReply decide(Connect connect) {
		var reply = ConnectReply.newBuilder().setCallId(connect.getCallId());
		var token = Payloads.fields(connect.getSocket().getHandshake().getAuth()).get("token");
		var user = token == null ? null : USER_OF.get(token);
		if (user == null) {
			System.out.println("turned a client away: no such token");
			var reject = Reject.newBuilder().setMessage("not authorized"); // the browser has the two in its connect_error
			Payloads.fill(reject.getDataBuilder(), Map.of("code", 401, "hint", "log in first"));
			return reply.setReject(reject).build();
		}
		var accept = Accept.newBuilder()
			.addRooms(ROOM) // it is in there before it hears that it is connected
			.setUserId(user);
		Payloads.fill(accept.getDataBuilder(), Map.of("name", user.toUpperCase(Locale.ROOT))); // ours to use; the browser does not see it
		return reply.setAccept(accept).build();
	}

	// ---- Answer events.

	/** Does what an event asks for, and returns the arguments of its acknowledgement. */
	List<?> answer(String sender, String user, String event, List<?> args) {
		var text = args.size() > 0 && args.get(0) instanceof String s ? s : null;
		var file = args.size() > 1 && args.get(1) instanceof byte[] b ? b : null;
		// Browsers send whatever they like: what does not look as it should is an unknown event.
		if (event.equals("greet")) return List.of("hello, " + user);
		if (event.equals("say") && text != null) return say(sender, user, text);
		if (event.equals("ask") && text != null) return ask(sender, text);
		if (event.equals("photo") && text != null && file != null) return photo(sender, text, file);
		if (event.equals("who")) return who();
		if (event.equals("oops")) return oops();
		return List.of(Map.of("error", "no such event"));
	}

	/** The others in the room. Each socket is also alone in a room that has its id as the name. */
	static Target others(String sender) {
		return Target.newBuilder().setNamespace(NAMESPACE).addRooms(ROOM).addExceptRooms(sender).build();
	}

	/** Emits to a room. */
	List<?> say(String sender, String user, String text) {
		var told = emits().emit(EmitRequest.newBuilder()
			.setTarget(others(sender)).setPayload(Payloads.payload("said", user, text)).build());
		return List.of(Map.of("told", told.getMatched()));
	}

	/** Emits to a room, and waits for the acknowledgement of each client. */
	List<?> ask(String sender, String question) {
		var got = emits().emitWithAck(EmitWithAckRequest.newBuilder()
			.setTarget(others(sender)).setPayload(Payloads.payload("question", question))
			.setTimeout(Duration.newBuilder().setSeconds(3)).build());
		var answers = new ArrayList<Object>();
		for (AckOutcome outcome : got.getOutcomesList()) {
			if (!outcome.hasArgs()) continue; // it took too long, or went away: getFailure tells
			var values = Payloads.values(outcome.getArgs());
			answers.add(values.isEmpty() ? null : values.get(0));
		}
		return List.of(Map.of("answers", answers, "silent", got.getOutcomesCount() - answers.size()));
	}

	/** Takes a binary value, and passes it on. */
	List<?> photo(String sender, String name, byte[] file) {
		emits().emit(EmitRequest.newBuilder().setTarget(others(sender)).setPayload(Payloads.payload("photo", name, file)).build());
		return List.of(Map.of("size", file.length, "start", Arrays.copyOf(file, Math.min(4, file.length))));
	}

	/** Lists sockets, page by page. */
	List<?> who() {
		var list = ListSocketsRequest.newBuilder()
			.setTarget(Target.newBuilder().setNamespace(NAMESPACE).addRooms(ROOM))
			.setView(SocketView.SOCKET_VIEW_FULL) // with data
			.setPageSize(100);
		var people = new ArrayList<>();
		do {
			var page = sockets().listSockets(list.build());
			for (var socket : page.getSocketsList()) {
				var name = Payloads.fields(socket.getData()).getOrDefault("name", "");
				people.add(Map.of("user", socket.getUserId(), "rooms", socket.getRoomsList(), "name", name));
			}
			list.setPageToken(page.getNextPageToken());
		} while (!list.getPageToken().isEmpty());
		return List.of(people);
	}

	/** A mistake, to see what an error tells: a room must have a name. */
	List<?> oops() {
		emits().emit(EmitRequest.newBuilder()
			.setTarget(Target.newBuilder().setNamespace(NAMESPACE).addRooms("")).setPayload(Payloads.payload("never")).build());
		return List.of();
	}

	/** What an error says: its code, the reason (a word of ErrorReason, to be tested for), the fields, and the text. */
	static String explain(Throwable error) {
		if (!(error instanceof StatusRuntimeException)) return error.toString(); // not of a call
		var reason = "no reason";
		var fields = new ArrayList<String>();
		var details = StatusProto.fromThrowable(error);
		try {
			for (var detail : details == null ? List.<com.google.protobuf.Any>of() : details.getDetailsList()) {
				if (detail.is(ErrorInfo.class)) reason = detail.unpack(ErrorInfo.class).getReason();
				if (detail.is(BadRequest.class)) {
					detail.unpack(BadRequest.class).getFieldViolationsList().forEach(violation -> fields.add(violation.getField()));
				}
			}
		} catch (InvalidProtocolBufferException e) {
			reason = "unreadable details";
		}
		var status = Status.fromThrowable(error);
		return status.getCode() + ", " + reason + ", fields " + fields + ": " + status.getDescription();
	}

	// ---- Come back when the stream ends, and leave when asked to.

	/** Attaches again and again, with pauses that grow, until stop is done. It throws what no waiting mends. */
	void run(CompletableFuture<Void> stop) throws InterruptedException {
		for (int pause = FIRST_PAUSE_MS;; pause = Math.min(2 * pause, LONGEST_PAUSE_MS)) {
			long began = System.nanoTime();
			var why = "an end without an error";
			channel.resetConnectBackoff(); // the connection has pauses of its own, which grow to two minutes
			var attachment = new Attachment();
			HandlerServiceGrpc.newStub(channel).attach(attachment);
			attachment.register();
			stop.thenRun(attachment::leave);
			try {
				attachment.ended.join();
			} catch (CompletionException e) {
				why = explain(e.getCause());
				var hopeless = switch (Status.fromThrowable(e.getCause()).getCode()) {
					case UNAUTHENTICATED, PERMISSION_DENIED, INVALID_ARGUMENT -> true;
					case UNAVAILABLE -> false; // Foyer is away: when we are to leave, there is nothing to finish
					default -> stop.isDone();
				};
				if (hopeless) throw (StatusRuntimeException) e.getCause();
			}
			if (stop.isDone()) return;
			if (System.nanoTime() - began > TimeUnit.MILLISECONDS.toNanos(LONGEST_PAUSE_MS)) pause = FIRST_PAUSE_MS; // it had worked
			// Not all at the same moment: many backends have lost the same Foyer.
			int wait = ThreadLocalRandom.current().nextInt(pause / 2, pause);
			System.out.println("detached, again in " + wait + " ms: " + why);
			stop.copy().completeOnTimeout(null, wait, TimeUnit.MILLISECONDS).join();
			if (stop.isDone()) return;
		}
	}

	public static void main(String[] args) throws InterruptedException {
		var stop = new CompletableFuture<Void>();
		var code = new CompletableFuture<Integer>();
		Runtime.getRuntime().addShutdownHook(new Thread(() -> {
			stop.complete(null);
			// After a signal the virtual machine's own code would not be 0.
			Runtime.getRuntime().halt(code.completeOnTimeout(1, GRACE_SECONDS + 5, TimeUnit.SECONDS).join());
		}));
		var address = System.getenv("FOYER_API");
		var example = new Main(address == null || address.isEmpty() ? "127.0.0.1:50051" : address, System.getenv("FOYER_TOKEN"));
		try {
			example.run(stop);
			code.complete(0);
		} catch (StatusRuntimeException e) {
			System.err.println(explain(e));
			code.complete(1);
		}
		System.exit(0); // the hook has the last word
	}
}
