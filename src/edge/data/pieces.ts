// An example as text again, token by token, with what counts in the loss: for people who want to see what a run learns from.
// Zone: edge.
import type { Example } from './example.js';
import type { DataRecord } from './record.js';

/** What showing needs of a tokenizer; `model/tokenizer.ts` has it. */
export interface TokenText {
  stream(): { push(id: number): string; end(): string };
}

export interface Piece {
  /** null where there is no tokenizer. */
  readonly id: number | null;
  /** What the token adds to the text; empty until all bytes of a character are there. */
  readonly text: string;
  readonly counts: boolean;
}

/** One piece for each token. Their texts joined are the example's text. */
export function piecesOf({ inputIds, lossMask }: Example, tokenizer: TokenText): Piece[] {
  const stream = tokenizer.stream();
  const pieces = Array.from(inputIds, (id, i) => ({ id, text: stream.push(id), counts: lossMask[i] === 1 }));
  const rest = stream.end();
  const last = pieces.at(-1);
  if (last !== undefined) last.text += rest;
  return pieces;
}

export interface LossOptions {
  readonly completionOnlyLoss: boolean | null;
  readonly assistantOnlyLoss: boolean;
}

/** A record without a tokenizer: its parts as they stand in the file, a role before each message. */
export function partsOf(record: DataRecord, { completionOnlyLoss, assistantOnlyLoss }: LossOptions): Piece[] {
  const piece = (text: string, counts: boolean): Piece => ({ id: null, text, counts });
  if (record.kind === 'text') return [piece(record.text, true)];
  if (record.kind === 'completion') {
    const promptCounts = completionOnlyLoss === false && !assistantOnlyLoss;
    return [piece(record.rawPrompt, promptCounts), piece(record.completion, true)];
  }
  const { messages, completionFrom } = record;
  const onlyAnswers = assistantOnlyLoss || (completionFrom !== undefined && completionOnlyLoss !== false);
  return messages.flatMap(({ role, content }, i) => {
    const counts = !onlyAnswers || (role === 'assistant' && i >= (completionFrom ?? 0));
    return [piece(`${i === 0 ? '' : '\n'}${role}: `, false), piece(content, counts)];
  });
}
