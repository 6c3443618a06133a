// Regenerates assets/ from the original files: the stories260K teacher as a Hugging Face directory and a slice of TinyStories.
// Usage: node dist/tools/make-assets.js SOURCE (a folder with models/stories260K and text/tinystories).
// The model is llama2.c's version 0 format; queries and keys are reordered for half-split RoPE, the head stays tied.

import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { saveCheckpoint } from '../src/model/checkpoint/hf-directory.js';
import { type MemoryTensor, memoryTensors } from '../src/model/checkpoint/memory-tensors.js';
import { adjacentToHalfSplit } from '../src/model/checkpoint/rope-rows.js';
import { type DecoderConfig, plainFeatures } from '../src/model/config.js';
import { llama2cTokenizer } from './llama2c-tokenizer.js';

const bosId = 1;

/** Seven int32 of header, then float32 tensors; a positive vocabulary size means a tied head. */
function parseModel(bytes: Buffer): { config: DecoderConfig; tensors: MemoryTensor[] } {
  const header = (index: number): number => bytes.readInt32LE(index * 4);
  const [hiddenSize, intermediateSize, layers, heads, keyHeads, vocabSize, length] = [0, 1, 2, 3, 4, 5, 6].map(
    header,
  ) as [number, number, number, number, number, number, number];
  if (vocabSize < 0) throw new Error('Only models with a tied head are expected here.');
  const headDim = hiddenSize / heads;
  let position = 28;
  const take = (...shape: number[]): Float32Array => {
    const count = shape.reduce((product, size) => product * size, 1);
    const values = new Float32Array(
      bytes.buffer.slice(bytes.byteOffset + position, bytes.byteOffset + position + count * 4),
    );
    position += count * 4;
    return values;
  };
  const tensors: MemoryTensor[] = [];
  const add = (name: string, data: Float32Array, ...shape: number[]): void => {
    tensors.push({ name, shape, data });
  };
  const perLayer = (name: string, reorder: boolean, ...shape: number[]): void => {
    for (let layer = 0; layer < layers; layer++) {
      const rows = take(...shape);
      add(
        `model.layers.${layer}.${name}.weight`,
        reorder ? adjacentToHalfSplit(rows, headDim, hiddenSize) : rows,
        ...shape,
      );
    }
  };
  add('model.embed_tokens.weight', take(vocabSize, hiddenSize), vocabSize, hiddenSize);
  perLayer('input_layernorm', false, hiddenSize);
  perLayer('self_attn.q_proj', true, hiddenSize, hiddenSize);
  perLayer('self_attn.k_proj', true, keyHeads * headDim, hiddenSize);
  perLayer('self_attn.v_proj', false, keyHeads * headDim, hiddenSize);
  perLayer('self_attn.o_proj', false, hiddenSize, hiddenSize);
  perLayer('post_attention_layernorm', false, hiddenSize);
  perLayer('mlp.gate_proj', false, intermediateSize, hiddenSize);
  perLayer('mlp.down_proj', false, hiddenSize, intermediateSize);
  perLayer('mlp.up_proj', false, intermediateSize, hiddenSize);
  add('model.norm.weight', take(hiddenSize), hiddenSize);
  if (position + length * headDim * 4 !== bytes.length) throw new Error('The model file has an unexpected size.');
  const config: DecoderConfig = {
    ...plainFeatures,
    modelType: 'llama',
    vocabSize,
    hiddenSize,
    intermediateSize,
    numHiddenLayers: layers,
    numAttentionHeads: heads,
    numKeyValueHeads: keyHeads,
    headDim,
    rmsNormEps: 1e-5,
    ropeTheta: 10000,
    ropeScaling: null,
    maxPositionEmbeddings: length,
    slidingWindow: null,
    qkvBias: false,
    outputBias: false,
    mlpBias: false,
    tieWordEmbeddings: true,
    bosTokenId: bosId,
    // The model ends a story with BOS, as llama2.c does; 2 is the unused </s> of its vocabulary.
    eosTokenIds: [bosId, 2],
    padTokenId: null,
    initializerRange: 0.02,
  };
  return { config, tensors };
}

/** Whole stories from the start of a file, up to about `bytes`. */
function slice(text: string, bytes: number): string {
  const separator = '<|endoftext|>';
  const end = text.indexOf(separator, bytes);
  return end < 0 ? text : `${text.slice(0, end + separator.length)}\n`;
}

async function makeModel(source: string, target: string, fixtures: string): Promise<void> {
  const model = await readFile(join(source, 'stories260K.bin'));
  const vocabulary = await readFile(join(source, 'tok512.bin'));
  const { config, tensors } = parseModel(model);
  await saveCheckpoint(target, config, memoryTensors(tensors), llama2cTokenizer(vocabulary, config));
  await writeFile(join(target, 'LICENSE'), await readFile(join(source, 'LICENSE')));
  await writeFile(join(target, 'README.md'), modelReadme(sha256(model), sha256(vocabulary)));
  await mkdir(fixtures, { recursive: true });
  await writeFile(join(fixtures, 'expected.json'), await readFile(join(source, 'expected.json')));
  await writeFile(join(fixtures, 'tok512.bin'), vocabulary);
}

async function makeText(source: string, target: string): Promise<void> {
  await mkdir(target, { recursive: true });
  for (const [name, bytes] of [
    ['train', 400_000],
    ['valid', 60_000],
  ] as const) {
    await writeFile(join(target, `${name}.txt`), slice(await readFile(join(source, `${name}.txt`), 'utf8'), bytes));
  }
  await writeFile(join(target, 'README.md'), textReadme);
}

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

function modelReadme(model: string, vocabulary: string): string {
  return `# stories260K

A real, trained Llama-architecture language model of 260,032 parameters: the teacher of distillock's demo and tests.

- Trained by Andrej Karpathy on TinyStories (\`karpathy/llama2.c\`, \`doc/stories260K.md\`), published as
  \`karpathy/tinyllamas\` (\`stories260K/\`) on Hugging Face. MIT licence, see \`LICENSE\`.
- Made from the original files by \`tools/make-assets.ts\`:
  - \`stories260K.bin\` SHA-256 \`${model}\`
  - \`tok512.bin\` SHA-256 \`${vocabulary}\`
- Changes: rows of the query and key projections reordered per head (adjacent-pair RoPE to Hugging Face's half-split RoPE);
  the score-ranked vocabulary written as merges. Weights and token ids are otherwise the original's.
- Spaces are literal in the vocabulary and a text is encoded as BOS (1) and the pieces of " " + text. A story ends with BOS.
`;
}

const textReadme = `# TinyStories, a slice

\`train.txt\` and \`valid.txt\`: the first stories of a 2 MiB sample of the TinyStories training split, cut at story boundaries;
stories end with a line \`<|endoftext|>\`. The two files share no story.

- Origin: R. Eldan and Y. Li, "TinyStories: How Small Can Language Models Be and Still Speak Coherent English?", arXiv 2305.07759;
  the sample is \`data/tinystories_sample.txt\` of \`gusjengis/toy-RNN\` on GitHub (commit e4c7ff8).
- Licence: Community Data License Agreement – Sharing – Version 1.0 (CDLA-Sharing-1.0), https://cdla.dev/sharing-1-0/.
  The slice is shared under the same licence; the project's own licence does not cover it.
`;

const source = process.argv[2];
if (source === undefined) {
  console.error('Usage: node dist/tools/make-assets.js SOURCE');
  process.exitCode = 1;
} else {
  await makeModel(join(source, 'models/stories260K'), 'assets/stories260k', 'test/fixtures/stories260k');
  await makeText(join(source, 'text/tinystories'), 'assets/text');
}
