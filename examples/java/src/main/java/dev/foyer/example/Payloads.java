package dev.foyer.example;

import com.google.gson.Gson;
import com.google.gson.GsonBuilder;
import com.google.gson.ToNumberPolicy;
import com.google.protobuf.ByteString;
import com.google.protobuf.InvalidProtocolBufferException;
import com.google.protobuf.Message;
import com.google.protobuf.Struct;
import com.google.protobuf.util.JsonFormat;
import dev.foyer.v1.Args;
import dev.foyer.v1.Payload;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.LinkedHashMap;
import java.util.List;
import java.util.Map;

/** From values to what Foyer takes, and back, so that nobody writes JSON strings by hand. */
final class Payloads {
	private static final Gson GSON = new GsonBuilder().serializeNulls().disableHtmlEscaping()
		.setObjectToNumberStrategy(ToNumberPolicy.LONG_OR_DOUBLE).create();

	/**
	 * An event: {@code payload("photo", "cat.png", bytes)}. A byte[] among the values, inside of lists and maps too, is sent as
	 * binary: a placeholder stands for it, the bytes travel beside.
	 */
	static Payload payload(String event, Object... values) {
		var attachments = new ArrayList<ByteString>();
		var json = GSON.toJson(pack(Arrays.asList(values), attachments));
		return Payload.newBuilder().setEvent(event).setJson(json).addAllAttachments(attachments).build();
	}

	/** The arguments of an acknowledgement. */
	static Args args(List<?> values) {
		var attachments = new ArrayList<ByteString>();
		var json = GSON.toJson(pack(values, attachments));
		return Args.newBuilder().setJson(json).addAllAttachments(attachments).build();
	}

	private static Object pack(Object value, List<ByteString> attachments) {
		if (value instanceof byte[] bytes) {
			attachments.add(ByteString.copyFrom(bytes));
			return Map.of("_placeholder", true, "num", attachments.size() - 1);
		}
		if (value instanceof List<?> list) return list.stream().map(item -> pack(item, attachments)).toList();
		if (!(value instanceof Map<?, ?> map)) return value;
		var out = new LinkedHashMap<Object, Object>();
		map.forEach((key, item) -> out.put(key, pack(item, attachments)));
		return out;
	}

	/** The values of an event; what was sent as binary is a byte[]. Foyer always answers with JSON, and has checked it. */
	static List<?> values(Payload payload) {
		return (List<?>) unpack(GSON.fromJson(payload.getJson(), List.class), payload.getAttachmentsList());
	}

	/** The values of an acknowledgement. */
	static List<?> values(Args args) {
		return (List<?>) unpack(GSON.fromJson(args.getJson(), List.class), args.getAttachmentsList());
	}

	private static Object unpack(Object value, List<ByteString> attachments) {
		if (attachments.isEmpty()) return value;
		if (value instanceof List<?> list) {
			var out = new ArrayList<>(); // toList() of a stream would do as well: it allows null
			list.forEach(item -> out.add(unpack(item, attachments)));
			return out;
		}
		if (!(value instanceof Map<?, ?> map)) return value;
		if (Boolean.TRUE.equals(map.get("_placeholder"))) return attachments.get(((Number) map.get("num")).intValue()).toByteArray();
		var out = new LinkedHashMap<Object, Object>();
		map.forEach((key, item) -> out.put(key, unpack(item, attachments)));
		return out;
	}

	// google.protobuf.Struct and Value: the data of a socket, and what a client gives as auth.

	/** Fills a Struct or a Value: {@code fill(accept.getDataBuilder(), Map.of("name", "ANN"))}. */
	static void fill(Message.Builder builder, Map<String, ?> fields) {
		try {
			JsonFormat.parser().merge(GSON.toJson(fields), builder);
		} catch (InvalidProtocolBufferException e) {
			throw new IllegalArgumentException(e);
		}
	}

	/** The fields of a Struct. */
	@SuppressWarnings("unchecked") // the keys of a JSON object are strings
	static Map<String, Object> fields(Struct struct) {
		try {
			return GSON.fromJson(JsonFormat.printer().print(struct), Map.class);
		} catch (InvalidProtocolBufferException e) {
			throw new IllegalArgumentException(e);
		}
	}

	private Payloads() {}
}
