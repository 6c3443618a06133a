// A llama2.c model as a Hugging Face directory: node dist/tools/import-llama2c.js MODEL.bin VOCABULARY OUT
// VOCABULARY is llama2.c's tokenizer file, or a JSON list of pieces without scores, U+2581 for spaces (then nothing is merged: one token per character).
import { readFile } from 'node:fs/promises';
import { saveCheckpoint } from '../src/model/checkpoint/hf-directory.js';
import { memoryTensors } from '../src/model/checkpoint/memory-tensors.js';
import { parseLlama2cModel } from './llama2c-model.js';
import { llama2cTokenizer, parseLlama2cVocabulary } from './llama2c-tokenizer.js';

const [model, vocabulary, out] = process.argv.slice(2);
if (model === undefined || vocabulary === undefined || out === undefined)
  throw new Error('usage: import-llama2c MODEL.bin VOCABULARY OUT');
const { config, tensors } = parseLlama2cModel(await readFile(model));
const bytes = await readFile(vocabulary);
const pieces = vocabulary.endsWith('.json')
  ? (JSON.parse(bytes.toString()) as string[]).map((text) => ({ text: text.replaceAll('▁', ' '), score: 0 }))
  : parseLlama2cVocabulary(bytes);
await saveCheckpoint(out, config, memoryTensors(tensors), llama2cTokenizer(pieces, config));
