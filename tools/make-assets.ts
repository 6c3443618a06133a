// Regenerates assets/ from the original files: the stories260K teacher as a Hugging Face directory and a slice of TinyStories.
// Usage: node dist/tools/make-assets.js SOURCE (a folder with models/stories260K and text/tinystories).

import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { saveCheckpoint } from '../src/model/checkpoint/hf-directory.js';
import { memoryTensors } from '../src/model/checkpoint/memory-tensors.js';
import { parseLlama2cModel } from './llama2c-model.js';
import { llama2cTokenizer, parseLlama2cVocabulary } from './llama2c-tokenizer.js';

/** Whole stories from the start of a file, up to about `bytes`. */
function slice(text: string, bytes: number): string {
  const separator = '<|endoftext|>';
  const end = text.indexOf(separator, bytes);
  return end < 0 ? text : `${text.slice(0, end + separator.length)}\n`;
}

async function makeModel(source: string, target: string, fixtures: string): Promise<void> {
  const model = await readFile(join(source, 'stories260K.bin'));
  const vocabulary = await readFile(join(source, 'tok512.bin'));
  const { config, tensors } = parseLlama2cModel(model);
  await saveCheckpoint(
    target,
    config,
    memoryTensors(tensors),
    llama2cTokenizer(parseLlama2cVocabulary(vocabulary), config),
  );
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
