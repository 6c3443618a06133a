// Every family in every placement, against the log-probabilities of transformers (tools/reference/families.py); enclave-held parts run
// by the enclave's own code in this process.
import assert from 'node:assert/strict';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type TestContext, test } from 'node:test';
import { openOwnerModel } from '../../src/cli/owner-model.js';
import { openBundle } from '../../src/edge/bundle.js';
import { expectedTensors } from '../../src/model/checkpoint/expected-tensors.js';
import { readConfig } from '../../src/model/checkpoint/hf-directory.js';
import { openSafetensors } from '../../src/model/checkpoint/safetensors.js';
import { families, familyOf } from '../../src/model/families/index.js';
import { shieldedPlan, uniformPlan } from '../../src/model/spans.js';
import { type LockOptions, lockModel } from '../../src/owner/lock-checkpoint.js';
import { type BlockCache, EnclaveParts } from '../../src/trusted/enclave/parts.js';
import { loadGraph } from '../../src/trusted/platform/runtime.js';
import type { Plan } from '../../src/trusted/wire/manifest.js';
import { readJson } from '../model/fixtures.js';
import { temporaryFolder } from '../owner/tiny-model.js';

interface Reference {
  readonly ids: number[][];
  readonly logits: Readonly<Record<string, number[][]>>;
}

/** Of quantised locks: their distance from float32 varies with the secrets. */
const seed = new Uint8Array(32).fill(5);

const blocks = 2;
const plans: Readonly<Record<string, Plan>> = {
  accelerator: uniformPlan(blocks, 'accelerator'),
  'shielded: embedding, 1, head': shieldedPlan(blocks, ['embedding', '1', 'head']),
  'shielded: 0': shieldedPlan(blocks, ['0']),
  enclave: uniformPlan(blocks, 'enclave'),
};

/**
 * `largest`: nats, mean over the reference's positions; to its other text they are 2 and more. In random models errors of one block
 * grow in the next, with or without a lock.
 */
const quantised = [
  { quantize: 'int8', inside: [], largest: 0.02 },
  { quantize: 'int4', inside: ['0'], largest: 0.2 },
  { quantize: 'int4', inside: [], largest: 1.5 },
] as const;

async function lockFamily(t: TestContext, family: string, options: Omit<LockOptions, 'checkpoint' | 'outDir'>) {
  const source = join('test', 'fixtures', 'families', family);
  const reference = await readJson<Reference>(join(source, 'reference.json'));
  const config = await readConfig(join(source, 'config.json'));
  const stored = await openSafetensors(join(source, 'model.safetensors'));
  const tensors = familyOf(config.modelType, source).importTensors?.(stored, config) ?? stored;
  const outDir = join(await temporaryFolder(t), 'model.lock');
  const tokenizer = { 'tokenizer.json': new TextEncoder().encode('{"version":"1.0"}') };
  const { keys } = await lockModel({ checkpoint: { config, tensors, tokenizer }, outDir, ...options });
  await tensors.close();
  return { reference, config, keys, bundle: await openBundle(outDir, { ownerKey: keys.signingKey }) };
}

function logSoftmax(logits: readonly number[]): number[] {
  const top = Math.max(...logits);
  const normaliser = top + Math.log(logits.reduce((sum, z) => sum + Math.exp(z - top), 0));
  return logits.map((z) => z - normaliser);
}

function assertNear(
  found: (token: number) => number,
  logits: readonly number[],
  tolerance: number,
  what: string,
): void {
  logSoftmax(logits).forEach((expected, token) => {
    const difference = Math.abs(found(token) - expected);
    assert.ok(difference <= tolerance, `${what}, token ${token}: ${found(token)}, transformers ${expected}`);
  });
}

/** Nats of the reference over what was found. */
function divergence(found: Float32Array, logits: readonly number[]): number {
  return logSoftmax(logits).reduce((sum, expected, i) => sum + Math.exp(expected) * (expected - found[i]!), 0);
}

for (const { modelType: family } of families) {
  for (const [name, plan] of Object.entries(plans)) {
    for (const scheme of ['rotation', 'permutation'] as const) {
      if (scheme === 'permutation' && family !== 'gemma3_text' && family !== 'gpt2') continue;
      test(`${family}, ${name}, ${scheme}: log-probabilities of transformers`, async (t) => {
        const { reference, bundle, keys, config } = await lockFamily(t, family, { plan, scheme });
        const { logProbabilities, close } = await openOwnerModel(bundle, keys);
        for (const [row, ids] of reference.ids.entries()) {
          const found = await logProbabilities(Int32Array.from(ids));
          for (const [position, logits] of Object.entries(reference.logits)) {
            const at = Number(position) * config.vocabSize;
            assertNear((token) => found[at + token]!, logits[row]!, 1e-3, `row ${row}, position ${position}`);
          }
        }
        await close();
      });
    }
  }

  test(`${family}: an int8 enclave runs`, async (t) => {
    const { reference, bundle, keys, config } = await lockFamily(t, family, {
      plan: plans.enclave!,
      precision: 'int8',
    });
    const { logProbabilities, close } = await openOwnerModel(bundle, keys);
    const found = await logProbabilities(Int32Array.from(reference.ids[0]!));
    for (const [position, logits] of Object.entries(reference.logits)) {
      const row = found.subarray(Number(position) * config.vocabSize, (Number(position) + 1) * config.vocabSize);
      const kl = divergence(row, logits[0]!);
      assert.ok(kl > 0 && kl < 0.05, `position ${position}: ${kl} nats`);
    }
    await close();
  });

  for (const { quantize, inside, largest } of quantised) {
    test(`${family}, ${quantize} matrices, in the enclave: ${inside.join(', ') || 'nothing'}`, async (t) => {
      const options = { plan: shieldedPlan(blocks, inside), quantize, seed };
      const { reference, bundle, keys, config } = await lockFamily(t, family, options);
      const { logProbabilities, close } = await openOwnerModel(bundle, keys);
      const distances: number[] = [];
      for (const [row, ids] of reference.ids.entries()) {
        const found = await logProbabilities(Int32Array.from(ids));
        for (const [position, logits] of Object.entries(reference.logits)) {
          const at = Number(position) * config.vocabSize;
          distances.push(divergence(found.subarray(at, at + config.vocabSize), logits[row]!));
        }
      }
      const mean = distances.reduce((sum, kl) => sum + kl, 0) / distances.length;
      assert.ok(mean > 1e-6 && mean < largest, `${mean} nats`);
      await close();
    });
  }
}

for (const family of ['gemma3_text', 'gpt2', 'olmo2'] as const) {
  test(`${family}: padded rows and single tokens after a cache, streamed through little trusted memory`, async (t) => {
    const { reference, bundle, keys, config } = await lockFamily(t, family, { plan: plans.enclave! });
    const parameters = expectedTensors(config).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
    const read = new Map<string, Uint8Array>();
    for (const segment of bundle.manifest.segments)
      if (segment.place === 'enclave') read.set(segment.sealed, await readFile(join(bundle.dir, segment.sealed)));
    const port = {
      // Less than twice the weights: they are not kept, and the two rows go one after the other.
      memoryBytes: 8 * parameters,
      readBundle: (path: string, offset: number, length: number) => read.get(path)!.slice(offset, offset + length),
      loadGraph,
    };
    const parts = new EnclaveParts(port, bundle.manifest, keys.bundleKey);
    const { vocabSize: k, hiddenSize: width } = config;
    const check = async (hidden: Float32Array, logits: readonly number[], what: string): Promise<void> => {
      const { ids, logprobs } = await parts.head(hidden, Int32Array.of(0), k, 1);
      assertNear((token) => logprobs[ids.indexOf(token)]!, logits, 1e-3, what);
    };
    const [long, short] = reference.ids as [number[], number[]];
    const rows = Int32Array.from([...long, ...short.slice(0, 12), ...new Array<number>(12).fill(0)]);
    const layout = { lengths: Int32Array.of(24, 12), tokens: 24, cache: null, past: 0 };
    const hidden = await parts.enter(rows, layout);
    await check(hidden.slice(23 * width, 24 * width), reference.logits['23']![0]!, 'first row');
    await check(hidden.slice(35 * width, 36 * width), reference.logits['11']![1]!, 'second row, padded');

    const cache: BlockCache = new Map();
    let past = 0;
    for (const step of [9, 1, 1, 1, 11, 1]) {
      const ids = Int32Array.from(long.slice(past, past + step));
      const next = await parts.enter(ids, { lengths: Int32Array.of(step), tokens: step, cache, past });
      past += step;
      const logits = reference.logits[String(past - 1)];
      if (logits) await check(next.slice((step - 1) * width), logits[0]!, `token ${past} after a cache`);
    }
    if (config.positions === 'learned') {
      const past = config.maxPositionEmbeddings;
      const beyond = parts.enter(Int32Array.of(1), { lengths: Int32Array.of(1), tokens: 1, cache: new Map(), past });
      await assert.rejects(beyond, { refusal: 'positions-exceeded', numbers: [64, 65] });
    }
    parts.erase();
  });
}
