// What one document of a dataset is before tokenising, and how an object with named fields becomes one.
// Zone: edge. Field names are TRL's and Alpaca's, so existing files work unchanged; other columns are named by settings.
import { MalformedError } from '../../trusted/wire/errors.js';
import { type FieldNames, requireLabel, requireMessages, requireObject, requireText } from './fields.js';

export interface Message {
  readonly role: string;
  readonly content: string;
}

/** Where a record came from: a line of text or CSV, an item of a JSON array, a row of a parquet file, from 1. */
export interface Origin {
  readonly file: string;
  readonly line: number;
}

/** One value of a file, before it is a record. */
export interface Row {
  readonly value: unknown;
  readonly line: number;
}

export type DataRecord =
  | { readonly kind: 'text'; readonly text: string; readonly origin: Origin }
  | {
      readonly kind: 'messages';
      readonly messages: readonly Message[];
      /** Messages from this index on are a completion, those before it its prompt; absent where they came undivided. */
      readonly completionFrom?: number;
      readonly origin: Origin;
    }
  | {
      readonly kind: 'completion';
      /** As a user's message. */
      readonly prompt: string;
      /** As the start of a text, where there is no chat template. */
      readonly rawPrompt: string;
      readonly completion: string;
      readonly origin: Origin;
    };

export type RecordFormat = 'messages' | 'completion' | 'text' | 'alpaca';

/** The format of an object by its fields; throws MalformedError when none fits. */
export function detectFormat(value: unknown, names: FieldNames, origin: Origin): RecordFormat {
  const found = formatOf(value, names, origin);
  if (found !== null) return found;
  const fields = Object.keys(requireObject(value, origin));
  throw new MalformedError(
    'dataset-format',
    `${origin.file}:${origin.line}: has the fields ${quoted(fields)}; expected "messages", "prompt" and "completion", "text", or ` +
      '"instruction" and "output". For other columns set dataset_prompt_field and dataset_completion_field, dataset_text_field, or ' +
      'dataset_text_field and dataset_label_field',
    { ...origin },
  );
}

/** The same, null when none fits. */
export function formatOf(value: unknown, names: FieldNames, origin: Origin): RecordFormat | null {
  const fields = requireObject(value, origin);
  if (names.prompt !== null || names.completion !== null || names.label !== null) return 'completion';
  if (names.text !== null) return 'text';
  if ('messages' in fields) return 'messages';
  if ('prompt' in fields && 'completion' in fields) return 'completion';
  if ('instruction' in fields && 'output' in fields) return 'alpaca';
  return 'text' in fields ? 'text' : null;
}

/** Throws MalformedError naming file, line and field when a field is missing, empty or of the wrong type. */
export function parseRecord(value: unknown, format: RecordFormat, names: FieldNames, origin: Origin): DataRecord {
  const fields = requireObject(value, origin);
  switch (format) {
    case 'text':
      return { kind: 'text', text: requireText(fields, names.text ?? 'text', origin), origin };
    case 'messages':
      return { kind: 'messages', messages: requireMessages(fields, 'messages', origin), origin };
    case 'completion':
      return parseCompletion(fields, names, origin);
    case 'alpaca': {
      const instruction = requireText(fields, 'instruction', origin);
      const input =
        fields.input === undefined || fields.input === null || fields.input === ''
          ? ''
          : requireText(fields, 'input', origin);
      const completion = requireText(fields, 'output', origin);
      const prompt = input === '' ? instruction : `${instruction}\n\n${input}`;
      return { kind: 'completion', prompt, rawPrompt: alpacaPrompt(instruction, input), completion, origin };
    }
  }
}

function parseCompletion(fields: Readonly<Record<string, unknown>>, names: FieldNames, origin: Origin): DataRecord {
  const { template, label } = names;
  const answer = names.completion ?? 'completion';
  const asked = names.prompt ?? (label === null ? null : names.text) ?? 'prompt';
  if (template === null && label === null && Array.isArray(fields[asked]) && Array.isArray(fields[answer])) {
    const prompt = requireMessages(fields, asked, origin);
    const messages = [...prompt, ...requireMessages(fields, answer, origin)];
    return { kind: 'messages', messages, completionFrom: prompt.length, origin };
  }
  const completion = label === null ? requireText(fields, answer, origin) : requireLabel(fields, label, origin);
  if (template !== null) {
    const prompt = template.fill((column) => requireText(fields, column, origin));
    return { kind: 'completion', prompt, rawPrompt: prompt, completion, origin };
  }
  const mapped = names.prompt !== null || names.completion !== null || label !== null;
  const prompt = requireText(fields, asked, origin);
  // Mapped columns were not written to be joined; a native prompt carries its own separator.
  return { kind: 'completion', prompt, rawPrompt: mapped ? `${prompt}\n` : prompt, completion, origin };
}

/** The prompt of Stanford Alpaca's training script. */
function alpacaPrompt(instruction: string, input: string): string {
  const paired = input === '' ? '' : ', paired with an input that provides further context';
  const request = `Below is an instruction that describes a task${paired}. Write a response that appropriately completes the request.`;
  const context = input === '' ? '' : `### Input:\n${input}\n\n`;
  return `${request}\n\n### Instruction:\n${instruction}\n\n${context}### Response:\n`;
}

function quoted(names: readonly string[]): string {
  return names.length === 0 ? 'none' : names.map((name) => `"${name}"`).join(', ');
}
