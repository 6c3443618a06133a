// Low-rank adapters (LoRA, Hu et al., arXiv 2106.09685): a frozen weight W [out, in] acts as W + (lora_alpha / r)·B·A. Zone: edge.
// Options and tensor names are those of PEFT, so that an adapter is called the same everywhere.
import { MalformedError } from '../trusted/wire/errors.js';
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
}

const PREFIX = 'base_model.model.';

/** Tensor names of a module's adapter; `module` is a checkpoint name without `.weight`. */
export function adapterNames(module: string): { readonly a: string; readonly b: string } {
  return { a: `${PREFIX}${module}.lora_A.weight`, b: `${PREFIX}${module}.lora_B.weight` };
}

/** What B·A is multiplied by. */
export function loraScale({ r, lora_alpha }: LoraConfig): number {
  return lora_alpha / r;
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

/**
 * The adapters' tensors, A before B, in the order of the modules. Throws MalformedError('lora-rank', 'lora-alpha', 'lora-target') for
 * options that no adapter can have.
 */
export function adapterTensors(config: DecoderConfig, lora: LoraConfig): TensorInfo[] {
  const { r, lora_alpha, target_modules } = lora;
  if (!Number.isInteger(r) || r < 1) throw new MalformedError('lora-rank', `r is ${r}: give a whole number from 1 on`);
  if (!(lora_alpha > 0 && Number.isFinite(lora_alpha)))
    throw new MalformedError('lora-alpha', `lora_alpha is ${lora_alpha}: give a number above 0`);
  const linears = expectedTensors(config)
    .filter(({ name, shape }) => shape.length === 2 && name.startsWith('model.layers.'))
    .map(({ name, shape }) => ({ module: name.slice(0, -'.weight'.length), shape }));
  for (const target of target_modules) {
    if (linears.some(({ module }) => `.${module}`.endsWith(`.${target}`))) continue;
    const known = [...new Set(linears.map(({ module }) => module.slice(module.lastIndexOf('.') + 1)))].join(', ');
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
