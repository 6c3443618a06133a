// Writes what our own graphs say about a student, for tools/check-student.py to compare with transformers.
// Usage: node dist/tools/score-student.js STUDENT TEXT-FILE OUT.json [TOKENS]
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createBatches } from '../src/edge/data/batches.js';
import { createExample, type Example } from '../src/edge/data/example.js';
import { Accelerator } from '../src/edge/teacher/accelerator.js';
import { segmentsIn } from '../src/edge/teacher/unlocked-model.js';
import { Evaluator } from '../src/edge/train/evaluate.js';
import { openStudent } from '../src/edge/train/student.js';
import { openCheckpoint } from '../src/model/checkpoint/open.js';
import { readSegmentWeight, writeSegments } from '../src/model/segment-weights.js';
import { buildSegments } from '../src/model/segments.js';
import { openTokenizer } from '../src/model/tokenizer.js';

const topK = 10;
const rowTokens = 256;

interface Scored {
  readonly text: string;
  readonly ids: readonly number[];
  /** Log-probability of each next token; one fewer than ids. */
  readonly nextLogprobs: readonly number[];
  readonly topIds: readonly (readonly number[])[];
  readonly topLogprobs: readonly (readonly number[])[];
}

/** Scores one text with the forward-only graphs. */
async function score(accelerator: Accelerator, text: string, ids: Int32Array): Promise<Scored> {
  const rows = ids.length;
  const { vocabSize } = accelerator.config;
  const hidden = await accelerator.run(0, ids, { batch: 1, tokens: rows, lengths: [rows] });
  const all = await accelerator.topK(hidden, rows, vocabSize, 1);
  const nextLogprobs: number[] = [];
  const topIds: number[][] = [];
  const topLogprobs: number[][] = [];
  for (let row = 0; row < rows; row += 1) {
    const found = all.ids.subarray(row * vocabSize, (row + 1) * vocabSize);
    const logprobs = all.logprobs.subarray(row * vocabSize, (row + 1) * vocabSize);
    topIds.push([...found.subarray(0, topK)]);
    topLogprobs.push([...logprobs.subarray(0, topK)]);
    if (row + 1 < rows) nextLogprobs.push(logprobs[found.indexOf(ids[row + 1]!)]!);
  }
  return { text, ids: [...ids], nextLogprobs, topIds, topLogprobs };
}

/** Mean negative log-likelihood by the training graph. */
async function trainingNll(folder: string, texts: readonly Scored[]): Promise<number> {
  const examples = texts.map(({ ids }): Example => {
    const mask = Uint8Array.from(ids, (_, t) => Math.min(t, 1));
    return createExample(Int32Array.from(ids), mask);
  });
  const settings = { batchSize: 1, maxLength: rowTokens, packing: true, seed: 0, shuffle: false, padTokenId: 0 };
  const batches = createBatches(examples, settings);
  const student = await openStudent(folder, 0);
  const data = { examples, batches, teacher: null };
  const evaluator = await Evaluator.open(student, data, { temperature: 1, chunkRows: batches.columns });
  const { nll } = await evaluator.evaluate(student);
  await evaluator.close();
  return nll;
}

async function main([folder, textFile, out, wanted = '1000']: readonly string[]): Promise<void> {
  if (folder === undefined || textFile === undefined || out === undefined)
    throw new Error('usage: score-student STUDENT TEXT-FILE OUT.json [TOKENS]');
  const checkpoint = await openCheckpoint(folder);
  const tokenizer = await openTokenizer(checkpoint.tokenizer);
  const segments = await mkdtemp(join(tmpdir(), 'distillock-score-'));
  try {
    await writeSegments(segments, buildSegments(checkpoint.config), (weight) =>
      readSegmentWeight(checkpoint.tensors, weight),
    );
    const accelerator = await Accelerator.open(segmentsIn(segments, 2), checkpoint.config);
    const texts: Scored[] = [];
    let tokens = 0;
    for (const text of (await readFile(textFile, 'utf8')).split('\n')) {
      const ids = Int32Array.from(tokenizer.encode(text));
      if (text.startsWith('<|') || ids.length < 8 || ids.length > rowTokens) continue;
      texts.push(await score(accelerator, text, ids));
      tokens += ids.length;
      if (tokens >= Number(wanted)) break;
    }
    await accelerator.close();
    await writeFile(out, `${JSON.stringify({ trainingNll: await trainingNll(folder, texts), texts })}\n`);
    process.stdout.write(`${tokens} tokens of ${texts.length} texts → ${out}\n`);
  } finally {
    await checkpoint.tensors.close();
    await rm(segments, { recursive: true, force: true });
  }
}

await main(process.argv.slice(2));
