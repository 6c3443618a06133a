// Gemma 3 270M, plain and locked behind its enclave, against transformers: token ids, log-probabilities, greedy text.
// node dist/tools/check-gemma3.js MODEL.gguf REFERENCE.json WORK OUT.json   (tools/reference/gemma3.py writes REFERENCE; WORK must be new)
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describeMachine } from '../bench/machine.js';
import { licenseHere } from '../src/cli/experiment/on-one-machine.js';
import type { Accelerator } from '../src/edge/teacher/accelerator.js';
import { type Gate, openGate } from '../src/edge/teacher/gate.js';
import { generate } from '../src/edge/teacher/generate.js';
import { openLockedTeacher } from '../src/edge/teacher/locked-teacher.js';
import { askRows, forward, releaseRows } from '../src/edge/teacher/pass.js';
import { openUnlockedModel } from '../src/edge/teacher/unlocked-model.js';
import { SCHEMES } from '../src/model/bundle-manifest.js';
import { openCheckpoint } from '../src/model/checkpoint/open.js';
import { openTokenizer, type Tokenizer } from '../src/model/tokenizer.js';
import { lockModel } from '../src/owner/lock-checkpoint.js';
import { leftOutOf } from '../src/owner/scheme/left-out.js';
import type { Scheme } from '../src/trusted/wire/manifest.js';

interface Reference {
  readonly transformers: string;
  readonly torch: string;
  readonly prompt: string;
  readonly prompt_ids: readonly number[];
  readonly generated_ids: readonly number[];
  readonly texts: readonly { readonly text: string; readonly ids: readonly number[] }[];
  readonly long_ids: readonly number[];
  readonly positions: readonly number[];
  readonly top_ids: readonly (readonly number[])[];
  readonly top_logprobs: readonly (readonly number[])[];
}

const [model, referenceFile, work, out] = process.argv.slice(2);
if (!model || !referenceFile || !work || !out) throw new Error('usage: check-gemma3.js MODEL REFERENCE WORK OUT');
const reference = JSON.parse(await readFile(referenceFile, 'utf8')) as Reference;
const topK = 64;
const compared = reference.top_ids[0]!.length;
await mkdir(work, { recursive: true });

/** Agreement of one model, through its gate, with the reference. */
async function agreement(accelerator: Accelerator, gate: Gate, tokenizer: Tokenizer) {
  const tokens = reference.long_ids.length;
  const layout = { batch: 1, tokens, lengths: [tokens] };
  const hidden = await forward(accelerator, gate, Int32Array.from(reference.long_ids), layout);
  let worst = 0;
  let sum = 0;
  let missing = 0;
  let sameTop1 = 0;
  for (const [i, position] of reference.positions.entries()) {
    const rows = await askRows(accelerator, hidden, Int32Array.of(position), topK, 1);
    const { tokenIds, logprobs } = await releaseRows(gate, rows);
    if (tokenIds[0] === reference.top_ids[i]![0]) sameTop1 += 1;
    for (const [j, id] of reference.top_ids[i]!.entries()) {
      const at = tokenIds.indexOf(id);
      if (at < 0) missing += 1;
      else {
        const difference = Math.abs(logprobs[at]! - reference.top_logprobs[i]![j]!);
        worst = Math.max(worst, difference);
        sum += difference;
      }
    }
  }
  const logprobsCompared = reference.positions.length * compared - missing;
  const settings = { maxNewTokens: reference.generated_ids.length, topK, temperature: 0, seed: 0 };
  const generated: number[] = [];
  const prompt = Int32Array.from(reference.prompt_ids);
  const stopIds = new Set(accelerator.config.eosTokenIds);
  for await (const id of generate(accelerator, gate, prompt, { ...settings, stopIds })) generated.push(id);
  return {
    positions: reference.positions.length,
    same_top1: sameTop1,
    max_logprob_difference: worst,
    mean_logprob_difference: sum / logprobsCompared,
    logprobs_compared: logprobsCompared,
    logprobs_outside_top_64: missing,
    greedy_same_tokens: generated.filter((id, i) => id === reference.generated_ids[i]).length,
    greedy_tokens: reference.generated_ids.length,
    prompt: reference.prompt,
    text: tokenizer.decode(Int32Array.from(generated)),
  };
}

/** Locks by `scheme` and runs the bundle under a licence. */
async function locked(scheme: Scheme, tokenizer: Tokenizer) {
  const checkpoint = await openCheckpoint(model!);
  const started = performance.now();
  const bundleDir = join(work!, `${scheme}.lock`);
  const { bundleId, keys } = await lockModel({ checkpoint, outDir: bundleDir, scheme });
  const seconds = (performance.now() - started) / 1000;
  await checkpoint.tensors.close();
  const stateDir = join(work!, `${scheme}.state`);
  const teacher = await openLockedTeacher({
    bundleDir,
    ownerKey: keys.signingKey,
    stateDir,
    onNotice: () => undefined,
  });
  try {
    const now = Math.floor(Date.now() / 1000);
    const limits = { topK, precision: 'float32', temperature: { min: 1, max: 1 } } as const;
    const terms = { budgetTokens: 1000, ...limits, notBefore: now - 60, expires: now + 3600 };
    await licenseHere({ bundleDir, bundleId, keys, seconds }, teacher, terms);
    const gate = await teacher.gate({ topK, temperature: 1 });
    return { lock_seconds: seconds, ...(await agreement(await teacher.accelerator(), gate, tokenizer)) };
  } finally {
    await teacher.close();
  }
}

const plain = await openUnlockedModel(model);
const tokenizer = await openTokenizer(plain.tokenizer);
const sameIds = reference.texts.filter(({ text, ids }) => {
  const found = tokenizer.encode(text);
  return found.length === ids.length && found.every((id, i) => id === ids[i]);
});
const arms: Record<string, unknown> = {};
arms['unlocked'] = await agreement(plain.accelerator, openGate, tokenizer);
await plain.close();
for (const scheme of SCHEMES) arms[scheme] = await locked(scheme, tokenizer);
const record = {
  name: 'gemma3-270m',
  date: new Date().toISOString(),
  command: 'node dist/tools/check-gemma3.js $(tools/fetch-gemma3.sh) REFERENCE.json WORK docs/results/gemma3-270m.json',
  machine: describeMachine(),
  versions: { transformers: reference.transformers, torch: reference.torch },
  model: 'gemma-3-270m-q4_k_m.gguf',
  reference_tokens: reference.long_ids.length,
  texts_with_same_token_ids: `${sameIds.length} of ${reference.texts.length}`,
  left_out_of_rotation: leftOutOf('rotation', plain.config),
  arms,
  peak_rss_mb: Math.round(process.resourceUsage().maxRSS / 1024),
};
await writeFile(out, `${JSON.stringify(record, null, 2)}\n`);
