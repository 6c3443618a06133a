// A base and its adapters as one checkpoint: every weight is merged when it is read, W + s·B·A, so that a model of any size can be run,
// locked or written merged. Zone: edge and owner.
import { createHash } from 'node:crypto';
import { adapterNames, addLowRank, hasAdapter, loraScale, PREFIX, savedTensors } from '../lora.js';
import { fingerprintOf, type TensorSource } from '../tensors.js';
import type { Checkpoint } from './hf-directory.js';
import { type Adapter, openAdapter } from './peft.js';
import { readTokenizerFiles } from './tokenizer-files.js';

/** Puts the adapters in `folder` on an open base, which it then owns: closing the result closes both. `name` is what the base is called. */
export async function adaptCheckpoint(base: Checkpoint, folder: string, name: string): Promise<Checkpoint> {
  const adapter = await openAdapter(folder, base.config, name).catch(async (error: unknown) => {
    await base.tensors.close();
    throw error;
  });
  const tokenizer = await readTokenizerFiles(folder).catch(() => base.tokenizer);
  return { path: folder, config: base.config, tensors: mergedTensors(base, adapter), tokenizer };
}

function mergedTensors({ config, tensors }: Checkpoint, { lora, tensors: own }: Adapter): TensorSource {
  const saved = new Set(savedTensors(config, lora).map(({ name }) => name));
  const scale = loraScale(lora);
  const readRows = tensors.readRows?.bind(tensors);
  const add = async (name: string, w: Float32Array, start: number): Promise<Float32Array> => {
    const module = name.replace(/\.weight$/, '');
    if (module === name || !hasAdapter(module, lora)) return w;
    const names = adapterNames(module);
    const [a, b] = [await own.read(names.a), await own.read(names.b)];
    const rows = w.length / (a.length / lora.r);
    const merged = w.slice();
    addLowRank(merged, b.subarray(start * lora.r, (start + rows) * lora.r), a, scale, lora.r);
    return merged;
  };
  return {
    list: () => tensors.list(),
    has: (name) => tensors.has(name),
    info: (name) => tensors.info(name),
    read: async (name) => (saved.has(name) ? own.read(`${PREFIX}${name}`) : add(name, await tensors.read(name), 0)),
    ...(readRows === undefined
      ? {}
      : {
          readRows: async (name: string, start: number, count: number) =>
            saved.has(name)
              ? own.readRows!(`${PREFIX}${name}`, start, count)
              : add(name, await readRows(name, start, count), start),
        }),
    fingerprint: async () => {
      const both = JSON.stringify([await fingerprintOf(tensors), await fingerprintOf(own), lora]);
      return createHash('sha256').update(both).digest('hex');
    },
    close: async () => {
      await tensors.close();
      await own.close();
    },
  };
}
