// Messages in the wrong order, for the wrong session, or not shaped as messages at all: none may be answered. Adversary: tamperer.
// Raw frames over the enclave's socket, beside a client that must keep working.
import { connect } from 'node:net';
import type { Bundle } from '../../edge/bundle.js';
import { encodeBegin, encodeHead, encodeRelease } from '../../edge/enclave/encode-requests.js';
import { Writer } from '../../trusted/wire/codec.js';
import { encodeFrame, type Frame, FrameDecoder } from '../../trusted/wire/frame.js';
import { ERROR_REPLY, REQUEST, type RequestName } from '../../trusted/wire/messages.js';
import type { Probe } from '../probe.js';
import { passAndRelease } from '../spend.js';
import { TOP_K } from '../stand.js';

const EVERY_TYPE = new Map(Array.from({ length: 256 }, (_, type) => [type, 1 << 26]));

/** Sends bytes on a connection of their own; the frames that came back before it closed or fell silent. */
export function exchange(socketPath: string, bytes: Uint8Array, replies = 1): Promise<Frame[]> {
  return new Promise((resolve, reject) => {
    const decoder = new FrameDecoder(EVERY_TYPE);
    const got: Frame[] = [];
    const socket = connect(socketPath, () => socket.write(bytes));
    const finish = (): void => {
      socket.destroy();
      resolve(got);
    };
    socket.setTimeout(10_000, finish);
    socket.on('error', reject).on('end', finish);
    socket.on('data', (chunk: Buffer) => {
      got.push(...decoder.push(chunk));
      if (got.length >= replies) finish();
    });
  });
}

const request = (name: RequestName, body: Uint8Array): Uint8Array => encodeFrame({ type: REQUEST[name], id: 1, body });

/** Asks for one row, whether the head lies outside or inside. */
function rowOf(session: number, { manifest, config }: Bundle): Uint8Array {
  const lockedIds = Int32Array.from({ length: TOP_K }, (_, i) => i);
  const logprobs = new Float32Array(TOP_K).fill(-2);
  if (manifest.plan.head === 'accelerator')
    return request('release', encodeRelease({ session, rows: 1, k: TOP_K, lockedIds, logprobs }));
  const kept = manifest.plan.blocks.at(-1) === 'enclave';
  const rows = kept
    ? { positions: Int32Array.of(0), hidden: new Float32Array(0) }
    : { positions: new Int32Array(0), hidden: new Float32Array(config.hiddenSize) };
  return request('head', encodeHead({ session, pass: kept ? 1 : 0, k: TOP_K, ...rows }));
}

const outOfOrder: Probe = {
  name: 'out-of-order',
  adversary: 'tamperer',
  summary: 'requests before unlock, rows without tokens, foreign and ended sessions, requests after destroy',
  sources: [],
  control: 'order',
  idleReason: () => null,
  run: async (stand) => {
    const enclave = await stand.start();
    const { client, socketPath } = await enclave.connect();
    const { bundle } = stand;
    const answered: string[] = [];
    let tried = 0;
    const expectRefusal = async (label: string, bytes: Uint8Array): Promise<void> => {
      tried += 1;
      const [reply] = await exchange(socketPath, bytes);
      if (reply !== undefined && reply.type !== ERROR_REPLY) answered.push(label);
    };
    const begin = request('begin', encodeBegin({ topK: TOP_K, temperature: 1 }));
    await expectRefusal('begin before unlock', begin);
    await stand.license(enclave, client, {});
    // Sessions are numbered from 1.
    const session = await client.begin({ topK: TOP_K, temperature: 1 });
    await expectRefusal('rows without tokens', rowOf(1, bundle));
    await expectRefusal('foreign session', rowOf(77, bundle));
    await expectRefusal('more than licensed', request('begin', encodeBegin({ topK: TOP_K + 1, temperature: 1 })));
    await expectRefusal('other temperature', request('begin', encodeBegin({ topK: TOP_K, temperature: 3 })));
    await passAndRelease(session, bundle, Int32Array.of(1));
    await expectRefusal('the same row twice', rowOf(1, bundle));
    await session.end();
    await expectRefusal('ended session', rowOf(1, bundle));
    await client.destroy();
    await expectRefusal('begin after destroy', begin);
    await expectRefusal('rows after destroy', rowOf(1, bundle));
    await client.close();
    const list = answered.length === 0 ? 'none' : answered.join(', ');
    return { succeeded: answered.length > 0, detail: `${tried} requests out of order, answered: ${list}` };
  },
};

const brokenFrames: Probe = {
  name: 'broken-frames',
  adversary: 'tamperer',
  summary: 'unknown types, sizes beyond the limit, bodies that lie about their length, NaN where a number belongs',
  sources: [],
  control: 'fragile',
  idleReason: () => null,
  run: async (stand) => {
    const enclave = await stand.start();
    const { client, socketPath } = await enclave.connect();
    await stand.license(enclave, client, {});
    const before = await client.status();
    const nan = new Writer().u32(1).u32(1).u32(1).i32s(Int32Array.of(0)).f32s(Float32Array.of(Number.NaN)).finish();
    const lying = new Writer().u32(1).u32(0xffffffff).finish();
    const huge = new Writer().u32(0xfffffff0).u8(REQUEST.authorise).u32(1).finish();
    const attempts = [
      encodeFrame({ type: 0x55, id: 1, body: new Uint8Array(3) }),
      huge,
      request('release', nan),
      request('authorise', lying),
      request('begin', new Uint8Array(0)),
      request('unlock', new Uint8Array(64).fill(7)),
    ];
    const wrong: string[] = [];
    for (const [i, bytes] of attempts.entries()) {
      const [reply] = await exchange(socketPath, bytes);
      if (reply !== undefined && reply.type !== ERROR_REPLY) wrong.push(`frame ${i} was answered`);
    }
    const after = await client.status().catch(() => null);
    if (JSON.stringify(after) !== JSON.stringify(before)) wrong.push('the enclave stopped or changed its state');
    await client.close();
    const detail = `${attempts.length} broken frames: ${wrong.length === 0 ? 'all refused, nothing changed' : wrong.join(', ')}`;
    return { succeeded: wrong.length > 0, detail };
  },
};

export const frameProbes: readonly Probe[] = [outOfOrder, brokenFrames];
