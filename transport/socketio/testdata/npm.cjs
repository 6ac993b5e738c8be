// Writes npm.jsonl, one packet a line, by the official parsers: cd e2e && node ../transport/socketio/testdata/npm.cjs
//   json     what socket.io-parser makes of the packet: a text, then its attachments in hex
//   msgpack  what socket.io-msgpack-parser makes of it, in hex
//   again    what socket.io-msgpack-parser makes of the packet after it went over socket.io-parser, keys in the server's order
//   packet   type, nsp, id; payload and attachments as they are after both parsers
const fs = require("fs");
const path = require("path");
const modules = path.join(__dirname, "../../../e2e/node_modules/");
const json = require(modules + "socket.io-parser");
const msgpack = require(modules + "socket.io-msgpack-parser");

let seed = 20;
const rnd = (n) => {
  seed = (Math.imul(seed, 1103515245) + 12345) >>> 0;
  return ((seed >>> 8) * n) >>> 24;
};
const pick = (list) => list[rnd(list.length)];
const words = ["", "a", "hey", "_placeholder", "num", "日本語", "😀 and é", 'q"\\/', "\n\t\b\f\r\0\x1f\x7f", "\u2028", "x".repeat(31), "x".repeat(32), "é".repeat(150), "z".repeat(300)];
const ints = [0, 1, 127, 128, 255, 256, 65535, 65536, 4294967295, 4294967296, 9007199254740991, -1, -32, -33, -128, -129, -32768, -32769, -2147483648, -2147483649, -9007199254740991];
const floats = [0.5, -0.5, 0.1, 1e-7, 1.5e-6, 1e-6, 123456.789, 5e-324, 1.7976931348623157e308, 2.5e-10, -0, NaN, Infinity, -Infinity, 3.0000000000000004];
const bytes = (n) => Buffer.from(Array.from({ length: n }, () => rnd(256)));
const array = (b) => b.buffer.slice(b.byteOffset, b.byteOffset + b.length);

let binaries = 0;
function value(depth) {
  switch (rnd(depth > 0 ? 14 : 10)) {
    case 0: return null;
    case 1: return pick([true, false]);
    case 2: case 3: return pick(ints);
    case 4: return pick(floats);
    case 5: return rnd(1 << 20) / 1000;
    case 6: return pick(words.slice(0, -1));
    case 7: return pick([undefined, new Date(1700000000123), new Date(-1), new Date(0), new Date(8.64e15), new Date(-62198755200000)]);
    case 8: case 9:
      if (binaries++ >= 10) return "no more";
      return pick([bytes(0), bytes(3), array(bytes(5)), bytes(300), new Uint8Array(array(bytes(2))), array(bytes(260))]);
    case 10: case 11: return Array.from({ length: rnd(5) }, () => value(depth - 1));
    default: {
      const o = {};
      for (let n = rnd(pick([3, 5, 20])); n > 0; n--) o[pick(words) .slice(0, 40)+ (rnd(2) ? rnd(30) : "")] = value(depth - 1);
      // A literal placeholder cannot be told from one that the parser made.
      delete o._placeholder;
      return o;
    }
  }
}

const out = [];
function add(packet) {
  const packed = new msgpack.Encoder().encode(packet)[0];
  let decoded;
  const md = new msgpack.Decoder();
  md.on("decoded", (p) => (decoded = p));
  md.add(packed);
  if (decoded.id === undefined) delete decoded.id;
  if (decoded.data === undefined) delete decoded.data;
  const parts = new json.Encoder().encode(decoded);
  let again;
  const jd = new json.Decoder();
  jd.on("decoded", (p) => (again = p));
  const payload = parts[0].slice(parts[0].search(/[[{]|$/));
  const attachments = parts.slice(1).map((b) => Buffer.from(b));
  jd.add(parts[0]);
  attachments.forEach((b) => jd.add(b));
  const { type, nsp, id, data } = again;
  const order = { 3: { id, type, data, nsp }, 4: { type, nsp, data } }[type] || { type, data, id, nsp };
  for (const k in order) if (order[k] === undefined) delete order[k];
  const repacked = new msgpack.Encoder().encode(order)[0];
  out.push({
    json: [parts[0], ...attachments.map((b) => b.toString("hex"))],
    msgpack: packed.toString("hex"),
    again: repacked.toString("hex"),
    packet: { type, nsp, id, payload: data === undefined ? undefined : payload, attachments: attachments.map((b) => b.toString("hex")) },
  });
}

add({ type: 0, data: undefined, nsp: "/" });
add({ type: 0, data: { token: "123", n: 1 }, nsp: "/admin" });
add({ type: 1, nsp: "/" });
add({ type: 1, nsp: "/admin" });
add({ type: 2, data: ["hi", "x"], options: { compress: true }, id: 0, nsp: "/" });
add({ type: 2, data: [7, words[words.length - 1]], nsp: "/" });
add({ type: 2, data: ["wide", Array.from({ length: 300 }, () => 1)], nsp: "/" });
add({ type: 2, data: ["wide", Object.fromEntries(Array.from({ length: 20 }, (_, i) => ["k" + i, i]))], nsp: "/" });
add({ type: 3, data: [], id: 12, nsp: "/admin" });
add({ type: 3, data: [undefined], id: 4294967296, nsp: "/admin" });
add({ type: 3, data: ["x", Buffer.from([1, 2])], id: 7, nsp: "/" });
for (let i = 0; i < 200; i++) {
  binaries = 0;
  const packet = { type: pick([2, 2, 3]), data: [pick(["hey", "q\"", "日本", 5]), ...Array.from({ length: rnd(4) }, () => value(4))], nsp: pick(["/", "/", "/admin", "/日?x=1"]) };
  if (packet.type === 3 || rnd(2)) packet.id = pick(ints.filter((n) => n >= 0));
  add(packet);
}
fs.writeFileSync(path.join(__dirname, "npm.jsonl"), out.map((o) => JSON.stringify(o)).join("\n") + "\n");
