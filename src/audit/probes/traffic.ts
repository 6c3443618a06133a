// Does what leaves the device depend on the private text? Two texts with as many tokens, run after run in turn: sizes, counts and order of
// all outside messages must be the same, and the time between them must not tell the texts apart. Adversary: network (and the owner's
// licence service). The data owner's concern; the control is a relay that leaks.
import { RandomStream } from '../../edge/data/random.js';
import { Accelerator } from '../../edge/teacher/accelerator.js';
import { enclaveGate } from '../../edge/teacher/locked-teacher.js';
import { askRows, forward, type Runner, releaseRows } from '../../edge/teacher/pass.js';
import { type Observation, rankTest, watchSockets } from '../outside-traffic.js';
import type { Outcome, Probe } from '../probe.js';
import { type Stand, TOP_K } from '../stand.js';

const TOKENS = 48;
const RUNS = 5;
/** With five runs of each text, only a complete separation of the times is as unlikely as this by chance (2 of 252 orders). */
const UNLIKELY = 0.01;

export const traffic: Probe = {
  name: 'outside-traffic',
  adversary: 'network',
  summary: 'tell two private texts of the same length apart by what leaves the device',
  sources: ['Mann and Whitney, Ann. Math. Statist. 1947'],
  control: 'relay',
  idleReason: () => null,
  run: async (stand) => {
    const { segments, config } = stand.bundle;
    const accelerator = await Accelerator.open(segments, config, { threads: 1 });
    try {
      return await compare(stand, accelerator);
    } finally {
      await accelerator.close();
    }
  },
};

/** The one text is any, the other says the same thing again and again. */
function texts({ bundle }: Stand): readonly [Int32Array, Int32Array] {
  const random = new RandomStream('audit/traffic', 1);
  const any = Int32Array.from({ length: TOKENS }, () => random.below(bundle.config.vocabSize));
  return [any, new Int32Array(TOKENS).fill(any[0]!)];
}

interface Run {
  readonly seen: readonly Observation[];
  /** From `unlock` to the receipt. */
  readonly seconds: number;
  readonly receiptTokens: number;
}

async function compare(stand: Stand, runner: Runner): Promise<Outcome> {
  const both = texts(stand);
  const runs: [Run[], Run[]] = [[], []];
  // The first of all pays for what later ones find warm.
  await observe(stand, runner, both[0]);
  for (let i = 0; i < RUNS; i += 1)
    for (const which of i % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const))
      runs[which].push(await observe(stand, runner, both[which]));
  const shapes = runs.map((each) => new Set(each.map(({ seen }) => JSON.stringify(seen))));
  const same = new Set([...shapes[0]!, ...shapes[1]!]).size === 1;
  const p = rankTest(
    runs[0].map(({ seconds }) => seconds),
    runs[1].map(({ seconds }) => seconds),
  );
  const { seen, receiptTokens } = runs[0][0]!;
  const sizes = seen.map(({ what, bytesOut, bytesIn }) => `${what} ${bytesOut}/${bytesIn}`).join(', ');
  const detail = `messages (bytes out/in) ${same ? 'the same in all runs' : 'differ'}: ${sizes}; times p = ${p.toFixed(3)}; the receipt names ${receiptTokens} charged tokens, the size of the text`;
  return { succeeded: !same || p < UNLIKELY, detail };
}

/** A whole life of a teacher: evidence, grant, one text with leases, destruction, receipt. */
async function observe(stand: Stand, runner: Runner, ids: Int32Array): Promise<Run> {
  const fresh = await stand.another();
  const sockets = watchSockets();
  try {
    const enclave = await fresh.start();
    const { client } = await enclave.connect();
    await fresh.license(enclave, client, { budgetTokens: 2 * TOKENS, leaseTokens: TOKENS / 2 });
    fresh.coverWithLeases(client);
    const started = performance.now();
    const gate = await enclaveGate(client, { topK: TOP_K, temperature: 1 });
    const hidden = await forward(runner, gate, ids, { batch: 1, tokens: TOKENS, lengths: [TOKENS] });
    const half = TOKENS / 2;
    for (const first of [0, half]) {
      const positions = Int32Array.from({ length: half }, (_, i) => first + i);
      // A kept pass is asked for once.
      if (!(hidden instanceof Float32Array) && first > 0) break;
      await releaseRows(gate, await askRows(runner, hidden, positions, TOP_K, 1));
    }
    const receiptTokens = (await client.status()).licence!.chargedTokens;
    const receipt = await client.destroy();
    const seconds = (performance.now() - started) / 1000;
    await fresh.afterText(ids);
    const ledger = client.ledger.entries.map(({ direction, purpose, bytes }): Observation => {
      return { what: purpose, bytesOut: direction === 'out' ? bytes : 0, bytesIn: direction === 'in' ? bytes : 0 };
    });
    await client.close();
    await enclave.stop();
    const sent = { what: 'receipt', bytesOut: receipt.length, bytesIn: 0 };
    return { seen: [...ledger, sent, ...(await sockets.stop())], seconds, receiptTokens };
  } finally {
    await fresh.close();
    await sockets.stop();
  }
}
