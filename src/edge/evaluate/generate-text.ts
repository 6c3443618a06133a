// A greedy answer as text, ended before a stop text. Zone: edge.
import type { Tokenizer } from '../../model/tokenizer.js';
import type { Accelerator } from '../teacher/accelerator.js';
import type { Gate } from '../teacher/gate.js';
import { generate } from '../teacher/generate.js';

export interface GenerateTextOptions {
  readonly maxNewTokens: number;
  readonly until: readonly string[];
  readonly stopIds: ReadonlySet<number>;
  readonly signal?: AbortSignal;
}

/** `gate` answers with one token at temperature 1; each token, and the end where there is one, is one charged position. */
export async function generateText(
  accelerator: Accelerator,
  gate: Gate,
  tokenizer: Tokenizer,
  promptIds: Int32Array,
  { maxNewTokens, until, stopIds, signal }: GenerateTextOptions,
): Promise<string> {
  const stream = tokenizer.stream({ skipSpecialTokens: true });
  // The end of the prompt goes first, so that the first new piece keeps its leading space.
  for (const id of promptIds.slice(-8)) stream.push(id);
  let text = '';
  const settings = { maxNewTokens, topK: 1, temperature: 0, seed: 0, stopIds, ...(signal ? { signal } : {}) };
  for await (const id of generate(accelerator, gate, promptIds, settings)) {
    text += stream.push(id);
    if (cutAt(text, until) !== null) break;
  }
  text += stream.end();
  return text.slice(0, cutAt(text, until) ?? text.length);
}

function cutAt(text: string, until: readonly string[]): number | null {
  const found = until.map((stop) => text.indexOf(stop)).filter((at) => at >= 0);
  return found.length === 0 ? null : Math.min(...found);
}
