// What a task's doc_to_* says about a document: a field's name (`question`, `choices.text`), or a Jinja template over the fields.
// Zone: edge. The convention of lm-evaluation-harness; a field that is missing is an error, never an empty text.
import { Template } from '@huggingface/jinja';
import { MalformedError } from '../../trusted/wire/errors.js';
import type { TaskDocument } from './read-documents.js';

const PATH = /^[A-Za-z_][\w-]*(\.[A-Za-z_][\w-]*)*$/;
const WHOLE_PATH = /^\{\{\s*([A-Za-z_][\w.]*)\s*\}\}$/;

/** A field's value itself, or a template's text. Throws MalformedError('task-field') naming file, line and field. */
export function fieldValue(document: TaskDocument, expression: string): unknown {
  if (PATH.test(expression)) return lookUp(document, expression);
  const whole = WHOLE_PATH.exec(expression)?.[1];
  if (whole !== undefined) return lookUp(document, whole);
  for (const [, name] of expression.matchAll(/\{\{-?\s*([A-Za-z_]\w*)/g)) lookUp(document, name!);
  try {
    return new Template(expression).render({ ...document.fields });
  } catch (error) {
    const { file, line } = document.origin;
    const reason = error instanceof Error ? error.message : String(error);
    throw new MalformedError(
      'task-template',
      `${file}:${line}: the template ${expression} fails: ${reason}`,
      {},
      error,
    );
  }
}

/** The same as text; numbers are written out. */
export function textOf(document: TaskDocument, expression: string): string {
  const value = fieldValue(document, expression);
  if (typeof value === 'string') return value;
  if (typeof value === 'number') return String(value);
  throw fieldError(document, fieldName(expression), 'is not text');
}

/** The same as a list of at least two different texts. */
export function textsOf(document: TaskDocument, expression: string): readonly string[] {
  const value = fieldValue(document, expression);
  const field = fieldName(expression);
  if (!Array.isArray(value) || value.length < 2 || value.some((item) => typeof item !== 'string' || item === ''))
    throw fieldError(document, field, 'is not a list of two or more texts');
  if (new Set(value).size < value.length) throw fieldError(document, field, 'names a choice twice');
  return value as string[];
}

export function fieldError(
  { origin: { file, line } }: TaskDocument,
  field: string,
  problem: string,
  code = 'task-field',
): MalformedError {
  return new MalformedError(code, `${file}:${line}: field "${field}" ${problem}`, { file, line, field });
}

/** How an expression is called in a message. */
export function fieldName(expression: string): string {
  return WHOLE_PATH.exec(expression)?.[1] ?? expression;
}

function lookUp(document: TaskDocument, path: string): unknown {
  let value: unknown = document.fields;
  for (const part of path.split('.')) {
    const known = typeof value === 'object' && value !== null && Object.hasOwn(value, part);
    if (!known) {
      const fields = Object.keys(document.fields).map((name) => `"${name}"`);
      throw fieldError(document, path, `is missing; the line has ${fields.join(', ') || 'none'}`);
    }
    value = (value as Record<string, unknown>)[part];
  }
  return value;
}
