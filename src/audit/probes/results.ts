// A malicious accelerator: what crafted inputs to enclave-held parts and crafted results of its own reveal, and what they cost it.
// Adversary: tamperer. Nothing here needs a clone; what one makes of the answers is measured by `chosen-inputs`.

import type { Bundle } from '../../edge/bundle.js';
import { RandomStream } from '../../edge/data/random.js';
import type { EnclaveClient, EnclaveSession } from '../../edge/enclave/client.js';
import { DistillockError } from '../../trusted/wire/errors.js';
import type { Probe } from '../probe.js';
import { enter, type Fill, layoutOf, passAndRelease } from '../spend.js';
import { TOP_K } from '../stand.js';

async function begin(client: EnclaveClient): Promise<EnclaveSession> {
  return client.begin({ topK: TOP_K, temperature: 1 });
}

async function charged(client: EnclaveClient): Promise<number> {
  return (await client.status()).licence!.chargedTokens;
}

const vocabularyMap: Probe = {
  name: 'vocabulary-map',
  adversary: 'tamperer',
  summary: 'ask for every token once: does the enclave give the vocabulary permutation away, and for how many rows?',
  sources: [],
  control: 'parts',
  idleReason: () => null,
  run: async (stand) => {
    const enclave = await stand.start();
    const { client } = await enclave.connect();
    await stand.license(enclave, client, {});
    const { vocabSize } = stand.bundle.config;
    let named = 0;
    try {
      const locked = await (await begin(client)).authorise(Int32Array.from({ length: vocabSize }, (_, id) => id));
      named = new Set(locked).size;
    } catch (error) {
      if (!(error instanceof DistillockError)) throw error;
    }
    const cost = await charged(client);
    await client.close();
    return { succeeded: named === vocabSize, detail: `${named} of ${vocabSize} locked ids named for ${cost} rows` };
  },
};

const ROUNDS = 4;
const TOKENS = 64;

/** Hidden states that enclave-held parts give for `tokens` tokens, without asking for a row. */
async function answersOf(session: EnclaveSession, bundle: Bundle, tokens: number): Promise<number> {
  const { segments, config } = bundle;
  let answers = 0;
  const count = (passed: unknown): void => {
    if (passed instanceof Float32Array) answers += tokens;
  };
  count(await enter(session, bundle, new Int32Array(tokens).fill(1)));
  for (let segment = 1; segment < segments.length - 1; segment += 1) {
    if (segments[segment]!.place !== 'enclave') continue;
    const basis = new Float32Array(tokens * config.hiddenSize);
    for (let row = 0; row < tokens; row += 1) basis[row * config.hiddenSize + (row % config.hiddenSize)] = 1;
    count(await session.block(segment, basis, layoutOf(tokens)));
  }
  return answers;
}

const freeAnswers: Probe = {
  name: 'free-answers',
  adversary: 'tamperer',
  summary: 'pass chosen tokens and basis vectors through enclave-held parts without ever asking for a row',
  sources: [],
  control: 'parts',
  idleReason: ({ bundle }) =>
    bundle.segments.slice(0, -1).some(({ place }) => place === 'enclave') ? null : 'no body part lies inside',
  run: async (stand) => {
    const enclave = await stand.start();
    const { client } = await enclave.connect();
    await stand.license(enclave, client, {});
    let answers = 0;
    for (let round = 0; round < ROUNDS; round += 1)
      answers += await answersOf(await begin(client), stand.bundle, TOKENS);
    const cost = await charged(client);
    await client.close();
    const detail = `${answers} hidden states of enclave-held parts for ${cost} charged rows`;
    return { succeeded: answers > cost, detail };
  },
};

const PLAUSIBLE = 0.1;
const FLIPS = 8;

/** Zeros, enormous values, NaN and infinities, and plausible values of which every third has one bit flipped. */
function craftedResults(): Fill[] {
  const random = new RandomStream('audit/flips', 1);
  const bits = new DataView(new ArrayBuffer(4));
  const flips = Array.from({ length: FLIPS }, (): Fill => {
    const bit = random.below(32);
    return (i) => {
      bits.setFloat32(0, i % 2 === 0 ? -PLAUSIBLE : -PLAUSIBLE * 20);
      if (i % 3 === 0) bits.setUint32(0, bits.getUint32(0) ^ (1 << bit));
      return bits.getFloat32(0);
    };
  });
  return [() => 0, () => 3e38, () => Number.NaN, () => Number.NEGATIVE_INFINITY, ...flips];
}

async function answerWith(client: EnclaveClient, bundle: Bundle, ids: Int32Array, fill: Fill): Promise<void> {
  const session = await begin(client);
  if (bundle.manifest.plan.head === 'enclave') {
    await passAndRelease(session, bundle, ids, fill);
    return;
  }
  await enter(session, bundle, ids);
  const lockedIds = Int32Array.from({ length: TOP_K }, (_, i) => i);
  const logprobs = Float32Array.from({ length: TOP_K }, (_, i) => fill(i));
  await session.release({ rows: 1, k: TOP_K, lockedIds, logprobs });
}

const corruptedResults: Probe = {
  name: 'corrupted-results',
  adversary: 'tamperer',
  summary:
    'zeros, NaN, infinities and flipped bits as results: do they stop the enclave or change what other sessions get?',
  sources: [],
  control: 'fragile',
  idleReason: ({ bundle }) =>
    bundle.segments.every(({ place }) => place === 'enclave') ? 'no result comes from outside the enclave' : null,
  run: async (stand) => {
    const enclave = await stand.start();
    const { client } = await enclave.connect();
    await stand.license(enclave, client, { budgetTokens: 1000 });
    const ids = Int32Array.of(1, 2, 3);
    const honest = async (): Promise<string> => {
      const { tokenIds, logprobs } = await passAndRelease(await begin(client), stand.bundle, ids);
      return JSON.stringify([[...tokenIds], [...logprobs]]);
    };
    const before = await honest();
    let refused = 0;
    const crafted = craftedResults();
    for (const fill of crafted)
      await answerWith(client, stand.bundle, ids, fill).catch((error: unknown) => {
        if (!(error instanceof DistillockError)) throw error;
        refused += 1;
      });
    const after = await honest().catch(() => null);
    await client.close();
    const effect = after === before ? 'other sessions unchanged' : 'another session changed or failed';
    return {
      succeeded: after !== before,
      detail: `${crafted.length} crafted results, ${refused} refused: ${effect}`,
    };
  },
};

const replayedSession: Probe = {
  name: 'replayed-session',
  adversary: 'chooser',
  summary:
    'say the same again in a new session: is it free, or answered differently so that differences tell something?',
  sources: [],
  control: 'counters',
  idleReason: () => null,
  run: async (stand) => {
    const enclave = await stand.start();
    const { client } = await enclave.connect();
    await stand.license(enclave, client, { budgetTokens: 1000 });
    const ids = Int32Array.of(1, 2, 2, 3);
    const answers: string[] = [];
    for (let time = 0; time < ROUNDS; time += 1) {
      const { client: fresh } = await enclave.connect();
      const session = await begin(fresh);
      const { tokenIds, logprobs } = await passAndRelease(session, stand.bundle, ids);
      answers.push(JSON.stringify([[...tokenIds], [...logprobs]]));
      await session.end();
      await fresh.close();
    }
    await client.close();
    const { client: asking } = await enclave.connect();
    const cost = await charged(asking);
    await asking.close();
    const kinds = new Set(answers).size;
    const rows = ROUNDS * ids.length;
    const detail = `${rows} rows of one text, said ${ROUNDS} times, for ${cost} charged rows; ${kinds === 1 ? 'all answers alike' : `${kinds} different answers`}`;
    return { succeeded: cost < rows || kinds > 1, detail };
  },
};

export const resultProbes: readonly Probe[] = [vocabularyMap, freeAnswers, corruptedResults, replayedSession];
