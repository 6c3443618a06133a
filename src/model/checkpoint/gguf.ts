// A GGUF file as a checkpoint: header, tensors dequantised one at a time, configuration and tokenizer from its metadata.
// Zone: edge and owner. Names, shapes and row order come out as Hugging Face has them.

import type { FileHandle } from 'node:fs/promises';
import { MalformedError, UnsupportedError } from '../../trusted/wire/errors.js';
import type { DecoderConfig } from '../config.js';
import { importGemma3 } from '../families/gemma3_text.js';
import { familyOf } from '../families/index.js';
import type { TensorInfo, TensorSource } from '../tensors.js';
import { checkTensors } from './expected-tensors.js';
import { fingerprintFiles, openForReading, readExactly } from './file-reads.js';
import { parseGgufConfig } from './gguf-config.js';
import { type BlockFormat, blockFormat } from './gguf-dequantise.js';
import { type GgufHeader, type GgufTensor, needMore, parseGgufHeader } from './gguf-header.js';
import { isRotated, ropeFactorsName, toHfName } from './gguf-names.js';
import { ggufTokenizer } from './gguf-tokenizer.js';
import type { Checkpoint } from './hf-directory.js';
import { adjacentToHalfSplit } from './rope-rows.js';

/** Throws MalformedError for a damaged or truncated file, UnsupportedError for an architecture or quantisation not built here. */
export async function openGguf(file: string): Promise<Checkpoint> {
  const { handle, size } = await openForReading(file);
  try {
    const header = await readHeader(handle, size, file);
    const { metadata } = header;
    const parts = metadata['split.count'];
    if (typeof parts === 'number' && parts > 1) {
      throw new UnsupportedError(
        'gguf-split',
        `${file} is one of ${parts} parts; join them with llama-gguf-split --merge first.`,
        { file },
      );
    }
    const stored = locate(header, size, file);
    const factors = stored.get(ropeFactorsName);
    refuseLongRope(stored, file);
    const architecture = String(metadata['general.architecture']);
    const source = new GgufSource(handle, file, stored, architecture);
    const embedding = source.has('model.embed_tokens.weight') ? source.info('model.embed_tokens.weight').shape : [0];
    const config = parseGgufConfig(
      metadata,
      {
        has: (name) => source.has(name),
        vocabSize: embedding[0]!,
        ropeFactors: factors === undefined ? undefined : await source.readStored(factors),
      },
      file,
    );
    source.headDim = config.headDim;
    const tensors = importGguf(source, config);
    checkTensors(tensors, config, file);
    return { path: file, config, tensors, tokenizer: ggufTokenizer(metadata, config, file) };
  } catch (error) {
    await handle.close();
    throw error;
  }
}

/** llama.cpp's conversion has already added the 1 that Gemma's own checkpoints leave out of their gains. */
function importGguf(source: TensorSource, config: DecoderConfig): TensorSource {
  if (config.modelType === 'gemma3_text') return importGemma3(source, config, 0);
  return familyOf(config.modelType, 'config').importTensors?.(source, config) ?? source;
}

/** Two sets of frequency factors, for short and long contexts (Phi-3 128k). */
function refuseLongRope(stored: ReadonlyMap<string, Stored>, file: string): void {
  const tensor = [...stored.keys()].find((name) => /^rope_factors_(long|short)\b/.test(name));
  if (tensor === undefined) return;
  throw new UnsupportedError(
    'rope-unsupported',
    `${file}: tensor "${tensor}" asks for longrope scaling, which is not supported; use the variant with the short context.`,
    { file, tensor },
  );
}

/** Reads a growing prefix until the header is whole: vocabularies make it megabytes long and nothing says how long beforehand. */
async function readHeader(handle: FileHandle, size: number, file: string): Promise<GgufHeader> {
  for (let length = 4 << 20; ; length *= 4) {
    const prefix = await readExactly(handle, 0, Math.min(length, size), file, 'the header');
    const header = parseGgufHeader(prefix, size, file);
    if (header !== needMore) return header;
  }
}

interface Stored extends GgufTensor {
  readonly format: BlockFormat;
  readonly bytes: number;
}

/** Sizes every tensor and checks that it lies inside the file and overlaps no other. */
function locate({ tensors }: GgufHeader, size: number, file: string): Map<string, Stored> {
  const stored = tensors.map((tensor) => {
    const format = blockFormat(tensor.type, tensor.name, file);
    const weights = tensor.dimensions.reduce((product, extent) => product * extent, 1);
    if (tensor.dimensions[0]! % format.blockSize !== 0) {
      throw damaged(
        file,
        tensor.name,
        `has rows of ${tensor.dimensions[0]} weights, no multiple of the ${format.blockSize} of ${format.name}`,
      );
    }
    return { ...tensor, format, bytes: (weights / format.blockSize) * format.blockBytes };
  });
  let end = 0;
  for (const tensor of [...stored].sort((a, b) => a.position - b.position)) {
    if (tensor.position < end) throw damaged(file, tensor.name, 'overlaps the tensor before it');
    end = tensor.position + tensor.bytes;
    if (end > size) throw damaged(file, tensor.name, `should end at byte ${end}, the file ends at ${size}`);
  }
  return new Map(stored.map((tensor) => [tensor.name, tensor]));
}

function damaged(file: string, tensor: string, what: string): MalformedError {
  return new MalformedError(
    'gguf-damaged',
    `${file}: tensor "${tensor}" ${what}: the file is damaged or truncated, fetch it again.`,
    {
      file,
      tensor,
    },
  );
}

class GgufSource implements TensorSource {
  /** Set once the configuration is known; rows of queries and keys are reordered per head. */
  headDim = 2;
  readonly #handle: FileHandle;
  readonly #file: string;
  readonly #tensors = new Map<string, Stored>();
  readonly #adjacentPairs: boolean;

  constructor(handle: FileHandle, file: string, stored: ReadonlyMap<string, Stored>, architecture: string) {
    this.#handle = handle;
    this.#file = file;
    this.#adjacentPairs = architecture === 'llama';
    for (const tensor of stored.values()) {
      const name = toHfName(tensor.name, architecture);
      if (name !== undefined) this.#tensors.set(name, tensor);
    }
  }

  list(): readonly TensorInfo[] {
    return [...this.#tensors.keys()].map((name) => this.info(name));
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  info(name: string): TensorInfo {
    const { dimensions, format } = this.#find(name);
    return { name, shape: [...dimensions].reverse(), dtype: format.name };
  }

  async read(name: string): Promise<Float32Array> {
    const stored = this.#find(name);
    const values = await this.readStored(stored);
    if (!this.#adjacentPairs || !isRotated(name)) return values;
    return adjacentToHalfSplit(values, this.headDim, stored.dimensions.length === 1 ? 1 : stored.dimensions[0]!);
  }

  async readRows(name: string, start: number, count: number): Promise<Float32Array> {
    const stored = this.#find(name);
    const width = stored.dimensions[0]!;
    // Rotated rows come from all over their head; these tensors are small.
    if (this.#adjacentPairs && isRotated(name))
      return (await this.read(name)).subarray(start * width, (start + count) * width);
    return this.readStored(stored, start * width, count * width);
  }

  fingerprint(): Promise<string> {
    return fingerprintFiles([{ file: this.#file, handle: this.#handle }]);
  }

  /** `count` weights from weight `start` on, whole blocks; all of them by default. */
  async readStored(stored: Stored, start = 0, count?: number): Promise<Float32Array> {
    const { blockSize, blockBytes } = stored.format;
    const position = stored.position + (start / blockSize) * blockBytes;
    const length = count === undefined ? stored.bytes : (count / blockSize) * blockBytes;
    const bytes = await readExactly(this.#handle, position, length, this.#file, `tensor "${stored.name}"`);
    const values = new Float32Array((length / blockBytes) * blockSize);
    stored.format.dequantise(bytes, values);
    return values;
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  #find(name: string): Stored {
    const stored = this.#tensors.get(name);
    if (stored === undefined) {
      throw new MalformedError('tensor-missing', `${this.#file} has no tensor for "${name}".`, {
        file: this.#file,
        tensor: name,
      });
    }
    return stored;
  }
}
