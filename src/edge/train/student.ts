// A student's parameters: from a checkpoint or random, kept in memory under their checkpoint names, saved as a
// Hugging Face directory. Zone: edge.
import { readdir, stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { Tensor } from '../../graph/runtime.js';
import { expectedTensors } from '../../model/checkpoint/expected-tensors.js';
import { readConfig, saveCheckpoint } from '../../model/checkpoint/hf-directory.js';
import { memoryTensors } from '../../model/checkpoint/memory-tensors.js';
import { openCheckpoint } from '../../model/checkpoint/open.js';
import { isAdapterFolder, openAdapter, readAdapterBase, saveAdapter } from '../../model/checkpoint/peft.js';
import { type TokenizerFiles, writeTokenizerFiles } from '../../model/checkpoint/tokenizer-files.js';
import type { DecoderConfig } from '../../model/config.js';
import type { LoraConfig } from '../../model/lora.js';
import { assertStudent } from '../../model/training-layers.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import { RandomStream } from '../data/random.js';
import { adapterParameters, withAdapter } from './adapters.js';

/** A float32 tensor whose buffer training updates in place. */
export type Parameter = Tensor & { readonly data: Float32Array };

export interface Student {
  readonly config: DecoderConfig;
  /** By checkpoint name, in the order of `expectedTensors`. */
  readonly parameters: ReadonlyMap<string, Parameter>;
  /** The checkpoint's own tokenizer; null for a student that starts from config.json alone. */
  readonly tokenizer: TokenizerFiles | null;
  /** Adapters among the parameters: they are what is trained, with `modules_to_save`; the rest is frozen. */
  readonly lora?: LoraConfig;
  /** Path or hub id of the checkpoint that the adapters belong to. */
  readonly base?: string;
}

/**
 * Opens `source`: a checkpoint (folder, GGUF file, hub id), or a shape without weights (a config.json, or a folder that holds
 * one and no weights), which gives random ones drawn from `seed`: matrices normal with the configuration's
 * initializer_range, gains 1, biases 0. `adapter` is a PEFT folder whose adapters it has; a PEFT folder as `source` is the base that it names
 * with its adapters. Throws UnsupportedError for a family that can only be a teacher.
 */
export async function openStudent(source: string, seed: number, adapter: string | null = null): Promise<Student> {
  if (await isAdapterFolder(source)) return openStudent(await readAdapterBase(source), seed, adapter ?? source);
  if (adapter !== null) return openAdapted(source, adapter, seed);
  const shape = await shapeOnly(source);
  if (shape !== null) return randomStudent(await readConfig(shape), seed);
  const checkpoint = await openCheckpoint(source);
  try {
    assertStudent(checkpoint.config);
    const parameters = new Map<string, Parameter>();
    for (const { name, shape } of expectedTensors(checkpoint.config))
      parameters.set(name, { data: await checkpoint.tensors.read(name), shape });
    return { config: checkpoint.config, parameters, tokenizer: checkpoint.tokenizer };
  } finally {
    await checkpoint.tensors.close();
  }
}

async function openAdapted(source: string, folder: string, seed: number): Promise<Student> {
  if ((await shapeOnly(source)) !== null) throw randomBase(source);
  const student = await openStudent(source, seed);
  const adapter = await openAdapter(folder, student.config, source);
  try {
    return await withAdapter(student, adapter);
  } finally {
    await adapter.tensors.close();
  }
}

/** Adapters without the weights that they adapt say nothing. */
export function randomBase(source: string): MalformedError {
  const message = `${source} has no weights: adapters need a checkpoint to adapt; give one as model_name_or_path, or train without use_peft`;
  return new MalformedError('lora-base', message, { source });
}

// The config.json of a source that has no weights of its own; null for a checkpoint.
async function shapeOnly(source: string): Promise<string | null> {
  const found = await stat(source).catch(() => null);
  if (found?.isFile()) return source.endsWith('.json') ? source : null;
  if (!found?.isDirectory()) return null;
  const files = await readdir(source);
  const weights = files.some((file) => /\.(safetensors|bin|gguf)$|\.index\.json$/.test(file));
  return !weights && files.includes('config.json') ? join(source, 'config.json') : null;
}

/** A student of this shape with random weights: the same seed gives the same bits. */
export function randomStudent(config: DecoderConfig, seed: number): Student {
  assertStudent(config);
  const parameters = new Map<string, Parameter>();
  for (const { name, shape } of expectedTensors(config)) {
    const data = new Float32Array(shape.reduce((a, b) => a * b, 1));
    if (shape.length >= 2) {
      const random = new RandomStream(`init/${name}`, seed);
      for (let i = 0; i < data.length; i += 1) data[i] = random.normal() * config.initializerRange;
    } else if (name.endsWith('.weight')) data.fill(1);
    parameters.set(name, { data, shape });
  }
  return { config, parameters, tokenizer: null };
}

/** Number of weights. */
export function parameterCount(student: Student): number {
  let count = 0;
  for (const { data } of student.parameters.values()) count += data.length;
  return count;
}

/** Writes a Hugging Face directory that transformers loads unchanged; of an adapted student the adapters alone, which PEFT loads. */
export async function saveStudent(folder: string, student: Student, tokenizer: TokenizerFiles): Promise<void> {
  if (student.lora !== undefined) {
    await writeTokenizerFiles(folder, tokenizer);
    const changed = adapterParameters(student).map(([name, { shape, data }]) => ({ name, shape, read: () => data }));
    return saveAdapter(folder, student.lora, student.base ?? '', changed);
  }
  const tensors = memoryTensors([...student.parameters].map(([name, { data, shape }]) => ({ name, shape, data })));
  await saveCheckpoint(folder, student.config, tensors, tokenizer);
}
