// Packed rows compute what single rows compute: no token sees another document, whatever lies beside it.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { after, test } from 'node:test';
import type { Config } from '../../src/edge/config.js';
import { type Batch, type Batches, createBatches } from '../../src/edge/data/batches.js';
import { createExample, type Example } from '../../src/edge/data/example.js';
import { RandomStream } from '../../src/edge/data/random.js';
import { randomStudent } from '../../src/edge/train/student.js';
import type { StepReport } from '../../src/edge/train/trainer.js';
import { Graph } from '../../src/graph/graph.js';
import { encodeModel } from '../../src/graph/onnx.js';
import { Session } from '../../src/graph/runtime.js';
import type { DecoderConfig } from '../../src/model/config.js';
import { decoderBody } from '../../src/model/decoder.js';
import { TrainingLayers } from '../../src/model/training-layers.js';
import { tinyConfig } from '../owner/tiny-model.js';
import { tensorsOf, tinyData, tinyRun, tinyRunConfig } from './tiny-run.js';

const folder = mkdtempSync(join(tmpdir(), 'distillock-packing-'));
after(() => rmSync(folder, { recursive: true }));

// Large enough weights that attention looks at something.
const config: DecoderConfig = { ...tinyConfig, initializerRange: 0.4 };

function documents(lengths: readonly number[]): Example[] {
  const random = new RandomStream('test/documents', 3);
  return lengths.map((length) =>
    createExample(
      new Int32Array(length).map(() => random.below(config.vocabSize)),
      new Uint8Array(length).fill(1, 1),
    ),
  );
}

/** The last hidden states of every example, [length, width], from batches of any shape. `edit` changes a batch before it is run. */
async function hiddenOf(
  examples: readonly Example[],
  batches: Batches,
  edit: (batch: Batch) => Batch = (b) => b,
): Promise<Map<number, Float32Array>> {
  const { rows, columns } = batches;
  const graph = new Graph();
  const layers = new TrainingLayers(graph, config, { batch: rows, tokens: columns }, () => false);
  graph.output('hidden', decoderBody(layers, config));
  const session = await Session.open(encodeModel(graph), { threads: 1 });
  const parameters = Object.fromEntries(randomStudent(config, 5).parameters);
  const found = new Map<number, Float32Array>();
  for (let i = 0; i < batches.batchesPerEpoch; i += 1) {
    const batch = edit(batches.batchAt(0, i));
    const shape = [rows, columns];
    const { hidden } = await session.run({
      ...parameters,
      input_ids: { data: batch.inputIds, shape },
      position_ids: { data: BigInt64Array.from(batch.positionIds, BigInt), shape },
      segment_ids: { data: batch.segmentIds, shape },
    });
    const width = config.hiddenSize;
    for (const { example, row, offset, length } of batch.slots) {
      const start = (row * columns + offset) * width;
      found.set(example, (hidden!.data as Float32Array).slice(start, start + length * width));
    }
  }
  await session.close();
  assert.equal(found.size, examples.length);
  return found;
}

function farthest(a: ReadonlyMap<number, Float32Array>, b: ReadonlyMap<number, Float32Array>): number {
  let most = 0;
  for (const [example, values] of a)
    values.forEach((value, i) => {
      most = Math.max(most, Math.abs(value - b.get(example)![i]!));
    });
  return most;
}

const settings = { batchSize: 2, maxLength: 32, seed: 1, shuffle: false, padTokenId: 0 };

test('hidden states of packed documents are those of the documents alone', async () => {
  const examples = documents([9, 14, 7, 20, 5, 11, 3]);
  const packed = createBatches(examples, { ...settings, packing: true });
  const alone = createBatches(examples, { ...settings, packing: false });
  assert.ok(packed.stats.rows < alone.stats.rows, 'something is packed');
  assert.ok(packed.batchAt(0, 0).slots.some(({ offset }) => offset > 0));
  const expected = await hiddenOf(examples, alone);
  assert.ok(farthest(expected, await hiddenOf(examples, packed)) < 1e-5);
  // Controls: with one segment a row, or positions that go on, the same comparison sees a difference.
  const oneSegment = (batch: Batch): Batch => ({ ...batch, segmentIds: batch.segmentIds.map((s) => Math.min(s, 1)) });
  assert.ok(farthest(expected, await hiddenOf(examples, packed, oneSegment)) > 0.1);
});

test('what a document says does not reach its neighbours in the row', async () => {
  const examples = documents([9, 14, 7]);
  const other = examples.map((example, i) => (i === 1 ? documents([1, 14])[1]! : example));
  const of = async (set: readonly Example[]): Promise<Map<number, Float32Array>> =>
    hiddenOf(set, createBatches(set, { ...settings, packing: true }));
  const [before, after] = [await of(examples), await of(other)];
  assert.deepEqual(before.get(0), after.get(0));
  assert.deepEqual(before.get(2), after.get(2));
  assert.notDeepEqual(before.get(1), after.get(1));
});

test('a dataset smaller than one batch trains as it would in a batch of its size', async () => {
  const losses = async (name: string, size: number): Promise<number[]> => {
    const changes = { per_device_train_batch_size: size, packing: false, max_steps: 4, eval_steps: 100 };
    const found: number[] = [];
    const data = tinyData(tinyRunConfig(join(folder, name), changes), 'train', 3);
    assert.equal(data.batches.batchesPerEpoch, 1);
    await tinyRun(join(folder, name), changes, { data, events: { onStep: ({ loss }) => found.push(loss) } });
    return found;
  };
  const [small, large] = [await losses('three', 3), await losses('eight', 8)];
  assert.equal(small.length, 4);
  small.forEach((loss, i) => {
    assert.ok(Math.abs(loss - large[i]!) < 1e-4, `${loss} and ${large[i]}`);
  });
  assert.ok(small[3]! < small[0]!, 'it learns');
});

test('grouped by length: the gradient of an epoch is the same as in one width, and a run resumes bit for bit', async () => {
  const count = 13;
  const first = async (
    name: string,
    changes: Partial<Config>,
  ): Promise<{ loss: number; gradNorm: number; widths: number }> => {
    const settings = { packing: false, per_device_train_batch_size: 2, max_steps: 1, ...changes };
    const { batchesPerEpoch, widths } = tinyData(tinyRunConfig('unused', settings), 'train', count).batches;
    const found: { loss: number; gradNorm: number; widths: number }[] = [];
    const events = {
      onStep: ({ loss, gradNorm }: StepReport) => found.push({ loss, gradNorm, widths: widths.length }),
    };
    const all = { ...settings, gradient_accumulation_steps: batchesPerEpoch };
    await tinyRun(join(folder, name), all, { examples: count, events });
    return found[0]!;
  };
  const plain = await first('plain', {});
  const grouped = await first('grouped', { group_by_length: true });
  assert.equal(plain.widths, 1);
  assert.ok(grouped.widths > 1);
  assert.ok(Math.abs(plain.loss - grouped.loss) < 1e-4 && Math.abs(plain.gradNorm - grouped.gradNorm) < 1e-3);

  const changes = { packing: false, group_by_length: true };
  await tinyRun(join(folder, 'unbroken'), changes);
  await tinyRun(join(folder, 'broken'), changes, { stopAfter: 5 });
  await tinyRun(join(folder, 'broken'), { ...changes, resume_from_checkpoint: true });
  const [a, b] = [
    await tensorsOf(join(folder, 'unbroken', 'model.safetensors')),
    await tensorsOf(join(folder, 'broken', 'model.safetensors')),
  ];
  assert.deepEqual(a, b);
});
