// Holds what the comment of foyer.v1.Payload says of @grpc/proto-loader: what it takes, and what it loses without an
// error.
'use strict';

const assert = require('node:assert/strict');
const path = require('node:path');
const loader = require('@grpc/proto-loader');

const proto = path.join(__dirname, '../../../proto');
const load = (options) => loader.loadSync(['foyer/v1/emit.proto', 'foyer/v1/socket.proto'], { includeDirs: [proto], ...options });

const api = load({ longs: String, enums: String });
const sent = (method, request) => method.requestDeserialize(method.requestSerialize(request));
const emit = (request) => sent(api['foyer.v1.EmitService'].Emit, request);
const ask = (request) => sent(api['foyer.v1.EmitService'].EmitWithAck, request);
const get = (request) => sent(api['foyer.v1.SocketService'].GetSocket, request);
const update = (request) => sent(api['foyer.v1.SocketService'].UpdateSocket, request);

// Names as in the comments, or with keepCase as in the files; bytes as a Buffer or base64.
const target = { rooms: ['room1'], exceptRooms: ['room2'] };
const bytes = Buffer.from([1, 2]);
assert.deepEqual(emit({ target, payload: { event: 'hi', json: '["there"]', attachments: ['AQI=', bytes] } }), {
  target, payload: { event: 'hi', json: '["there"]', attachments: [bytes, bytes] },
});
const kept = load({ keepCase: true })['foyer.v1.EmitService'].Emit;
assert.deepEqual(sent(kept, { target: { except_rooms: ['room2'] } }), { target: { except_rooms: ['room2'] } });

assert.deepEqual(ask({ timeout: { seconds: 2 } }), { timeout: { seconds: '2' } });
assert.throws(() => ask({ timeout: '2s' }), /timeout: object expected/);

const values = { values: [{ stringValue: 'there' }] };
assert.deepEqual(emit({ payload: { event: 'hi', values } }), { payload: { event: 'hi', values } });
assert.throws(() => emit({ payload: { event: 'hi', values: ['there'] } }), /array expected/);

const data = { fields: { score: { numberValue: 7 } } };
assert.deepEqual(update({ socketId: 's', mergeData: data }), { socketId: 's', mergeData: data });
assert.deepEqual(update({ socketId: 's', mergeData: { score: 7 } }), { socketId: 's', mergeData: {} });

assert.deepEqual(get({ view: 'SOCKET_VIEW_FULL' }), { view: 'SOCKET_VIEW_FULL' });
assert.deepEqual(get({ view: 'FULL' }), {});
