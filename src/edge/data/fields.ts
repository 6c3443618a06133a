// Fields of a record: which columns stand for what, and values of the type that they must have.
// Zone: edge. Every error names file, line and field; settings that contradict one another are refused before a file is read.
import { MalformedError } from '../../trusted/wire/errors.js';
import type { PromptTemplate } from './prompt-template.js';
import type { Message, Origin } from './record.js';

/** Columns that stand for the usual field names; null: the usual name. */
export interface FieldNames {
  readonly prompt: string | null;
  readonly completion: string | null;
  readonly text: string | null;
  /** Holds the class of a text: the completion of a classification. */
  readonly label: string | null;
  /** Makes the prompt out of columns. */
  readonly template: PromptTemplate | null;
}

const SETTINGS: Readonly<Record<keyof FieldNames, string>> = {
  prompt: 'dataset_prompt_field',
  completion: 'dataset_completion_field',
  text: 'dataset_text_field',
  label: 'dataset_label_field',
  template: 'dataset_prompt_template',
};

export type Fields = Readonly<Record<string, unknown>>;

/** Throws MalformedError('setting-columns') when two columns would have the same part, or one has none. */
export function checkFieldNames(names: FieldNames, format: string): void {
  const { prompt, completion, text, label, template } = names;
  const problem = ((): string | null => {
    const named = Object.entries(SETTINGS).find(([part]) => names[part as keyof FieldNames] !== null);
    if (named !== undefined && (format === 'messages' || format === 'alpaca' || format === 'plain'))
      return `${named[1]} has no meaning for dataset_format ${format}; leave one of them out`;
    if (format === 'text' && (prompt ?? completion ?? label ?? template) !== null)
      return 'dataset_format text has a text and nothing else; use dataset_format completion';
    if (label !== null && completion !== null)
      return 'dataset_label_field and dataset_completion_field both name the answer; set one of them';
    if (prompt !== null && text !== null)
      return 'dataset_prompt_field and dataset_text_field both name the text; set one of them';
    if (completion !== null && text !== null && template === null)
      return 'dataset_text_field has no completion; name the prompt with dataset_prompt_field';
    if (template !== null && label === null && completion === null)
      return 'dataset_prompt_template needs the column of the answer: set dataset_label_field or dataset_completion_field';
    if (label !== null && template === null && text === null && prompt === null)
      return 'dataset_label_field needs the text that it labels: set dataset_text_field or dataset_prompt_template';
    const unused = template === null ? null : (text ?? prompt);
    if (unused !== null && !template!.columns.includes(unused))
      return `dataset_prompt_template does not use the column "${unused}"; write {${unused}} in it, or leave the column's setting out`;
    const answer = label ?? completion;
    if (answer !== null && template?.columns.includes(answer) === true)
      return `dataset_prompt_template shows "${answer}", the answer that is to be learnt`;
    return null;
  })();
  if (problem !== null) throw new MalformedError('setting-columns', problem);
}

export function requireObject(value: unknown, origin: Origin): Fields {
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Fields;
  throw malformed('dataset-record', 'is not a JSON object', origin);
}

export function requireText(fields: Fields, name: string, origin: Origin): string {
  const value = own(fields, name);
  if (typeof value === 'string' && value !== '') return value;
  const problem = value === '' ? 'is empty' : value === undefined ? 'is missing' : `is not text but ${kindOf(value)}`;
  const present = value === undefined ? `; the line has ${quoted(Object.keys(fields))}` : '';
  throw malformed('dataset-field', `field "${name}" ${problem}${present}`, origin, name);
}

/** The class as text; whole numbers and booleans are taken as they are written. */
export function requireLabel(fields: Fields, name: string, origin: Origin): string {
  const value = own(fields, name);
  const plain = typeof value === 'boolean' || typeof value === 'bigint' || Number.isSafeInteger(value);
  return plain ? String(value) : requireText(fields, name, origin);
}

export function requireMessages(fields: Fields, name: string, origin: Origin): readonly Message[] {
  const value = own(fields, name);
  if (!Array.isArray(value) || value.length === 0) {
    const found = value === undefined ? 'is missing' : 'is not a list of {"role", "content"}';
    throw malformed('dataset-field', `field "${name}" ${found}`, origin, name);
  }
  return value.map((message: unknown, i) => {
    const { role, content } = (message ?? {}) as Fields;
    if (typeof role === 'string' && role !== '' && typeof content === 'string') return { role, content };
    const missing = `${name}[${i}].${typeof role === 'string' && role !== '' ? 'content' : 'role'}`;
    throw malformed('dataset-field', `field "${missing}" is missing or not text`, origin, missing);
  });
}

// A JSON field may be called "constructor".
function own(fields: Fields, name: string): unknown {
  return Object.hasOwn(fields, name) ? fields[name] : undefined;
}

function kindOf(value: unknown): string {
  if (value === null) return 'null';
  if (Array.isArray(value)) return 'a list';
  if (value instanceof Date) return 'a date';
  return typeof value === 'object' ? 'an object' : `a ${typeof value === 'bigint' ? 'number' : typeof value}`;
}

function quoted(names: readonly string[]): string {
  return names.length === 0 ? 'none' : names.map((name) => `"${name}"`).join(', ');
}

function malformed(code: string, problem: string, { file, line }: Origin, field?: string): MalformedError {
  const details = { file, line, ...(field === undefined ? {} : { field }) };
  return new MalformedError(code, `${file}:${line}: ${problem}`, details);
}
