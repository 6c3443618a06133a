// Controls of the probes: the same enclave program, spoilt on purpose in one way, in this process. Zone: owner.
// A probe that cannot break one of these proves nothing about the real enclave.
import { randomBytes } from 'node:crypto';
import { type AddressInfo, connect, createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { EnclaveClient } from '../edge/enclave/client.js';
import { decodeError, decodeHidden } from '../edge/enclave/decode-replies.js';
import { encodeAuthorise, encodeEmbed, encodeHead } from '../edge/enclave/encode-requests.js';
import { createEnclave, type Enclave } from '../trusted/enclave/enclave.js';
import type { PlatformPort } from '../trusted/enclave/port.js';
import { openNewest, sealRecord } from '../trusted/enclave/record.js';
import { createGrantOpener } from '../trusted/platform/hpke.js';
import { openPort } from '../trusted/platform/open-port.js';
import { startServer } from '../trusted/platform/server.js';
import { openSimulated } from '../trusted/platform/simulated.js';
import { openStateFile } from '../trusted/platform/state-file.js';
import type { Frame } from '../trusted/wire/frame.js';
import { bundleId } from '../trusted/wire/manifest.js';
import {
  decodeAuthorise,
  decodeRelease,
  ERROR_REPLY,
  encodeIds,
  REQUEST,
  replyType,
} from '../trusted/wire/messages.js';
import { decodeEmbed, decodeHead, encodeHidden, NO_CACHE } from '../trusted/wire/part-messages.js';
import { type Launch, openStand, type Stand, type StandOptions } from './stand.js';

/**
 * `counters`: every connection has an enclave of its own, charges are never saved, and no
 * licence asks for leases. `licences`: saved state forgets which licences
 * were used, and the HPKE key outlives the process. `order`: rows are released without tokens authorised before. `parts`: enclave-held
 * parts answer in the open, free of charge. `fragile`: a malformed number inside a request stops it for good.
 * `relay`: the enclave is sound, and the device's relay sends out a message as long as the text has different tokens. `slow-relay`: it
 * holds the receipt back for longer, the more different tokens the text has.
 */
export type Weakness = 'counters' | 'licences' | 'order' | 'parts' | 'fragile' | 'relay' | 'slow-relay';

const MEMORY_BYTES = 1e9;

export async function weakStand(options: StandOptions, weakness: Weakness): Promise<Stand> {
  const opener = await createGrantOpener();
  const launch: Launch = async (stateDir) => {
    const platform = (): { root: Uint8Array; port: PlatformPort } => {
      const adapter = openSimulated(openStateFile(join(stateDir, 'sealed-state.bin')), stateDir);
      const settings = {
        bundleDir: options.bundleDir,
        ownerKey: options.keys.signingKey,
        encryptionKey: opener.encryptionKey,
        memoryBytes: MEMORY_BYTES,
      };
      return { root: adapter.root!, port: openPort(settings, adapter) };
    };
    const { root, port } = platform();
    const id = bundleId(port.bundle.manifest);
    const servers: { close(): unknown }[] = [];
    const clients: EnclaveClient[] = [];
    const serve = async (enclave: Enclave): Promise<string> => {
      const socketPath = join(tmpdir(), `dl-${randomBytes(8).toString('hex')}.sock`);
      servers.push((await startServer(socketPath, { enclave, opener, bundleId: id })).server);
      return socketPath;
    };
    const make = (): Enclave => spoil(createEnclave(forgetful(platform().port, id, weakness)), weakness);
    let shared: string | null = null;
    async function connect(): Promise<{ client: EnclaveClient; socketPath: string }> {
      if (shared === null || weakness === 'counters') shared = await serve(make());
      const client = await EnclaveClient.connect(shared);
      clients.push(client);
      return { client, socketPath: shared };
    }
    async function stop(): Promise<void> {
      for (const client of clients) await client.close();
      for (const server of servers) server.close();
    }
    return { simulatedRoot: root, connect, stop, kill: stop };
  };
  const stand = await openStand(options, launch);
  if (weakness === 'relay' || weakness === 'slow-relay') {
    const afterText = weakness === 'relay' ? leak : delay;
    return { ...stand, another: async () => ({ ...(await stand.another()), afterText }) };
  }
  // Leases are what stops whoever brings counters back: this enclave does without.
  return {
    ...stand,
    license: (enclave, client, terms) => stand.license(enclave, client, { ...terms, leaseTokens: 0 }),
  };
}

/** Tells a listener on this machine, in the size of one message, how many different tokens a text has. */
async function leak(ids: Int32Array): Promise<void> {
  const listener = createServer((socket) => socket.resume());
  await new Promise<void>((resolve) => listener.listen(0, '127.0.0.1', resolve));
  const socket = connect((listener.address() as AddressInfo).port, '127.0.0.1');
  await new Promise<void>((resolve) =>
    socket
      .once('close', () => resolve())
      .end(new Uint8Array(new Set(ids).size))
      .resume(),
  );
  listener.close();
}

const DELAY_MS = 5;

async function delay(ids: Int32Array): Promise<void> {
  await setTimeout(DELAY_MS * new Set(ids).size);
}

function forgetful(port: PlatformPort, id: string, weakness: Weakness): PlatformPort {
  if (weakness !== 'counters' && weakness !== 'licences') return port;
  return {
    ...port,
    saveState: (bytes, version) => {
      const { record } = openNewest([bytes], port.sealingKey, id);
      if (record.kind === 'destroyed') return port.saveState(bytes, version);
      const accounts =
        weakness === 'licences' ? [] : record.accounts.map((account) => ({ ...account, chargedTokens: 0 }));
      try {
        port.saveState(sealRecord({ ...record, accounts }, version, port.sealingKey, id), version);
      } catch {
        // Another one of these enclaves has written the file: what it remembers is no better.
      }
    },
  };
}

function spoil(enclave: Enclave, weakness: Weakness): Enclave {
  let broken = false;
  const failure = ({ id }: Frame, body: Uint8Array): Frame => ({ type: ERROR_REPLY, id, body });
  async function handle(request: Frame): Promise<Frame> {
    const reply = await enclave.handle(request);
    const refusal = reply.type === ERROR_REPLY ? decodeError(reply.body).refusal : null;
    if (weakness === 'order' && request.type === REQUEST.release && refusal === 'release-not-authorised') {
      const { session, rows } = decodeRelease(request.body);
      const body = encodeAuthorise({ session, tokenIds: new Int32Array(rows) });
      await enclave.handle({ type: REQUEST.authorise, id: request.id, body });
      return enclave.handle(request);
    }
    if (weakness === 'order' && request.type === REQUEST.head && refusal !== null) return letInFirst(request);
    if (weakness === 'parts' && request.type === REQUEST.authorise && refusal === 'part-not-held')
      return { type: replyType('authorise'), id: request.id, body: encodeIds(decodeAuthorise(request.body).tokenIds) };
    if (weakness === 'parts' && request.type === REQUEST.embed && refusal === null) {
      const { pass } = decodeHidden(reply.body);
      if (pass === 0) return reply;
      const hidden = new Float32Array(decodeEmbed(request.body).tokenIds.length).fill(1);
      return { ...reply, body: encodeHidden({ pass: 0, hidden }) };
    }
    const numbers = request.type === REQUEST.release || request.type === REQUEST.head;
    if (weakness === 'fragile' && numbers && holdsNaN(request.body)) broken = true;
    return broken ? failure(request, Uint8Array.from([0, ...new Uint8Array(16)])) : reply;
  }
  async function letInFirst(request: Frame): Promise<Frame> {
    const asked = decodeHead(request.body);
    const { session, positions } = asked;
    const tokenIds = new Int32Array(Math.max(1, positions.length));
    const { id } = request;
    await enclave.handle({ type: REQUEST.authorise, id, body: encodeAuthorise({ session, tokenIds }) });
    const entry = encodeEmbed({ session, past: NO_CACHE, lengths: Int32Array.of(tokenIds.length), tokenIds });
    const inside = await enclave.handle({ type: REQUEST.embed, id, body: entry });
    const pass = inside.type === ERROR_REPLY ? asked.pass : decodeHidden(inside.body).pass;
    return enclave.handle({ ...request, body: encodeHead({ ...asked, pass }) });
  }
  return { handle, settle: () => enclave.settle() };
}

function holdsNaN(body: Uint8Array): boolean {
  const view = new DataView(body.buffer, body.byteOffset, body.byteLength);
  for (let at = 0; at + 4 <= body.length; at += 4) if (Number.isNaN(view.getFloat32(at, true))) return true;
  return false;
}
