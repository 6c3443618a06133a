// What one document of a dataset is before tokenising, and how a JSON object becomes one.
// Zone: edge. Field names are TRL's and Alpaca's, so existing files work unchanged.
import { MalformedError } from '../../trusted/wire/errors.js';

export interface Message {
  readonly role: string;
  readonly content: string;
}

/** File and line (or item of a JSON array) that a record came from. */
export interface Origin {
  readonly file: string;
  readonly line: number;
}

export type DataRecord =
  | { readonly kind: 'text'; readonly text: string; readonly origin: Origin }
  | { readonly kind: 'messages'; readonly messages: readonly Message[]; readonly origin: Origin }
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

/** Columns that stand for the usual field names. */
export interface FieldNames {
  readonly prompt: string | null;
  readonly completion: string | null;
  readonly text: string | null;
}

type Fields = Readonly<Record<string, unknown>>;

/** The format of a JSON object by its fields; throws MalformedError when none fits. */
export function detectFormat(value: unknown, names: FieldNames, origin: Origin): RecordFormat {
  const fields = requireObject(value, origin);
  if (names.prompt !== null || names.completion !== null) return 'completion';
  if (names.text !== null) return 'text';
  if ('messages' in fields) return 'messages';
  if ('prompt' in fields && 'completion' in fields) return 'completion';
  if ('instruction' in fields && 'output' in fields) return 'alpaca';
  if ('text' in fields) return 'text';
  throw malformed(
    'dataset-format',
    `has the fields ${quoted(Object.keys(fields))}; expected "messages", "prompt" and "completion", "text", or "instruction" ` +
      'and "output". For other columns set dataset_prompt_field and dataset_completion_field, or dataset_text_field',
    origin,
  );
}

/** Throws MalformedError naming file, line and field when a field is missing, empty or of the wrong type. */
export function parseRecord(value: unknown, format: RecordFormat, names: FieldNames, origin: Origin): DataRecord {
  const fields = requireObject(value, origin);
  switch (format) {
    case 'text':
      return { kind: 'text', text: requireText(fields, names.text ?? 'text', origin), origin };
    case 'messages':
      return { kind: 'messages', messages: requireMessages(fields, origin), origin };
    case 'completion': {
      const mapped = names.prompt !== null || names.completion !== null;
      const prompt = requireText(fields, names.prompt ?? 'prompt', origin);
      const completion = requireText(fields, names.completion ?? 'completion', origin);
      // Mapped columns were not written to be joined; a native prompt carries its own separator.
      return { kind: 'completion', prompt, rawPrompt: mapped ? `${prompt}\n` : prompt, completion, origin };
    }
    case 'alpaca': {
      const instruction = requireText(fields, 'instruction', origin);
      const input = typeof fields.input === 'string' ? fields.input : '';
      const completion = requireText(fields, 'output', origin);
      const prompt = input === '' ? instruction : `${instruction}\n\n${input}`;
      return { kind: 'completion', prompt, rawPrompt: alpacaPrompt(instruction, input), completion, origin };
    }
  }
}

/** The prompt of Stanford Alpaca's training script. */
function alpacaPrompt(instruction: string, input: string): string {
  const paired = input === '' ? '' : ', paired with an input that provides further context';
  const request = `Below is an instruction that describes a task${paired}. Write a response that appropriately completes the request.`;
  const context = input === '' ? '' : `### Input:\n${input}\n\n`;
  return `${request}\n\n### Instruction:\n${instruction}\n\n${context}### Response:\n`;
}

function requireObject(value: unknown, origin: Origin): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw malformed('dataset-record', 'is not a JSON object', origin);
}

function requireText(fields: Fields, name: string, origin: Origin): string {
  const value = fields[name];
  if (typeof value === 'string' && value !== '') return value;
  const problem = value === '' ? 'is empty' : value === undefined ? 'is missing' : `is not text but ${kindOf(value)}`;
  const present = value === undefined ? `; the line has ${quoted(Object.keys(fields))}` : '';
  throw malformed('dataset-field', `field "${name}" ${problem}${present}`, origin, name);
}

function requireMessages(fields: Fields, origin: Origin): readonly Message[] {
  const value = fields.messages;
  if (!Array.isArray(value) || value.length === 0) {
    const found = value === undefined ? 'is missing' : 'is not a list of {"role", "content"}';
    throw malformed('dataset-field', `field "messages" ${found}`, origin, 'messages');
  }
  return value.map((message: unknown, i) => {
    const { role, content } = (message ?? {}) as Fields;
    if (typeof role === 'string' && typeof content === 'string') return { role, content };
    const missing = typeof role === 'string' ? 'content' : 'role';
    throw malformed(
      'dataset-field',
      `field "messages[${i}].${missing}" is missing or not text`,
      origin,
      `messages[${i}].${missing}`,
    );
  });
}

function kindOf(value: unknown): string {
  return value === null
    ? 'null'
    : Array.isArray(value)
      ? 'a list'
      : typeof value === 'object'
        ? 'an object'
        : `a ${typeof value}`;
}

function quoted(names: readonly string[]): string {
  return names.length === 0 ? 'none' : names.map((name) => `"${name}"`).join(', ');
}

function malformed(code: string, problem: string, { file, line }: Origin, field?: string): MalformedError {
  return new MalformedError(code, `${file}:${line}: ${problem}`, {
    file,
    line,
    ...(field === undefined ? {} : { field }),
  });
}
