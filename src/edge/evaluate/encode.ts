// Prompts and choices as token ids: through the chat template where the run uses one, else joined as lm-eval joins them.
// Zone: edge. As in training, a token belongs to the choice when the prompt does not already determine it.
import type { ChatTemplate } from '../../model/chat-template.js';
import type { Tokenizer } from '../../model/tokenizer.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import type { Origin } from '../data/record.js';

/** How texts become ids, for all models of a table alike. */
export interface Wording {
  readonly tokenizer: Tokenizer;
  /** Null: prompts are taken as they are. */
  readonly template: ChatTemplate | null;
  /** Tokens that every model of the table can read. */
  readonly maxTokens: number;
}

export interface EncodedChoice {
  readonly ids: Int32Array;
  /** The first token that counts; at least 1. */
  readonly first: number;
  /** Whether the prompt was cut from the left. */
  readonly cut: boolean;
}

/** Throws MalformedError naming file and line for a choice without tokens, or with more than fit. */
export function encodeChoice(
  wording: Wording,
  prompt: string,
  delimiter: string,
  choice: string,
  origin: Origin,
): EncodedChoice {
  const { context, continuation, special } = joined(wording, prompt, delimiter + choice, choice);
  const before = encode(wording, context, special);
  let ids = encode(wording, context + continuation, special);
  let first = sharedTokens(before, ids);
  if (first === 0) {
    ids = Int32Array.of(openingToken(wording, origin), ...ids);
    first = 1;
  }
  const count = ids.length - first;
  if (count === 0) throw problem('task-choice', `the choice ${JSON.stringify(choice)} has no token of its own`, origin);
  if (count >= wording.maxTokens) {
    const message = `the choice has ${count} tokens, and the models read ${wording.maxTokens} at most`;
    throw problem('task-too-long', message, origin);
  }
  const fitted = keepEnd(wording, ids, wording.maxTokens);
  return { ids: fitted, first: first - (ids.length - fitted.length), cut: fitted.length < ids.length };
}

/** A prompt to go on from, cut from the left so that `room` more tokens fit. */
export function encodePrompt(
  wording: Wording,
  prompt: string,
  room: number,
  origin: Origin,
): { readonly ids: Int32Array; readonly cut: boolean } {
  const limit = wording.maxTokens - room;
  if (limit < 1) {
    const message = `max_gen_toks ${room} leaves no room for a prompt: the models read ${wording.maxTokens} tokens`;
    throw problem('task-too-long', message, origin);
  }
  const { context, special } = joined(wording, prompt, '', '');
  const ids = encode(wording, context, special);
  if (ids.length === 0) return { ids: Int32Array.of(openingToken(wording, origin)), cut: false };
  const fitted = keepEnd(wording, ids, limit);
  return { ids: fitted, cut: fitted.length < ids.length };
}

// White space at the end of a prompt goes to the choice: tokenizers join it with the word that follows.
function joined(
  { template }: Wording,
  prompt: string,
  continuation: string,
  answer: string,
): { context: string; continuation: string; special: boolean } {
  if (template !== null) {
    const context = template.render([{ role: 'user', content: prompt }], { addGenerationPrompt: true });
    return { context, continuation: answer, special: false };
  }
  if (continuation === '') return { context: prompt, continuation, special: true };
  const context = prompt.trimEnd();
  return { context, continuation: prompt.slice(context.length) + continuation, special: true };
}

function encode({ tokenizer }: Wording, text: string, special: boolean): Int32Array {
  return text === '' && !special ? new Int32Array(0) : tokenizer.encode(text, { addSpecialTokens: special });
}

// The last `limit` tokens; BOS, where there is one, stays in front.
function keepEnd({ tokenizer }: Wording, ids: Int32Array, limit: number): Int32Array {
  if (ids.length <= limit) return ids;
  const bos = limit > 1 && ids[0] === tokenizer.bosTokenId;
  const kept = ids.slice(ids.length - limit);
  if (bos) kept[0] = ids[0]!;
  return kept;
}

function openingToken({ tokenizer }: Wording, origin: Origin): number {
  const id = tokenizer.bosTokenId ?? tokenizer.eosTokenId;
  if (id !== null) return id;
  throw problem('task-prompt', 'the prompt has no token, and the tokenizer no BOS or EOS to start from', origin);
}

function sharedTokens(a: Int32Array, b: Int32Array): number {
  let n = 0;
  while (n < a.length && n < b.length && a[n] === b[n]) n += 1;
  return n;
}

function problem(code: string, text: string, { file, line }: Origin): MalformedError {
  return new MalformedError(code, `${file}:${line}: ${text}`, { file, line });
}
