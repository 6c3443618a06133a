// Does what leaves the device depend on the private text? Two texts with as many tokens, run after run in turn: sizes, counts and order of
// all outside messages must be the same, and the time between them must not tell the texts apart. Adversary: network (and the owner's
// licence service). The data owner's concern; the controls are a relay that leaks in a size, and one that leaks in a delay.
import { RandomStream } from '../../edge/data/random.js';
import { Accelerator } from '../../edge/teacher/accelerator.js';
import { enclaveGate } from '../../edge/teacher/locked-teacher.js';
import { askRows, forward, type Runner, releaseRows } from '../../edge/teacher/pass.js';
import { type Observation, rankTest, watchSockets } from '../outside-traffic.js';
import type { Outcome, Probe } from '../probe.js';
import { type Stand, TOP_K } from '../stand.js';

const TOKENS = 48;
/** The one or the other interval lies apart by chance less often than this. */
const UNLIKELY = 0.01;
/** Of each text. Complete separation of two sevens has p = 2/3432, so that up to 17 intervals can be looked at. */
const RUNS = { sizes: 3, times: 7 };

/** What is compared: what an observer reads off at once, or what clocks tell. */
type Aspect = 'sizes' | 'times';

function trafficProbe(aspect: Aspect): Probe {
  return {
    name: aspect === 'sizes' ? 'outside-traffic' : 'outside-timing',
    adversary: 'network',
    summary:
      aspect === 'sizes'
        ? 'tell two private texts of the same length apart by what leaves the device: sizes, counts, order'
        : 'tell two private texts of the same length apart by when messages leave the device',
    sources: aspect === 'sizes' ? [] : ['Mann and Whitney, Ann. Math. Statist. 1947'],
    control: aspect === 'sizes' ? 'relay' : 'slow-relay',
    idleReason: () => null,
    run: async (stand) => {
      const { segments, config } = stand.bundle;
      const accelerator = await Accelerator.open(segments, config, { threads: 1 });
      try {
        return await compare(stand, accelerator, aspect);
      } finally {
        await accelerator.close();
      }
    },
  };
}

export const trafficProbes: readonly Probe[] = [trafficProbe('sizes'), trafficProbe('times')];

/** The one text is any, the other says the same thing again and again. */
function texts({ bundle }: Stand): readonly [Int32Array, Int32Array] {
  const random = new RandomStream('audit/traffic', 1);
  const any = Int32Array.from({ length: TOKENS }, () => random.below(bundle.config.vocabSize));
  return [any, new Int32Array(TOKENS).fill(any[0]!)];
}

interface Run {
  readonly seen: readonly Observation[];
  /** Between neighbouring messages, from `unlock` to the receipt, and in all. */
  readonly seconds: readonly number[];
  readonly receiptTokens: number;
}

async function compare(stand: Stand, runner: Runner, aspect: Aspect): Promise<Outcome> {
  const both = texts(stand);
  const runs: [Run[], Run[]] = [[], []];
  // The first of all pays for what later ones find warm.
  await observe(stand, runner, both[0]);
  for (let i = 0; i < RUNS[aspect]; i += 1)
    for (const which of i % 2 === 0 ? ([0, 1] as const) : ([1, 0] as const))
      runs[which].push(await observe(stand, runner, both[which]));
  return aspect === 'sizes' ? compareSizes(runs) : compareTimes(runs);
}

function compareSizes(runs: readonly [Run[], Run[]]): Outcome {
  const shapes = new Set(runs.flat().map(({ seen }) => JSON.stringify(seen)));
  const same = shapes.size === 1;
  const { seen, receiptTokens } = runs[0][0]!;
  const sizes = seen.map(({ what, bytesOut, bytesIn }) => `${what} ${bytesOut}/${bytesIn}`).join(', ');
  const detail = `messages (bytes out/in) ${same ? 'the same in all runs' : 'differ'}: ${sizes}; the receipt names ${receiptTokens} charged tokens, the size of the text`;
  return { succeeded: !same, detail };
}

/** The interval that tells the texts apart best, corrected (Bonferroni) for having chosen it. */
function compareTimes(runs: readonly [Run[], Run[]]): Outcome {
  const intervals = Math.min(...runs.flat().map(({ seconds }) => seconds.length));
  const ps = Array.from({ length: intervals }, (_, i) =>
    rankTest(
      runs[0].map(({ seconds }) => seconds[i]!),
      runs[1].map(({ seconds }) => seconds[i]!),
    ),
  );
  const p = Math.min(1, Math.min(...ps) * intervals);
  const detail = `${intervals} intervals between outside messages over ${RUNS.times} runs of each text: the clearest has p = ${p.toFixed(3)}`;
  return { succeeded: p < UNLIKELY, detail };
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
    const clock = [performance.now()];
    const tick = (): void => void clock.push(performance.now());
    const fetchLease = client.fetchLease!;
    client.fetchLease = async (request) => {
      tick();
      const lease = await fetchLease(request);
      tick();
      return lease;
    };
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
    await fresh.afterText(ids);
    tick();
    const seconds = [clock.at(-1)! - clock[0]!, ...clock.slice(1).map((at, i) => at - clock[i]!)].map(
      (ms) => ms / 1000,
    );
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
