// Checkpoints of a run: the student (a Hugging Face directory, or with frozen weights a PEFT directory of the adapters alone),
// the optimiser's moments and the step, from which a resumed run continues bit for bit. Zone: edge. DESIGN section 8.
import { readdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { ADAPTER_WEIGHTS } from '../../model/checkpoint/peft.js';
import { openSafetensors } from '../../model/checkpoint/safetensors.js';
import { writeSafetensors } from '../../model/checkpoint/safetensors-writer.js';
import type { TokenizerFiles } from '../../model/checkpoint/tokenizer-files.js';
import { describeFileError, writeFileAtomic } from '../../model/files.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import { adapterParameters } from './adapters.js';
import type { Stepper } from './stepper.js';
import { type Parameter, type Student, saveStudent } from './student.js';

/** What must be the same when a run is resumed: changing it would change what the steps mean. */
export type Fingerprint = Readonly<Record<string, string | number | boolean | null>>;

/** Sums over the steps since the last line of metrics.jsonl, so that a resumed run writes the same next line. */
export interface Unlogged {
  readonly steps: number;
  readonly loss: number;
  readonly kd: number;
  readonly ce: number;
  readonly gradNorm: number;
  readonly tokensPerSecond: number;
}

export const nothingUnlogged: Unlogged = { steps: 0, loss: 0, kd: 0, ce: 0, gradNorm: 0, tokensPerSecond: 0 };

export interface RunState {
  /** Optimiser steps done. Data order, schedule and random streams are functions of it and the seed. */
  readonly step: number;
  /** Training tokens seen, padding not counted. */
  readonly tokens: number;
  readonly unlogged: Unlogged;
  readonly fingerprint: Fingerprint;
}

const prefix = 'checkpoint-';
const stateFile = 'trainer_state.json';
const momentsFile = 'optimizer.safetensors';

/** Writes `<outputDir>/checkpoint-<step>`, whole or not at all, and removes the oldest beyond `keep`. Returns its path. */
export async function saveRun(
  outputDir: string,
  state: RunState,
  student: Student,
  stepper: Stepper,
  tokenizer: TokenizerFiles,
  keep: number,
): Promise<string> {
  const folder = join(outputDir, `${prefix}${state.step}`);
  const temporary = `${folder}.tmp`;
  try {
    await rm(temporary, { recursive: true, force: true });
    await saveStudent(temporary, student, tokenizer);
    const moments = [...stepper.moments].flatMap(([name, { m, v }]) => [
      { name: `m:${name}`, shape: m.shape, read: () => m.data },
      { name: `v:${name}`, shape: v.shape, read: () => v.data },
    ]);
    await writeSafetensors(join(temporary, momentsFile), moments, 'F32');
    await writeFileAtomic(join(temporary, stateFile), `${JSON.stringify(state, null, 2)}\n`);
    await rm(folder, { recursive: true, force: true });
    await rename(temporary, folder);
  } catch (error) {
    await rm(temporary, { recursive: true, force: true }).catch(() => {});
    throw describeFileError(error, folder, 'write');
  }
  for (const step of (await savedSteps(outputDir)).slice(0, -Math.max(1, keep)))
    await rm(join(outputDir, `${prefix}${step}`), { recursive: true, force: true });
  return folder;
}

/** Folder of the newest checkpoint in `outputDir`, or null. */
export async function latestRun(outputDir: string): Promise<string | null> {
  const newest = (await savedSteps(outputDir)).at(-1);
  return newest === undefined ? null : join(outputDir, `${prefix}${newest}`);
}

async function savedSteps(outputDir: string): Promise<number[]> {
  const names = await readdir(outputDir).catch((): string[] => []);
  return names
    .flatMap((name) => {
      const match = /^checkpoint-(\d+)$/.exec(name);
      return match ? [Number(match[1])] : [];
    })
    .sort((a, b) => a - b);
}

/** Reads where a checkpoint stands, and checks that it belongs to this run. Throws MalformedError naming the setting that differs. */
export async function readRunState(folder: string, fingerprint: Fingerprint): Promise<RunState> {
  const file = join(folder, stateFile);
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw describeFileError(error, file, 'read');
  });
  const state = parseState(text, file);
  for (const key of new Set([...Object.keys(fingerprint), ...Object.keys(state.fingerprint)])) {
    const value = fingerprint[key] ?? null;
    const before = state.fingerprint[key] ?? null;
    if (before === value) continue;
    throw new MalformedError(
      'resume-mismatch',
      `${folder} was written with ${key} = ${before}, this run has ${value}; use the same settings and data, or another output_dir`,
      { file, key },
    );
  }
  return state;
}

function parseState(text: string, file: string): RunState {
  try {
    const state = JSON.parse(text) as Partial<RunState>;
    const counted = Number.isSafeInteger(state.step) && Number.isSafeInteger(state.tokens);
    const whole = [state.fingerprint, state.unlogged].every((part) => typeof part === 'object' && part !== null);
    if (counted && whole) return state as RunState;
  } catch {}
  throw new MalformedError(
    'resume-state',
    `${file} is not a trainer state; remove its folder and resume from an older checkpoint`,
    {
      file,
    },
  );
}

/** Puts a checkpoint's parameters and moments into the buffers of `student` and `stepper`. */
export async function restoreRun(folder: string, student: Student, stepper: Stepper): Promise<void> {
  const moments = [...stepper.moments].flatMap(([name, { m, v }]): [string, Parameter][] => [
    [`m:${name}`, m],
    [`v:${name}`, v],
  ]);
  if (student.lora === undefined) await fill(join(folder, 'model.safetensors'), [...student.parameters]);
  else await fill(join(folder, ADAPTER_WEIGHTS), adapterParameters(student));
  await fill(join(folder, momentsFile), moments);
}

async function fill(file: string, targets: readonly [string, Parameter][]): Promise<void> {
  const source = await openSafetensors(file);
  try {
    for (const [name, { data }] of targets) {
      const read = await source.read(name);
      if (read.length !== data.length)
        throw new MalformedError(
          'tensor-shape',
          `${file}: tensor "${name}" has ${read.length} values, the student ${data.length}`,
          {
            file,
            tensor: name,
          },
        );
      data.set(read);
    }
  } finally {
    await source.close();
  }
}
