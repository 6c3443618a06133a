// Texts that a locked model writes in its own locked ids: the accelerator alone, no enclave. Zone: owner (as attacker).
// The first tokens are left out: the attacker does not know which id begins a text and starts anywhere.
import { RandomStream } from '../edge/data/random.js';
import { openGate } from '../edge/teacher/gate.js';
import { forward, type Runner } from '../edge/teacher/pass.js';

export interface SampleOptions {
  readonly texts: number;
  readonly tokens: number;
  readonly seed: number;
}

/** Sampled from the 64 likeliest ids at temperature 1. */
const CANDIDATES = 64;
const WARM_UP = 4;

export async function sampleLocked(
  runner: Runner,
  { texts, tokens, seed }: SampleOptions,
): Promise<readonly Int32Array[]> {
  const { vocabSize, hiddenSize: width } = runner.config;
  const random = new RandomStream('audit/sample', seed);
  const k = Math.min(CANDIDATES, vocabSize);
  const written = Array.from({ length: texts }, () => new Int32Array(WARM_UP + tokens));
  for (const text of written) text[0] = random.below(vocabSize);
  for (let length = 1; length < WARM_UP + tokens; length += 1) {
    const ids = new Int32Array(texts * length);
    written.forEach((text, row) => {
      ids.set(text.subarray(0, length), row * length);
    });
    const layout = { batch: texts, tokens: length, lengths: written.map(() => length) };
    const hidden = (await forward(runner, openGate, ids, layout)) as Float32Array;
    const last = new Float32Array(texts * width);
    for (let row = 0; row < texts; row += 1) {
      const end = (row + 1) * length * width;
      last.set(hidden.subarray(end - width, end), row * width);
    }
    const answers = await runner.topK(last, texts, k, 1);
    written.forEach((text, row) => {
      text[length] = draw(answers.ids, answers.logprobs, row * k, k, random.uniform());
    });
  }
  return written.map((text) => text.subarray(WARM_UP));
}

function draw(ids: Int32Array, logprobs: Float32Array, at: number, k: number, uniform: number): number {
  let mass = 0;
  for (let i = at; i < at + k; i += 1) mass += Math.exp(logprobs[i]!);
  let left = uniform * mass;
  for (let i = at; i < at + k; i += 1) {
    left -= Math.exp(logprobs[i]!);
    if (left <= 0) return ids[i]!;
  }
  return ids[at]!;
}
