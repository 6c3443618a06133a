// A student with low-rank adapters: the parameters that training adds to it, and merging them back. Zone: edge.
// A starts uniform in ±1/√in and B at zero, as in PEFT: at the first step the model is what it was.
import { adapterNames, adapterTensors, type LoraConfig, loraScale } from '../../model/lora.js';
import { RandomStream } from '../data/random.js';
import type { Parameter, Student } from './student.js';

/** `student` with adapters beside its parameters, whose buffers it shares. Throws what `adapterTensors` throws. */
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
  return { ...student, parameters };
}

/** Adds (lora_alpha / r)·B·A to the weights of an adapted student, in place, and returns it without adapters. */
export function mergeAdapters(adapted: Student, lora: LoraConfig): Student {
  const scale = loraScale(lora);
  const parameters = new Map<string, Parameter>();
  for (const [name, parameter] of adapted.parameters) {
    if (name.includes('.lora_')) continue;
    parameters.set(name, parameter);
    const names = adapterNames(name.replace(/\.weight$/, ''));
    const a = adapted.parameters.get(names.a);
    const b = adapted.parameters.get(names.b);
    if (a !== undefined && b !== undefined) addProduct(parameter.data, b.data, a.data, scale, lora.r);
  }
  return { ...adapted, parameters };
}

// w [out, in] += scale·b [out, r]·a [r, in].
function addProduct(w: Float32Array, b: Float32Array, a: Float32Array, scale: number, r: number): void {
  const width = a.length / r;
  const row = new Float64Array(width);
  for (let out = 0; out < b.length / r; out += 1) {
    row.fill(0);
    for (let k = 0; k < r; k += 1) {
      const factor = scale * b[out * r + k]!;
      for (let i = 0; i < width; i += 1) row[i]! += factor * a[k * width + i]!;
    }
    for (let i = 0; i < width; i += 1) w[out * width + i]! += row[i]!;
  }
}
