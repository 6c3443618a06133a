// Chat templates: messages → text, with the Jinja template that came with the tokenizer.
// Zone: edge and owner. Reads `chat_template.jinja` first, then `chat_template` in tokenizer_config.json (string or named list).

import { Template } from '@huggingface/jinja';
import { MalformedError } from '../trusted/wire/errors.js';
import { isRecord, parseJsonObject } from './checkpoint/json-fields.js';
import type { TokenizerFiles } from './checkpoint/tokenizer-files.js';

export interface ChatMessage {
  readonly role: string;
  readonly content: string;
}

export interface RenderOptions {
  /** Ends the text with the opening of the assistant's turn; false by default. */
  readonly addGenerationPrompt?: boolean;
  /** Further variables a template may know (`tools`, `enable_thinking`). */
  readonly variables?: Readonly<Record<string, unknown>>;
}

export interface ChatTemplate {
  /** The Jinja text itself. */
  readonly source: string;
  /** Throws MalformedError when the template refuses the messages (for instance roles that do not alternate). */
  render(messages: readonly ChatMessage[], options?: RenderOptions): string;
}

/** The template called `name` (or the only one), null when the tokenizer has none. Throws MalformedError for broken Jinja. */
export function openChatTemplate(files: TokenizerFiles, name = 'default'): ChatTemplate | null {
  const bytes = files['tokenizer_config.json'];
  const config = bytes === undefined ? {} : parseJsonObject(bytes, 'tokenizer_config.json');
  const own = files['chat_template.jinja'];
  const source = own !== undefined && name === 'default' ? new TextDecoder().decode(own) : inlineTemplate(config, name);
  return source === null ? null : chatTemplate(source, specialTokens(config));
}

/** Compiles a template given as text; `variables` are the special tokens it may name (`bos_token`, `eos_token`). */
export function chatTemplate(source: string, variables: Readonly<Record<string, unknown>> = {}): ChatTemplate {
  let template: Template;
  try {
    template = new Template(source);
  } catch (error) {
    throw new MalformedError('template-invalid', `The chat template is not valid Jinja: ${reason(error)}`, {}, error);
  }
  return {
    source,
    render(messages, options = {}) {
      try {
        return template.render({
          ...variables,
          ...options.variables,
          messages: messages.map((message) => ({ ...message })),
          add_generation_prompt: options.addGenerationPrompt ?? false,
        });
      } catch (error) {
        throw new MalformedError(
          'template-refused',
          `The chat template refuses these messages: ${reason(error)}`,
          {},
          error,
        );
      }
    },
  };
}

function inlineTemplate(config: Record<string, unknown>, name: string): string | null {
  const value = config.chat_template;
  if (typeof value === 'string') return value;
  if (value === undefined || value === null) return null;
  const named: unknown[] = Array.isArray(value) ? value : [];
  for (const entry of named) {
    if (isRecord(entry) && entry.name === name && typeof entry.template === 'string') return entry.template;
  }
  const names = named.map((entry) => (isRecord(entry) ? String(entry.name) : '?')).join(', ');
  throw new MalformedError(
    'template-missing',
    `tokenizer_config.json: "chat_template" has no template named "${name}"; it has ${names || 'none'}.`,
    { file: 'tokenizer_config.json', key: 'chat_template' },
  );
}

/** Every `*_token` of tokenizer_config.json, given as a string or as an added token. */
function specialTokens(config: Record<string, unknown>): Record<string, unknown> {
  const tokens: Record<string, unknown> = { bos_token: '', eos_token: '' };
  for (const [key, value] of Object.entries(config)) {
    const text = isRecord(value) ? value.content : value;
    if (key.endsWith('_token') && typeof text === 'string') tokens[key] = text;
  }
  return tokens;
}

function reason(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}
