// From values to what Foyer takes, and back, so that nobody writes JSON strings by hand.

// pack makes the arguments of an event or of an acknowledgement: { event: "photo", ...pack("cat.png", bytes) }. A
// Buffer or any typed array among the values, also deep inside, is sent as binary: a placeholder stands for it, the
// bytes travel beside.
export function pack(...values) {
	const attachments = [];
	const walk = (v) => {
		if (ArrayBuffer.isView(v)) {
			return { _placeholder: true, num: attachments.push(Buffer.from(v.buffer, v.byteOffset, v.byteLength)) - 1 };
		}
		if (Array.isArray(v)) return v.map(walk);
		if (v === null || typeof v !== "object" || v.toJSON) return v; // JSON.stringify knows a Date
		return Object.fromEntries(Object.entries(v).map(([key, item]) => [key, walk(item)]));
	};
	return { json: JSON.stringify(values.map(walk)), attachments };
}

// unpack has the values of an event or of an acknowledgement. Foyer always answers with JSON, and has checked it.
export function unpack({ json, attachments }) {
	return JSON.parse(json, (_, v) => (attachments.length > 0 && v?._placeholder === true ? attachments[v.num] : v));
}

// google.protobuf.Struct and Value: the data of a socket, and what a client gives as auth. The loader knows them only
// by their fields.
export const toStruct = (object) => ({ fields: Object.fromEntries(Object.entries(object).map(([key, v]) => [key, toValue(v)])) });

export function toValue(v) {
	if (v === null || v === undefined) return { nullValue: "NULL_VALUE" };
	if (Array.isArray(v)) return { listValue: { values: v.map(toValue) } };
	if (typeof v === "object") return { structValue: toStruct(v) };
	return { [{ boolean: "boolValue", number: "numberValue", string: "stringValue" }[typeof v]]: v };
}

export const fromStruct = (struct) => Object.fromEntries(Object.entries(struct?.fields ?? {}).map(([key, v]) => [key, fromValue(v)]));

function fromValue(v) {
	if (v.kind === "listValue") return v.listValue.values.map(fromValue);
	if (v.kind === "structValue") return fromStruct(v.structValue);
	return v.kind === "nullValue" ? null : v[v.kind];
}
