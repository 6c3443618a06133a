// Which characters of a rendered conversation the assistant wrote, found by rendering the conversation turn by turn.
// Zone: edge (DESIGN section 8). Works with any template that does not rewrite earlier turns, and says so when one does.
import { UnsupportedError } from '../../trusted/wire/errors.js';
import type { Message } from './record.js';

/** The part of a chat template that data needs; `model/chat-template.ts` has it. */
export interface DataTemplate {
  render(messages: readonly Message[], options?: { readonly addGenerationPrompt?: boolean }): string;
}

/** Characters [start, end) of the rendered text. */
export interface Span {
  readonly start: number;
  readonly end: number;
}

export interface RenderedChat {
  readonly text: string;
  /** One per assistant message: from where the generation prompt ends to the end of the turn. */
  readonly assistant: readonly Span[];
}

/** Throws UnsupportedError when the template renders a turn differently once others follow it. */
export function renderChat(messages: readonly Message[], template: DataTemplate): RenderedChat {
  const text = template.render(messages);
  const assistant: Span[] = [];
  for (const [i, message] of messages.entries()) {
    if (message.role !== 'assistant') continue;
    const before =
      i === 0 ? 0 : sharedLength(template.render(messages.slice(0, i), { addGenerationPrompt: true }), text);
    const through = template.render(messages.slice(0, i + 1));
    const previousEnd = assistant.at(-1)?.end ?? 0;
    if (!text.startsWith(through) || before < previousEnd || before >= through.length) {
      throw new UnsupportedError(
        'template-rewrites-turns',
        `the chat template renders message ${i + 1} of ${messages.length} differently when others follow, so what the assistant ` +
          'wrote cannot be located; turn assistant_only_loss off or use prompt/completion data',
        { message: i + 1 },
      );
    }
    assistant.push({ start: before, end: through.length });
  }
  return { text, assistant };
}

function sharedLength(a: string, b: string): number {
  const limit = Math.min(a.length, b.length);
  let n = 0;
  while (n < limit && a.charCodeAt(n) === b.charCodeAt(n)) n++;
  return n;
}
