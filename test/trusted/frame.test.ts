// Frames: round trip in any chunking, truncation at every byte, oversize and unknown types refused from the header alone.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { encodeFrame, FrameDecoder } from '../../src/trusted/wire/frame.js';

const limits = new Map([
  [1, 64],
  [2, 0],
]);

test('a frame has its documented bytes', () => {
  const bytes = encodeFrame({ type: 1, id: 0x01020304, body: Uint8Array.of(0xaa, 0xbb) });
  assert.deepEqual([...bytes], [7, 0, 0, 0, 1, 4, 3, 2, 1, 0xaa, 0xbb]);
});

test('frames survive any chunking', () => {
  const body = fc.uint8Array({ maxLength: 64 });
  const frame = fc.oneof(
    fc.record({ type: fc.constant(1), id: fc.nat(), body }, { noNullPrototype: true }),
    fc.constant({ type: 2, id: 5, body: new Uint8Array(0) }),
  );
  fc.assert(
    fc.property(
      fc.array(frame, { maxLength: 5 }),
      fc.infiniteStream(fc.integer({ min: 1, max: 20 })),
      (frames, sizes) => {
        const stream = Buffer.concat(frames.map(encodeFrame));
        const decoder = new FrameDecoder(limits);
        const decoded = [];
        for (let at = 0; at < stream.length; ) {
          const size = sizes.next().value;
          decoded.push(...decoder.push(stream.subarray(at, at + size)));
          at += size;
        }
        assert.deepEqual(decoded, frames);
      },
    ),
  );
});

test('a stream cut at any byte yields no frame until the rest is there', () => {
  const bytes = encodeFrame({ type: 1, id: 1, body: new Uint8Array(20) });
  for (let at = 1; at < bytes.length; at++) {
    const decoder = new FrameDecoder(limits);
    assert.deepEqual(decoder.push(bytes.subarray(0, at)), []);
    assert.equal(decoder.push(bytes.subarray(at)).length, 1);
  }
});

test('oversized, undersized and unknown frames are refused before their body arrives', () => {
  const header = (length: number, type: number): Uint8Array => {
    const bytes = new Uint8Array(9);
    new DataView(bytes.buffer).setUint32(0, length, true);
    bytes[4] = type;
    return bytes;
  };
  const push = (bytes: Uint8Array) => () => new FrameDecoder(limits).push(bytes);
  assert.deepEqual(push(header(5 + 64, 1))(), []);
  for (const length of [5 + 65, 2 ** 32 - 1, 4, 0]) {
    assert.throws(push(header(length, 1)), { kind: 'protocol', code: 'frame-size' });
  }
  assert.throws(push(header(6, 2)), { code: 'frame-size' });
  for (const type of [0, 3, 255]) assert.throws(push(header(5, type)), { kind: 'protocol', code: 'frame-type' });
});
