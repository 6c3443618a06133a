// What integer matrices cost, with and without a lock before them: node dist/tools/quantize.js --json docs/results/quantize.json
// Perplexity on held-out text (assets/text/valid.txt or --text FILE) and KL to the float32 model, for the bundled stories260k and
// SmolLM2-135M-Instruct (tools/fetch-smollm2.sh). int4 is rounded to the nearest value and by GPTQ on assets/text/train.txt (--calibration).
// Every row of a model comes from one process, so from one version of the code; the file is written after every row. With --models the
// others that the file has are kept, with their date.
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { describeMachine } from '../bench/machine.js';
import { findSmolLm2 } from '../bench/workload/smollm2.js';
import { readCalibration } from '../src/cli/calibration-text.js';
import { Accelerator } from '../src/edge/teacher/accelerator.js';
import { segmentsIn } from '../src/edge/teacher/unlocked-model.js';
import type { Checkpoint } from '../src/model/checkpoint/hf-directory.js';
import { openCheckpoint } from '../src/model/checkpoint/open.js';
import { equaliseNeurons } from '../src/model/equalise-neurons.js';
import { readSegmentWeight, writeSegments } from '../src/model/segment-weights.js';
import { buildSegments, type SegmentGraph } from '../src/model/segments.js';
import { openTokenizer } from '../src/model/tokenizer.js';
import { wholeTile } from '../src/model/weight-tiles.js';
import type { SegmentWeight } from '../src/model/weights.js';
import { CalibratedWeights } from '../src/owner/calibrated-weights.js';
import { createScheme } from '../src/owner/scheme/lock-scheme.js';
import { lockWeight } from '../src/owner/scheme/lock-weight.js';
import { vocabularyPermutation } from '../src/trusted/lock/vocabulary.js';
import type { Scheme } from '../src/trusted/wire/manifest.js';

const { values } = parseArgs({
  options: {
    json: { type: 'string' },
    text: { type: 'string', default: 'assets/text/valid.txt' },
    calibration: { type: 'string', default: 'assets/text/train.txt' },
    calibration_tokens: { type: 'string', default: '8192' },
    seeds: { type: 'string', default: '7,8,9' },
    models: { type: 'string', default: 'stories260k,smollm2' },
  },
});
if (!values.json)
  throw new Error(
    'usage: quantize.js --json FILE [--text FILE] [--calibration FILE] [--calibration_tokens N] [--seeds N,N] [--models stories260k,smollm2]',
  );

const tokens = 256;
const [firstSeed, ...otherSeeds] = values.seeds.split(',').map(Number) as [number, ...number[]];
const formats = { float32: 'float32', int8: 'block8', int4: 'block4' } as const;

interface Row {
  readonly matrices: keyof typeof formats;
  readonly lock: 'none' | Scheme;
  /** Whether the neurons' stretches were evened out before rounding, as every lock does. */
  readonly evened: boolean;
  readonly rounding: 'nearest' | 'gptq' | null;
  /** Byte that the lock's seed is made of. */
  readonly seed: number | null;
  readonly perplexity: number;
  /** Nats a token to the unlocked float32 model. */
  readonly kl: number;
  readonly agreement: number;
  readonly megabytes: number;
}

interface Run {
  /** [rows, vocabulary], columns in true ids. */
  readonly logprobs: Float32Array;
  readonly megabytes: number;
}

interface Arm {
  readonly matrices: keyof typeof formats;
  readonly lock: 'none' | Scheme;
  /** Sequences to round on; null: to the nearest value. */
  readonly calibration: readonly Int32Array[] | null;
  readonly seed: number;
  /** Even out the neurons without a lock too. */
  readonly evened?: boolean;
}

async function runModel({ config, tensors }: Checkpoint, ids: Int32Array, arm: Arm): Promise<Run> {
  const { lock, calibration } = arm;
  const { vocabSize } = config;
  const format = formats[arm.matrices];
  const seed = new Uint8Array(32).fill(arm.seed);
  const folder = await mkdtemp(join(tmpdir(), 'distillock-quantize-'));
  try {
    const scheme = lock === 'none' ? null : createScheme(lock, seed, config, { quantised: format !== 'float32' });
    const to =
      lock === 'none'
        ? Int32Array.from({ length: vocabSize }, (_, i) => i)
        : vocabularyPermutation(seed, lock, vocabSize);
    const weightOf = (weight: SegmentWeight): Promise<Float32Array> =>
      scheme === null ? readSegmentWeight(tensors, weight) : lockWeight(scheme, tensors, weight, 0);
    const denseOutputGains = scheme?.foldsGains === true;
    const segments = buildSegments(config, { format, denseOutputGains });
    const every = segments.flatMap((segment) => segment.weights);
    const equalised = isEvened(arm) ? equaliseNeurons(every, weightOf) : weightOf;
    if (calibration === null || format === 'float32') await writeSegments(folder, segments, equalised);
    else {
      const calibrated = new CalibratedWeights({
        config,
        spans: segments.map(({ span }) => span),
        bits: format === 'block4' ? 4 : 8,
        denseOutputGains,
        sequences: calibration,
        weightOf: equalised,
        embeddingTiles: async function* (weight) {
          yield wholeTile(weight, await weightOf(weight));
        },
        rowOf: (token) => to[token]!,
        exitChange: async () => null,
      });
      const stored = (weight: SegmentWeight, { span }: SegmentGraph) =>
        weight.format === format ? calibrated.tensorsOf(weight, span) : equalised(weight);
      await writeSegments(folder, segments, stored);
      await calibrated.close();
    }
    const sizes = await Promise.all(
      ['00.data', '01.data'].map(async (name) => (await readFile(join(folder, name))).length),
    );
    const accelerator = await Accelerator.open(segmentsIn(folder, 2), config);
    const batch = ids.length / tokens;
    const lengths = Array<number>(batch).fill(tokens);
    const hidden = await accelerator.run(
      0,
      ids.map((id) => to[id]!),
      { batch, tokens, lengths },
    );
    const top = await accelerator.topK(hidden, ids.length, vocabSize, 1);
    await accelerator.close();
    const trueId = new Int32Array(vocabSize);
    to.forEach((locked, id) => {
      trueId[locked] = id;
    });
    const logprobs = new Float32Array(top.logprobs.length);
    top.ids.forEach((id, i) => {
      logprobs[i - (i % vocabSize) + trueId[id]!] = top.logprobs[i]!;
    });
    return { logprobs, megabytes: sizes.reduce((a, b) => a + b, 0) / 1e6 };
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

function isEvened({ matrices, lock, evened = false }: Arm): boolean {
  return matrices !== 'float32' && (lock !== 'none' || evened);
}

function compare(
  teacher: Float32Array,
  run: Float32Array,
  ids: Int32Array,
): Pick<Row, 'perplexity' | 'kl' | 'agreement'> {
  const size = run.length / ids.length;
  let [nll, targets, kl, agreed] = [0, 0, 0, 0];
  for (let row = 0; row < ids.length; row += 1) {
    const at = row * size;
    let [best, chosen] = [at, at];
    for (let i = at; i < at + size; i += 1) {
      kl += Math.exp(teacher[i]!) * (teacher[i]! - run[i]!);
      if (teacher[i]! > teacher[best]!) best = i;
      if (run[i]! > run[chosen]!) chosen = i;
    }
    if (best === chosen) agreed += 1;
    if ((row + 1) % tokens === 0) continue;
    nll -= run[at + ids[row + 1]!]!;
    targets += 1;
  }
  return { perplexity: Math.exp(nll / targets), kl: kl / ids.length, agreement: agreed / ids.length };
}

async function measure(name: string, source: string, sequences: number): Promise<void> {
  const checkpoint = await openCheckpoint(source);
  const tokenizer = await openTokenizer(checkpoint.tokenizer);
  const ids = tokenizer.encode(await readFile(values.text, 'utf8')).slice(0, sequences * tokens);
  const calibration = await readCalibration(
    values.calibration,
    checkpoint.tokenizer,
    checkpoint.config,
    Number(values.calibration_tokens),
  );
  const seed = firstSeed;
  const unchanged: Arm = { matrices: 'float32', lock: 'none', calibration: null, seed };
  const plain = await runModel(checkpoint, ids, unchanged);
  const rows: Row[] = [];
  models.push({
    model: name,
    date: new Date().toISOString(),
    tokens: ids.length,
    calibration_tokens: calibration.length * calibration[0]!.length,
    rows,
  });
  const add = async (arm: Arm): Promise<void> => {
    const { matrices, lock } = arm;
    const rounding = matrices === 'float32' ? null : arm.calibration === null ? 'nearest' : 'gptq';
    const run = arm === unchanged ? plain : await runModel(checkpoint, ids, arm);
    const seed = lock === 'none' ? null : arm.seed;
    rows.push({
      matrices,
      lock,
      evened: isEvened(arm),
      rounding,
      seed,
      ...compare(plain.logprobs, run.logprobs, ids),
      megabytes: run.megabytes,
    });
    process.stderr.write(`${name} ${JSON.stringify(rows.at(-1))}\n`);
    await save();
  };
  const locks = ['none', 'rotation', 'permutation'] as const;
  await add(unchanged);
  for (const lock of locks) await add({ matrices: 'int4', lock, calibration, seed });
  await add({ matrices: 'int4', lock: 'none', calibration, seed, evened: true });
  for (const matrices of ['int4', 'int8'] as const)
    for (const lock of locks) await add({ matrices, lock, calibration: null, seed });
  for (const other of otherSeeds) await add({ matrices: 'int4', lock: 'rotation', calibration, seed: other });
  await checkpoint.tensors.close();
}

interface Measured {
  readonly model: string;
  /** When its first row was begun. */
  readonly date: string;
  readonly tokens: number;
  readonly calibration_tokens: number;
  readonly rows: Row[];
}

const sources: Readonly<Record<string, () => Promise<void>>> = {
  stories260k: () => measure('stories260k', 'assets/stories260k', 32),
  smollm2: () => measure('SmolLM2-135M-Instruct (from Q4_1)', findSmolLm2(), 4),
};
const wanted = values.models.split(',');
const unknown = wanted.filter((name) => !(name in sources));
if (unknown.length > 0) throw new Error(`no model ${unknown.join(', ')}: choose of ${Object.keys(sources).join(', ')}`);

const models: Measured[] = [];
const kept = wanted.length === Object.keys(sources).length ? [] : await readKept(values.json);

async function readKept(file: string): Promise<readonly Measured[]> {
  const text = await readFile(file, 'utf8').catch(() => '{"models":[]}');
  return (JSON.parse(text) as { readonly models: readonly Measured[] }).models;
}

async function save(): Promise<void> {
  const others = kept.filter(({ model }) => models.every((own) => own.model !== model));
  const record = { date: new Date().toISOString(), machine: describeMachine(), models: [...models, ...others] };
  await writeFile(values.json!, `${JSON.stringify(record, null, 2)}\n`);
}

for (const name of wanted) await sources[name]!();
