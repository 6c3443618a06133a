// A model of random weights locked, placed, licensed and opened, beside the same model bare: what the placement benches compare.
import { mkdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { licenseHere, lockHere } from '../../src/cli/experiment/on-one-machine.js';
import { createExample, type Example } from '../../src/edge/data/example.js';
import { Accelerator } from '../../src/edge/teacher/accelerator.js';
import { captureBatches } from '../../src/edge/teacher/capture.js';
import { type Gate, openGate } from '../../src/edge/teacher/gate.js';
import { type LockedTeacher, openLockedTeacher } from '../../src/edge/teacher/locked-teacher.js';
import { askRows, forwardNext, releaseRows } from '../../src/edge/teacher/pass.js';
import { segmentsIn } from '../../src/edge/teacher/unlocked-model.js';
import type { DecoderConfig } from '../../src/model/config.js';
import type { LinearFormat } from '../../src/model/linear-lowering.js';
import { readSegmentWeight, writeSegments } from '../../src/model/segment-weights.js';
import { buildSegments } from '../../src/model/segments.js';
import type { LockOptions } from '../../src/owner/lock-checkpoint.js';
import { randomTensors, someIds } from './shapes.js';

export const session = { topK: 64, temperature: 1 };

/** Something that answers: where its segments run, and what lets tokens in and rows out. */
export interface Teacher {
  readonly accelerator: Accelerator;
  readonly gate: Gate;
}

/** The unlocked graph without an enclave. */
export async function openBare(
  folder: string,
  config: DecoderConfig,
  format: LinearFormat = 'float32',
): Promise<Teacher> {
  const tensors = randomTensors(config);
  await writeSegments(folder, buildSegments(config, { format }), (weight) => readSegmentWeight(tensors, weight));
  return { accelerator: await Accelerator.open(segmentsIn(folder, 2), config), gate: openGate };
}

export interface Placed extends Teacher {
  readonly locked: LockedTeacher;
  /** Ends it and removes its files. */
  close(): Promise<void>;
}

/** Locked and placed as `options` say, behind its enclave process, with a licence for everything here. */
export async function openPlaced(
  folder: string,
  config: DecoderConfig,
  options: Pick<LockOptions, 'scheme' | 'plan' | 'precision' | 'quantize'>,
  { log, teeMemoryMb }: { log: (line: string) => void; teeMemoryMb?: number },
): Promise<Placed> {
  await mkdir(folder, { recursive: true });
  const tokenizer = { 'tokenizer.json': new TextEncoder().encode('{}') };
  const checkpoint = { path: folder, config, tensors: randomTensors(config), tokenizer };
  const here = await lockHere(checkpoint, folder, 'teacher', options);
  const locked = await openLockedTeacher({
    bundleDir: here.bundleDir,
    ownerKey: here.keys.signingKey,
    stateDir: join(folder, 'state'),
    onNotice: log,
    ...(teeMemoryMb === undefined ? {} : { teeMemoryMb }),
  });
  const now = Math.floor(Date.now() / 1000);
  await licenseHere(here, locked, {
    budgetTokens: 1e12,
    topK: session.topK,
    precision: 'float16',
    temperature: { min: 1, max: 1 },
    notBefore: now - 60,
    expires: now + 86_400,
  });
  return {
    locked,
    accelerator: await locked.accelerator(),
    gate: await locked.gate(session),
    close: async () => {
      await locked.close();
      await rm(folder, { recursive: true, force: true });
    },
  };
}

/** `rows` texts of `tokens` ids; every position but the last gives a target. */
export function someExamples(rows: number, tokens: number, vocabSize: number): Example[] {
  const ids = someIds(rows * tokens, vocabSize);
  const mask = new Uint8Array(tokens).fill(1);
  mask[0] = 0;
  return Array.from({ length: rows }, (_, i) => createExample(ids.slice(i * tokens, (i + 1) * tokens), mask));
}

/** Captures all examples as one batch, `repeats` times in a row: a release overlaps the next forward pass, as in a job. */
export function prefill(
  { accelerator, gate }: Teacher,
  examples: readonly Example[],
  repeats: number,
): () => Promise<void> {
  const batches = Array.from({ length: repeats }, () => examples.map((_, i) => i));
  const options = { k: session.topK, temperature: session.temperature };
  return async () => {
    for await (const _ of captureBatches(accelerator, gate, examples, batches, options));
  };
}

/** `steps` single tokens after a prompt, greedy as `generate` goes: each is the most likely one of the row released before it. */
export function decode({ accelerator, gate }: Teacher, prompt: Int32Array, steps: number): () => Promise<void> {
  return async () => {
    let { cache } = await forwardNext(accelerator, gate, prompt, null);
    let token = Int32Array.of(prompt.at(-1)!);
    for (let step = 0; step < steps; step += 1) {
      const next = await forwardNext(accelerator, gate, token, cache);
      cache = next.cache;
      const rows = await askRows(accelerator, next.hidden, Int32Array.of(0), session.topK, session.temperature);
      token = (await releaseRows(gate, rows)).tokenIds.slice(0, 1);
    }
  };
}
