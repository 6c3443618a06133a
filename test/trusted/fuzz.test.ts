// Arbitrary bytes at the enclave's door: it always answers with a known frame, never throws, and never says anything secret.

import assert from 'node:assert/strict';
import { test } from 'node:test';
import fc from 'fast-check';
import { decodeError, REPLY_LIMITS } from '../../src/edge/enclave/decode-replies.js';
import { encodeAuthorise, encodeBegin, encodeRelease } from '../../src/edge/enclave/encode-requests.js';
import { vocabularyPermutation } from '../../src/trusted/lock/vocabulary.js';
import { encodeFrame, type Frame, FrameDecoder } from '../../src/trusted/wire/frame.js';
import * as messages from '../../src/trusted/wire/messages.js';
import { Driver, fakeBundle, shape } from './fake-port.js';

/** Error frames are 17 bytes of numbers; other replies must have the size that their request implies. */
function checkReply(request: Frame, reply: Frame): void {
  assert.equal(reply.id, request.id);
  if (reply.type === messages.ERROR_REPLY) {
    assert.equal(reply.body.length, 17);
    decodeError(reply.body);
    return;
  }
  assert.equal(reply.type, request.type | 0x80);
  assert.ok(reply.body.length <= REPLY_LIMITS.get(reply.type)!);
}

test('10,000 arbitrary frames, in every state, are answered and leak nothing', async () => {
  const drivers: Driver[] = [];
  for (const state of ['fresh', 'attested', 'unlocked', 'exhausted'] as const) {
    const driver = new Driver(await fakeBundle());
    if (state !== 'fresh') {
      const grant = await driver.grant({ budgetTokens: state === 'exhausted' ? 1 : 1e9 });
      if (state !== 'attested') driver.expect('unlock', grant);
      if (state === 'exhausted') {
        const session = driver.session();
        driver.authorise(session, [1]);
        driver.release(session, 1);
      }
    }
    drivers.push(driver);
  }
  const secrets = drivers.flatMap(({ bundle: { keys, port } }) => [
    keys.bundleKey,
    keys.lockSeed,
    keys.signingSecret,
    port.sealingKey,
    new Uint8Array(vocabularyPermutation(keys.lockSeed, 'permutation', shape.vocabSize).buffer),
  ]);
  const needles = secrets.map((secret) => Buffer.from(secret).toString('latin1'));
  const type = fc.oneof(fc.integer({ min: 1, max: 13 }), fc.integer({ min: 0, max: 255 }));
  // Small integers in little-endian words make bodies that parse; raw bytes make those that do not.
  const words = fc
    .array(fc.integer({ min: -2, max: 9 }), { maxLength: 24 })
    .map((list) => new Uint8Array(Int32Array.from(list).buffer));
  const body = fc.oneof(words, fc.uint8Array({ maxLength: 96 }));
  const frames = fc.record({ type, id: fc.nat(), body, driver: fc.integer({ min: 0, max: 3 }) });
  await fc.assert(
    fc.asyncProperty(frames, async ({ driver, ...frame }) => {
      // `destroy` would end the run; it has its own tests.
      if (frame.type === messages.REQUEST.destroy) return;
      const reply = await drivers[driver]!.enclave.handle(frame);
      checkReply(frame, reply);
      const text = Buffer.from(reply.body).toString('latin1');
      for (const needle of needles) assert.equal(text.includes(needle), false);
    }),
    { numRuns: 10_000 },
  );
});

test('valid requests, truncated at every byte and with every byte changed, are answered', async () => {
  const driver = new Driver(await fakeBundle());
  const grant = await driver.grant({ budgetTokens: 1e9 });
  for (let at = 0; at < grant.length; at++) {
    assert.equal(typeof driver.call('unlock', grant.slice(0, at)), 'string');
    assert.equal(
      typeof driver.call(
        'unlock',
        grant.map((byte, i) => (i === at ? byte ^ 0x15 : byte)),
      ),
      'string',
    );
  }
  driver.expect('unlock', grant);
  const session = driver.session();
  driver.authorise(session, new Array<number>(200).fill(1));
  const arrays = { lockedIds: Int32Array.of(1, 2), logprobs: Float32Array.of(-1, -1) };
  const bodies: [messages.RequestName, Uint8Array][] = [
    ['begin', encodeBegin({ topK: 2, temperature: 1 })],
    ['authorise', encodeAuthorise({ session, tokenIds: Int32Array.of(1, 2) })],
    ['release', encodeRelease({ session, rows: 1, k: 2, ...arrays })],
    ['end', messages.encodeSession(99)],
  ];
  for (const [request, body] of bodies) {
    for (let at = 0; at < body.length; at++) {
      assert.equal(driver.call(request, body.slice(0, at)), 'malformed');
      driver.call(
        request,
        body.map((byte, i) => (i === at ? byte ^ 0x80 : byte)),
      );
    }
    assert.equal(driver.call(request, Uint8Array.of(...body, 0)), 'malformed');
  }
});

test('10,000 arbitrary byte streams never make the decoder do anything but yield frames or refuse', () => {
  const limits = new Map([[1, 32]]);
  const chunk = fc.oneof(
    fc.uint8Array({ maxLength: 40 }),
    fc.uint8Array({ maxLength: 32 }).map((body) => encodeFrame({ type: 1, id: 7, body })),
  );
  fc.assert(
    fc.property(fc.array(chunk, { maxLength: 6 }), (chunks) => {
      const decoder = new FrameDecoder(limits);
      try {
        for (const bytes of chunks)
          for (const frame of decoder.push(bytes)) assert.ok(frame.type === 1 && frame.body.length <= 32);
      } catch (error) {
        assert.equal((error as { kind?: string }).kind, 'protocol');
      }
    }),
    { numRuns: 10_000 },
  );
});
