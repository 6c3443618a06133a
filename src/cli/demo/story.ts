// A few sentences by the licensed teacher, through the enclave, token by token.
// Zone: edge.
import { generate } from '../../edge/teacher/generate.js';
import type { LockedTeacher } from '../../edge/teacher/locked-teacher.js';
import type { Tokenizer } from '../../model/tokenizer.js';

/** Greedy continuation of a fixed opening, at most `tokens` charged positions. */
export async function tellStory(
  teacher: LockedTeacher,
  tokenizer: Tokenizer,
  topK: number,
  tokens: number,
): Promise<string> {
  const prompt = 'Once upon a time';
  const ids = [...tokenizer.encode(prompt)];
  const gate = await teacher.gate({ topK, temperature: 1 });
  const stopIds = new Set(teacher.bundle.config.eosTokenIds);
  const options = { maxNewTokens: tokens, topK, temperature: 0, seed: 0, stopIds };
  for await (const id of generate(await teacher.accelerator(), gate, Int32Array.from(ids), options)) ids.push(id);
  return tokenizer.decode(ids, { skipSpecialTokens: true });
}
