// KL of an int8, rotated model to its float32 original, over the whole vocabulary, on held-out text.
import { readFile } from 'node:fs/promises';
import { openCheckpoint } from '../../src/model/checkpoint/open.js';
import { equaliseNeurons } from '../../src/model/equalise-neurons.js';
import { readSegmentWeight } from '../../src/model/segment-weights.js';
import { buildSegments } from '../../src/model/segments.js';
import type { StreamedFormat } from '../../src/model/streamed-graphs.js';
import { openTokenizer } from '../../src/model/tokenizer.js';
import { createScheme } from '../../src/owner/scheme/lock-scheme.js';
import { lockWeight } from '../../src/owner/scheme/lock-weight.js';
import { vocabularyPermutation } from '../../src/trusted/lock/vocabulary.js';
import { StreamedModel, type WeightOf } from './streamed-model.js';

const tokens = 256;
/** Every fourth position is scored: sorting whole vocabularies takes longer than computing them. */
const stride = 4;

/** Nats a token of each sequence, `sequences` of 256 tokens from the start of a text file. */
export async function int8Divergence(model: string, textFile: string, sequences: number): Promise<number[]> {
  const checkpoint = await openCheckpoint(model);
  const { config, tensors } = checkpoint;
  try {
    const tokenizer = await openTokenizer(checkpoint.tokenizer);
    const text = (await readFile(textFile, 'utf8')).slice(0, 12 * sequences * tokens);
    const ids = tokenizer.encode(text).slice(0, sequences * tokens);
    const weights = buildSegments(config).flatMap((segment) => segment.weights);
    const table = weights.find(({ kind }) => kind === 'table')!;
    const seed = new Uint8Array(32).fill(7);
    const scheme = createScheme('rotation', seed, config, { quantised: true });
    const locked = equaliseNeurons(weights, (weight) => lockWeight(scheme, tensors, weight, 0));
    const to = vocabularyPermutation(seed, 'rotation', config.vocabSize);
    const plainId = Int32Array.from(to, (_, i) => i);
    const lockedId = to as Int32Array;

    async function logprobs(format: StreamedFormat, weightOf: WeightOf, idOf: Int32Array): Promise<Float32Array> {
      const options = { format, groupSequences: 4, headRows: 512, tileColumns: 8192 };
      const streamed = await StreamedModel.open(config, await weightOf(table), weightOf, options);
      const hidden = streamed.embed(ids.map((id) => idOf[id]!));
      for (let i = 0; i < config.numHiddenLayers; i += 1) await streamed.runBlock(i, hidden, sequences, tokens);
      const width = config.hiddenSize;
      const scored = hidden.filter((_, i) => Math.floor(i / width) % stride === stride - 1);
      const rows = scored.length / width;
      const top = await streamed.topK(scored, rows, config.vocabSize, 1);
      await streamed.close();
      const inverse = new Int32Array(config.vocabSize);
      idOf.forEach((position, id) => {
        inverse[position] = id;
      });
      const out = new Float32Array(top.logprobs.length);
      top.ids.forEach((id, i) => {
        out[i - (i % config.vocabSize) + inverse[id]!] = top.logprobs[i]!;
      });
      return out;
    }

    const teacher = await logprobs('float32', (weight) => readSegmentWeight(tensors, weight), plainId);
    const quantised = await logprobs('int8', locked, lockedId);
    const perSequence = teacher.length / sequences;
    return Array.from({ length: sequences }, (_, sequence) => {
      let kl = 0;
      for (let i = sequence * perSequence; i < (sequence + 1) * perSequence; i += 1)
        kl += Math.exp(teacher[i]!) * (teacher[i]! - quantised[i]!);
      return kl / (perSequence / config.vocabSize);
    });
  } finally {
    await tensors.close();
  }
}
