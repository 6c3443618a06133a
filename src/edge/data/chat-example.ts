// A conversation as one example: the template's text in tokens, and which of them the assistant has to predict.
// Zone: edge (DESIGN section 8). A template that leaves a message out is refused: what is not shown is not learnt from.
import { MalformedError, UnsupportedError } from '../../trusted/wire/errors.js';
import { type DataTemplate, renderChat, type Span } from './chat-spans.js';
import { createExample, type Example } from './example.js';
import type { Message, Origin } from './record.js';

/** The part of a tokenizer that data needs; `model/tokenizer.ts` has it. */
export interface DataTokenizer {
  readonly bosTokenId: number | null;
  readonly eosTokenId: number | null;
  readonly specialTokenIds: ReadonlySet<number>;
  encode(text: string, options?: { readonly addSpecialTokens?: boolean }): Int32Array;
}

export interface Conversation {
  readonly messages: readonly Message[];
  readonly origin: Origin;
}

/** Encodes conversations by one template. Errors name file and line. */
export class ChatEncoder {
  readonly #tokenizer: DataTokenizer;
  readonly #template: DataTemplate;
  /** Roles that the template is known to show, as the first message or later. */
  readonly #shown = new Set<string>();

  constructor(tokenizer: DataTokenizer, template: DataTemplate) {
    this.#tokenizer = tokenizer;
    this.#template = template;
  }

  /** Every token but the first counts. Throws MalformedError('template-refused') and UnsupportedError('template-role'). */
  encode(conversation: Conversation): Example {
    const text = this.#rendered(conversation, (template) => template.render(conversation.messages));
    const ids = this.#ids(text);
    return createExample(ids, new Uint8Array(ids.length).fill(1, 1));
  }

  /**
   * The assistant's turns from message `from` on count, each up to and including the token that ends it. Throws what `encode` throws,
   * UnsupportedError('template-rewrites-turns'), and MalformedError('dataset-mismatch') when the assistant says nothing.
   */
  encodeAnswers(conversation: Conversation, from = 0): Example {
    const { messages, origin } = conversation;
    const { text, assistant } = this.#rendered(conversation, (template) => renderChat(messages, template));
    const earlier = messages.slice(0, from).filter(({ role }) => role === 'assistant').length;
    const answers = assistant.slice(earlier);
    if (answers.length === 0) throw mismatch(origin, 'there is no message of role "assistant" to learn from');
    const ids = this.#ids(text);
    const mask = new Uint8Array(ids.length);
    for (const span of answers)
      mask.fill(1, Math.max(1, this.#tokensBefore(text, span.start, ids)), this.#turnEnd(text, span, ids));
    return createExample(ids, mask);
  }

  #rendered<T>({ messages, origin }: Conversation, render: (template: DataTemplate) => T): T {
    try {
      const rendered = render(this.#template);
      this.#requireRoles(messages);
      return rendered;
    } catch (error) {
      throw located(error, origin);
    }
  }

  // A role is shown when the text changes with what a message of it says.
  #requireRoles(messages: readonly Message[]): void {
    for (const [i, { role, content }] of messages.entries()) {
      const key = `${i === 0 ? 'first' : 'later'} ${role}`;
      if (this.#shown.has(key)) continue;
      const changed = messages.map((message, j) => (j === i ? { role, content: `${content}\u2020` } : message));
      if (this.#template.render(changed) === this.#template.render(messages)) {
        const message = `the chat template does not show message ${i + 1}, of role "${role}": leave such messages out of the data, or use a tokenizer whose template has the role`;
        throw new UnsupportedError('template-role', message, { role });
      }
      this.#shown.add(key);
    }
  }

  #ids(text: string): Int32Array {
    return this.#tokenizer.encode(text, { addSpecialTokens: false });
  }

  /** Index of the first token that the first `characters` characters do not determine. */
  #tokensBefore(text: string, characters: number, ids: Int32Array): number {
    if (characters === text.length) return ids.length;
    return sharedTokens(this.#ids(text.slice(0, characters)), ids);
  }

  /** Templates write white space after the token that ends a turn; a model never generates it, so it does not count. */
  #turnEnd(text: string, span: Span, ids: Int32Array): number {
    const { specialTokenIds } = this.#tokenizer;
    const end = this.#tokensBefore(text, span.end, ids);
    const trimmed = text.slice(0, span.end).trimEnd().length;
    if (trimmed === span.end || trimmed <= span.start) return end;
    // Special tokens divide a text, so what follows one is tokenised by itself: no need to encode the whole text again.
    const space = this.#ids(text.slice(trimmed, span.end));
    const first = end - space.length;
    const apart = first > 0 && space.every((id, i) => ids[first + i] === id) && specialTokenIds.has(ids[first - 1]!);
    if (apart) return first;
    const before = this.#tokensBefore(text, trimmed, ids);
    return specialTokenIds.has(ids[before - 1]!) ? before : end;
  }
}

/** How many tokens two encodings have in common from their beginning. */
export function sharedTokens(a: Int32Array, b: Int32Array): number {
  let n = 0;
  while (n < a.length && n < b.length && a[n] === b[n]) n++;
  return n;
}

/** Options that do not fit a record. */
export function mismatch({ file, line }: Origin, problem: string): MalformedError {
  return new MalformedError('dataset-mismatch', `${file}:${line}: ${problem}`, { file, line });
}

function located(error: unknown, { file, line }: Origin): unknown {
  const at = (message: string): string => `${file}:${line}: ${message}`;
  if (error instanceof MalformedError)
    return new MalformedError(error.code, at(error.message), { ...error.details, file, line }, error);
  if (error instanceof UnsupportedError)
    return new UnsupportedError(error.code, at(error.message), { ...error.details, file, line }, error);
  return error;
}
