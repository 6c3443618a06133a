// A student with low-rank adapters: the parameters that training adds to it, which of them change, and merging them back. Zone: edge.
// A starts uniform in ±1/√in and B at zero, as in PEFT: at the first step the model is what it was.
import { createHash } from 'node:crypto';
import type { Adapter } from '../../model/checkpoint/peft.js';
import {
  adapterNames,
  adapterTensors,
  addLowRank,
  type LoraConfig,
  loraScale,
  PREFIX,
  savedTensors,
  trainsWithLora,
} from '../../model/lora.js';
import { RandomStream } from '../data/random.js';
import type { Parameter, Student } from './student.js';

/** `student` with new adapters beside its parameters, whose buffers it shares. Throws what `adapterTensors` throws. */
export function withAdapters(student: Student, lora: LoraConfig, seed: number): Student {
  const parameters = new Map<string, Parameter>(student.parameters);
  for (const { name, shape } of adapterTensors(student.config, lora)) {
    const data = new Float32Array(shape[0]! * shape[1]!);
    if (name.endsWith('.lora_A.weight')) {
      const random = new RandomStream(`init/${name}`, seed);
      const bound = 1 / Math.sqrt(shape[1]!);
      for (let i = 0; i < data.length; i += 1) data[i] = bound * (2 * random.uniform() - 1);
    }
    parameters.set(name, { data, shape });
  }
  return { ...student, parameters, lora };
}

/** `student` with the adapters of a PEFT folder, and with the modules that they saved in place of its own. */
export async function withAdapter(student: Student, adapter: Adapter): Promise<Student> {
  const { lora, tensors, base } = adapter;
  const parameters = new Map<string, Parameter>(student.parameters);
  for (const { name, shape } of adapterTensors(student.config, lora))
    parameters.set(name, { data: await tensors.read(name), shape });
  for (const { name, shape } of savedTensors(student.config, lora))
    parameters.set(name, { data: await tensors.read(`${PREFIX}${name}`), shape });
  return { ...student, parameters, lora, base };
}

/** What training changes of an adapted student, under the names of a PEFT file. */
export function adapterParameters({ config, parameters, lora }: Student): [string, Parameter][] {
  if (lora === undefined) return [];
  const adapters = adapterTensors(config, lora).map(({ name }): [string, Parameter] => [name, parameters.get(name)!]);
  const saved = savedTensors(config, lora).map(({ name }): [string, Parameter] => [
    `${PREFIX}${name}`,
    parameters.get(name)!,
  ]);
  return [...adapters, ...saved];
}

/** Number of weights that training changes: those of the adapters, or all. */
export function trainedCount(student: Student): number {
  const trained = student.lora === undefined ? [...student.parameters] : adapterParameters(student);
  return trained.reduce((sum, [, { data }]) => sum + data.length, 0);
}

/** SHA-256 over the weights that training leaves as they are. */
export function hashFrozen({ parameters, lora }: Student): string {
  const hash = createHash('sha256');
  for (const [name, { data }] of parameters) {
    if (lora === undefined || trainsWithLora(name, lora)) continue;
    hash.update(name).update(new Uint8Array(data.buffer, data.byteOffset, data.byteLength));
  }
  return hash.digest('hex');
}

/** Adds scale·B·A to the weights of an adapted student, in place, and returns it without adapters. */
export function mergeAdapters(adapted: Student, lora: LoraConfig): Student {
  const scale = loraScale(lora);
  const parameters = new Map<string, Parameter>();
  for (const [name, parameter] of adapted.parameters) {
    if (name.includes('.lora_')) continue;
    parameters.set(name, parameter);
    const names = adapterNames(name.replace(/\.weight$/, ''));
    const a = adapted.parameters.get(names.a);
    const b = adapted.parameters.get(names.b);
    if (a !== undefined && b !== undefined) addLowRank(parameter.data, b.data, a.data, scale, lora.r);
  }
  const { lora: _, base: __, ...student } = adapted;
  return { ...student, parameters };
}
