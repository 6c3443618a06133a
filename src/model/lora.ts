// Low-rank adapters (LoRA, Hu et al., arXiv 2106.09685): a frozen weight W [out, in] acts as W + s·B·A, where s is
// lora_alpha / r, or lora_alpha / √r when rank-stabilised (arXiv 2312.03732). Zone: edge.
// Options and tensor names are those of PEFT, so that an adapter is called the same everywhere.
import { MalformedError, UnsupportedError } from '../trusted/wire/errors.js';
import { expectedTensors } from './checkpoint/expected-tensors.js';
import type { DecoderConfig } from './config.js';
import type { TensorInfo } from './tensors.js';

export interface LoraConfig {
  /** Rank: A is [r, in], B is [out, r]. */
  readonly r: number;
  readonly lora_alpha: number;
  /** Linear layers of the blocks that get an adapter, by the end of their name: `q_proj`, `mlp.down_proj`. */
  readonly target_modules: readonly string[];
  /** Modules trained in full beside the adapters, by a part of their name: `embed_tokens`, `layers.2`. They get no adapter. */
  readonly modules_to_save?: readonly string[];
  /** Rank-stabilised: B·A is multiplied by lora_alpha / √r. */
  readonly use_rslora?: boolean;
}

/** Before every tensor's name in a PEFT file. */
export const PREFIX = 'base_model.model.';

/** Tensor names of a module's adapter; `module` is a checkpoint name without `.weight`. */
export function adapterNames(module: string): { readonly a: string; readonly b: string } {
  return { a: `${PREFIX}${module}.lora_A.weight`, b: `${PREFIX}${module}.lora_B.weight` };
}

/** What B·A is multiplied by. */
export function loraScale({ r, lora_alpha, use_rslora = false }: LoraConfig): number {
  return lora_alpha / (use_rslora ? Math.sqrt(r) : r);
}

/** In a line: `r 16, lora_alpha 32, on q_proj, v_proj`. */
export function describeLora({ r, lora_alpha, target_modules, modules_to_save = [], use_rslora }: LoraConfig): string {
  const on = target_modules.length > 12 ? `${target_modules.length} modules` : target_modules.join(', ');
  const saved = modules_to_save.length === 0 ? '' : `, in full ${modules_to_save.join(', ')}`;
  return `r ${r}, lora_alpha ${lora_alpha}${use_rslora ? ' (rank-stabilised)' : ''}, on ${on}${saved}`;
}

/** Whether the linear layer of this name, without `.weight`, has an adapter. */
export function hasAdapter(module: string, lora: LoraConfig): boolean {
  const named = lora.target_modules.some((target) => `.${module}`.endsWith(`.${target}`));
  return named && module.startsWith('model.layers.') && !isSaved(module, lora);
}

/** Whether training with adapters changes the tensor of this name. */
export function trainsWithLora(tensor: string, lora: LoraConfig): boolean {
  return tensor.startsWith(PREFIX) || isSaved(tensor, lora);
}

function isSaved(name: string, { modules_to_save = [] }: LoraConfig): boolean {
  return modules_to_save.some((module) => `.${name}.`.includes(`.${module}.`));
}

/** The linear layers of the blocks, which may have adapters, without `.weight`; [out, in] each. */
export function adaptable(config: DecoderConfig): { readonly module: string; readonly shape: readonly number[] }[] {
  return expectedTensors(config)
    .filter(({ name, shape }) => shape.length === 2 && name.startsWith('model.layers.'))
    .map(({ name, shape }) => ({ module: name.slice(0, -'.weight'.length), shape }));
}

/** The last parts of their names, each once: `q_proj`, … */
export function adaptableNames(config: DecoderConfig): string[] {
  return [...new Set(adaptable(config).map(({ module }) => module.slice(module.lastIndexOf('.') + 1)))];
}

/**
 * The base's tensors that `modules_to_save` has trained in full. Throws MalformedError('lora-saved') for a module that is none, and
 * UnsupportedError('lora-tied') for an embedding that is the head too: PEFT would train a copy of it and leave the head as it was.
 */
export function savedTensors(config: DecoderConfig, lora: LoraConfig): TensorInfo[] {
  const tensors = expectedTensors(config);
  for (const module of lora.modules_to_save ?? []) {
    if (tensors.some(({ name }) => isSaved(name, { ...lora, modules_to_save: [module] }))) continue;
    const known = [...new Set(tensors.map(({ name }) => name.split('.').at(-2)!))].join(', ');
    const message = `modules_to_save names "${module}", which the student does not have; there are ${known}`;
    throw new MalformedError('lora-saved', message, { module });
  }
  const saved = tensors.filter(({ name }) => isSaved(name, lora));
  if (config.tieWordEmbeddings && saved.some(({ name }) => name === 'model.embed_tokens.weight')) {
    const message =
      'modules_to_save names the embedding, which is also the head of this student (tie_word_embeddings): PEFT cannot hold that; leave it out';
    throw new UnsupportedError('lora-tied', message, {});
  }
  return saved;
}

/**
 * The adapters' tensors, A before B, in the order of the modules. Throws MalformedError('lora-rank', 'lora-alpha', 'lora-target') for
 * options that no adapter can have.
 */
export function adapterTensors(config: DecoderConfig, lora: LoraConfig): TensorInfo[] {
  const { r, lora_alpha, target_modules } = lora;
  if (!Number.isInteger(r) || r < 1) throw new MalformedError('lora-rank', `r is ${r}: give a whole number from 1 on`);
  if (!(lora_alpha > 0 && Number.isFinite(lora_alpha)))
    throw new MalformedError('lora-alpha', `lora_alpha is ${lora_alpha}: give a number above 0`);
  const linears = adaptable(config);
  for (const target of target_modules) {
    if (linears.some(({ module }) => `.${module}`.endsWith(`.${target}`))) continue;
    const known = adaptableNames(config).join(', ');
    const message = `target_modules names "${target}", which is no linear layer of a block; there are ${known} (embedding and head: modules_to_save)`;
    throw new MalformedError('lora-target', message, { target });
  }
  return linears.flatMap(({ module, shape: [out, input] }): TensorInfo[] => {
    if (!hasAdapter(module, lora)) return [];
    const { a, b } = adapterNames(module);
    return [
      { name: a, shape: [r, input!], dtype: 'F32' },
      { name: b, shape: [out!, r], dtype: 'F32' },
    ];
  });
}

/** w [out, in] += scale·b [out, r]·a [r, in], summed in float64. */
export function addLowRank(w: Float32Array, b: Float32Array, a: Float32Array, scale: number, r: number): void {
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
