// Writes safetensors, streamed tensor by tensor: peak memory is one tensor, whatever the size of the model.
// Zone: edge and owner. Files appear whole or not at all; above `maxShardBytes` the checkpoint is sharded with an index.

import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { MalformedError } from '../../trusted/wire/errors.js';
import { writeAtomically, writeFileAtomic } from '../files.js';
import { type FloatFormat, floatFormatBytes, narrow } from './float-formats.js';
import { indexFileName } from './safetensors.js';

/** A tensor about to be written; `read` is called when its turn comes. */
export interface TensorToWrite {
  readonly name: string;
  readonly shape: readonly number[];
  read(): Promise<Float32Array> | Float32Array;
}

/** Writes one file, data in the given order, with the `{"format":"pt"}` metadata that transformers asks for. */
export async function writeSafetensors(
  file: string,
  tensors: readonly TensorToWrite[],
  dtype: FloatFormat,
): Promise<void> {
  const header: Record<string, unknown> = { __metadata__: { format: 'pt' } };
  let offset = 0;
  for (const tensor of tensors) {
    if (Object.hasOwn(header, tensor.name)) {
      throw new MalformedError('tensor-duplicate', `${file}: tensor "${tensor.name}" is given twice.`, {
        file,
        tensor: tensor.name,
      });
    }
    const end = offset + storedBytes(tensor, dtype);
    header[tensor.name] = { dtype, shape: tensor.shape, data_offsets: [offset, end] };
    offset = end;
  }
  // Padded with spaces to a multiple of eight, as the reference writer does, so that the data is aligned.
  const json = Buffer.from(JSON.stringify(header));
  const padded = Buffer.alloc(Math.ceil(json.length / 8) * 8, ' ');
  json.copy(padded);
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(padded.length));
  await writeAtomically(file, async (append) => {
    await append(prefix);
    await append(padded);
    for (const tensor of tensors) {
      const values = await tensor.read();
      const bytes = narrow(values, dtype);
      if (bytes.length !== storedBytes(tensor, dtype)) {
        throw new MalformedError(
          'tensor-shape',
          `${file}: tensor "${tensor.name}" has ${values.length} values, shape [${tensor.shape.join(', ')}] needs another number.`,
          { file, tensor: tensor.name },
        );
      }
      await append(bytes);
    }
  });
}

/** Writes `model.safetensors` into a folder, or shards and their index when the model is larger than `maxShardBytes`. */
export async function writeShards(
  folder: string,
  tensors: readonly TensorToWrite[],
  dtype: FloatFormat,
  maxShardBytes = 5_000_000_000,
): Promise<void> {
  const shards = planShards(tensors, dtype, maxShardBytes);
  if (shards.length <= 1) return writeSafetensors(join(folder, 'model.safetensors'), tensors, dtype);
  const weightMap: Record<string, string> = {};
  let totalSize = 0;
  for (const [index, shard] of shards.entries()) {
    const name = `model-${number5(index + 1)}-of-${number5(shards.length)}.safetensors`;
    await writeSafetensors(join(folder, name), shard, dtype);
    for (const tensor of shard) {
      weightMap[tensor.name] = name;
      totalSize += storedBytes(tensor, dtype);
    }
  }
  // Readers prefer a single file; one left from before would hide the shards.
  await rm(join(folder, 'model.safetensors'), { force: true });
  const index = { metadata: { total_size: totalSize }, weight_map: weightMap };
  await writeFileAtomic(join(folder, indexFileName), Buffer.from(`${JSON.stringify(index, null, 2)}\n`));
}

function planShards(tensors: readonly TensorToWrite[], dtype: FloatFormat, maxShardBytes: number): TensorToWrite[][] {
  const shards: TensorToWrite[][] = [];
  let room = 0;
  for (const tensor of tensors) {
    const size = storedBytes(tensor, dtype);
    const current = shards.at(-1);
    if (current === undefined || size > room) {
      shards.push([tensor]);
      room = maxShardBytes - size;
    } else {
      current.push(tensor);
      room -= size;
    }
  }
  return shards;
}

function storedBytes(tensor: TensorToWrite, dtype: FloatFormat): number {
  return tensor.shape.reduce((product, size) => product * size, 1) * floatFormatBytes[dtype];
}

function number5(value: number): string {
  return String(value).padStart(5, '0');
}
