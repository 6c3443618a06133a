// A checkpoint of Llama-3-8B's shapes with fewer blocks, random bfloat16 weights, in shards: written piece by piece, since it is larger
// than memory may be.
import { mkdir, open, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expectedTensors } from '../../src/model/checkpoint/expected-tensors.js';
import { narrow } from '../../src/model/checkpoint/float-formats.js';
import { toHfConfig } from '../../src/model/checkpoint/hf-config.js';
import { indexFileName } from '../../src/model/checkpoint/safetensors.js';
import type { DecoderConfig } from '../../src/model/config.js';
import { randomFloats, smolLm2 } from './shapes.js';

/** 4.1 G weights, 8.2 GB in bfloat16. */
export const llama3Shape: DecoderConfig = {
  ...smolLm2,
  vocabSize: 128_256,
  hiddenSize: 4096,
  intermediateSize: 14_336,
  numHiddenLayers: 14,
  numAttentionHeads: 32,
  numKeyValueHeads: 8,
  headDim: 128,
  ropeTheta: 500_000,
  maxPositionEmbeddings: 8192,
  tieWordEmbeddings: false,
};

/** Odd, so that the rows of a weight do not repeat each other. */
const pieceWeights = (8 << 20) + 1;

/** Writes the folder; the tokenizer is the bundled one, much smaller than the vocabulary. Returns its weights' bytes. */
export async function writeLargeCheckpoint(folder: string, config: DecoderConfig, shards: number): Promise<number> {
  await mkdir(folder, { recursive: true });
  const tensors = expectedTensors(config).map(({ name, shape }) => {
    return { name, shape, bytes: 2 * shape.reduce((a, b) => a * b, 1) };
  });
  const total = tensors.reduce((sum, { bytes }) => sum + bytes, 0);
  const piece = narrow(randomFloats(pieceWeights, 8, 0.04), 'BF16');
  const weightMap: Record<string, string> = {};
  let written = 0;
  for (let shard = 0; shard < shards; shard++) {
    const name = `model-${shard + 1}-of-${shards}.safetensors`;
    const header: Record<string, object> = {};
    let length = 0;
    while (tensors.length > 0 && (shard === shards - 1 || written + length < (total * (shard + 1)) / shards)) {
      const { name: tensor, shape, bytes } = tensors.shift()!;
      header[tensor] = { dtype: 'BF16', shape, data_offsets: [length, length + bytes] };
      weightMap[tensor] = name;
      length += bytes;
    }
    const json = Buffer.from(JSON.stringify(header));
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(BigInt(json.length));
    const handle = await open(join(folder, name), 'w');
    await handle.write(Buffer.concat([prefix, json]));
    for (let left = length; left > 0; left -= Math.min(left, piece.length))
      await handle.write(piece, 0, Math.min(left, piece.length));
    await handle.sync();
    await handle.close();
    written += length;
  }
  await writeFile(join(folder, indexFileName), JSON.stringify({ weight_map: weightMap }));
  await writeFile(join(folder, 'config.json'), JSON.stringify(toHfConfig(config)));
  const tokenizer = await readFile(new URL('../../../assets/stories260k/tokenizer.json', import.meta.url));
  await writeFile(join(folder, 'tokenizer.json'), tokenizer);
  return total;
}
