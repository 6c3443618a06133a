// Reads safetensors checkpoints, one file or sharded with an index, tensor by tensor through positional reads.
// Zone: edge and owner. A missing shard, a truncated file and an unsupported dtype are errors before or at the read, never wrong numbers.

import type { FileHandle } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { MalformedError, UnsupportedError } from '../../trusted/wire/errors.js';
import type { TensorInfo, TensorSource } from '../tensors.js';
import { fingerprintFiles, openForReading, readExactly, readWhole } from './file-reads.js';
import { type FloatFormat, widen } from './float-formats.js';
import { isRecord, parseJsonObject } from './json-fields.js';
import { parseHeader, parseHeaderLength, type StoredTensor } from './safetensors-header.js';

/** Name of the shard table in a sharded checkpoint. */
export const indexFileName = 'model.safetensors.index.json';

interface Located {
  readonly stored: StoredTensor;
  readonly handle: FileHandle;
  readonly file: string;
}

/** Opens one safetensors file. Throws MalformedError when the header or the size of the file is not right. */
export async function openSafetensors(file: string): Promise<TensorSource> {
  return new SafetensorsSource([await openShard(file)], file);
}

/** Opens every shard an index file names and checks that each tensor is where the index says. */
export async function openShardedSafetensors(indexFile: string): Promise<TensorSource> {
  const { weight_map: map } = parseJsonObject(await readWhole(indexFile), indexFile);
  if (!isRecord(map)) {
    throw new MalformedError('index-invalid', `${indexFile}: "weight_map" must map tensors to files.`, {
      file: indexFile,
      key: 'weight_map',
    });
  }
  const shards = new Map<string, Shard>();
  try {
    for (const [tensor, shard] of Object.entries(map)) {
      if (typeof shard !== 'string' || basename(shard) !== shard) {
        throw new MalformedError('index-invalid', `${indexFile}: "weight_map" gives no file name for ${tensor}.`, {
          file: indexFile,
          tensor,
        });
      }
      const opened = shards.get(shard) ?? (await openNamedShard(indexFile, shard));
      shards.set(shard, opened);
      if (!opened.tensors.some((stored) => stored.name === tensor)) {
        throw new MalformedError(
          'tensor-missing',
          `${opened.file} has no tensor "${tensor}", although ${indexFile} says so: fetch the shard again.`,
          { file: opened.file, tensor },
        );
      }
    }
  } catch (error) {
    await Promise.all([...shards.values()].map((shard) => shard.handle.close()));
    throw error;
  }
  return new SafetensorsSource([...shards.values()], indexFile);
}

interface Shard {
  readonly file: string;
  readonly handle: FileHandle;
  readonly tensors: readonly StoredTensor[];
}

async function openNamedShard(indexFile: string, shard: string): Promise<Shard> {
  const file = join(dirname(indexFile), shard);
  try {
    return await openShard(file);
  } catch (error) {
    if (!(error instanceof MalformedError) || error.code !== 'file-missing') throw error;
    throw new MalformedError(
      'shard-missing',
      `${file} is missing, ${indexFile} needs it: fetch that shard.`,
      { file, index: indexFile },
      error,
    );
  }
}

async function openShard(file: string): Promise<Shard> {
  const { handle, size } = await openForReading(file);
  try {
    const prefix = await readExactly(handle, 0, Math.min(8, size), file, 'the header length');
    const length = parseHeaderLength(prefix, size, file);
    const json = await readExactly(handle, 8, length, file, 'the header');
    return { file, handle, tensors: parseHeader(json, size, file) };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

class SafetensorsSource implements TensorSource {
  readonly #tensors = new Map<string, Located>();
  readonly #shards: readonly Shard[];
  readonly #file: string;

  constructor(shards: readonly Shard[], file: string) {
    this.#shards = shards;
    this.#file = file;
    for (const { tensors, handle, file: shard } of shards) {
      for (const stored of tensors) this.#tensors.set(stored.name, { stored, handle, file: shard });
    }
  }

  list(): readonly TensorInfo[] {
    return [...this.#tensors.keys()].map((name) => this.info(name));
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  info(name: string): TensorInfo {
    const { shape, dtype } = this.#locate(name).stored;
    return { name, shape, dtype };
  }

  async read(name: string): Promise<Float32Array> {
    const { stored } = this.#locate(name);
    return this.#readBytes(name, 0, stored.length);
  }

  async readRows(name: string, start: number, count: number): Promise<Float32Array> {
    const { shape, length } = this.#locate(name).stored;
    const rowBytes = length / (shape[0] ?? 1);
    return this.#readBytes(name, start * rowBytes, count * rowBytes);
  }

  fingerprint(): Promise<string> {
    return fingerprintFiles(this.#shards);
  }

  async close(): Promise<void> {
    await Promise.all(this.#shards.map((shard) => shard.handle.close()));
  }

  async #readBytes(name: string, from: number, length: number): Promise<Float32Array> {
    const { stored, handle, file } = this.#locate(name);
    if (!isFloatFormat(stored.dtype)) {
      throw new UnsupportedError(
        'dtype-unsupported',
        `${file}: tensor "${name}" is stored as ${stored.dtype}; F32, F16 and BF16 can be read. Convert the checkpoint first.`,
        { file, tensor: name, dtype: stored.dtype },
      );
    }
    const bytes = await readExactly(handle, stored.position + from, length, file, `tensor "${name}"`);
    return widen(bytes, stored.dtype);
  }

  #locate(name: string): Located {
    const located = this.#tensors.get(name);
    if (located === undefined) {
      throw new MalformedError('tensor-missing', `${this.#file} has no tensor "${name}".`, {
        file: this.#file,
        tensor: name,
      });
    }
    return located;
  }
}

function isFloatFormat(dtype: string): dtype is FloatFormat {
  return dtype === 'F32' || dtype === 'F16' || dtype === 'BF16';
}
