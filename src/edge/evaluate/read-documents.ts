// The documents of a task: JSON lines, one object each, as they are. Zone: edge. What the fields mean is the task's business.
import { MalformedError } from '../../trusted/wire/errors.js';
import { readLines } from '../data/lines.js';
import type { Origin } from '../data/record.js';

export interface TaskDocument {
  readonly fields: Readonly<Record<string, unknown>>;
  readonly origin: Origin;
}

/** The first `limit` documents. Throws MalformedError naming file and line; `task-empty` when there is none. */
export async function readDocuments(file: string, limit: number | null): Promise<TaskDocument[]> {
  const documents: TaskDocument[] = [];
  for await (const { number: line, text } of readLines(file)) {
    if (text.trim() === '') continue;
    documents.push({ fields: parseObject(text, file, line), origin: { file, line } });
    if (documents.length === limit) break;
  }
  if (documents.length === 0)
    throw new MalformedError('task-empty', `${file}: the task's data is empty; give one JSON object a line`, { file });
  return documents;
}

function parseObject(text: string, file: string, line: number): Readonly<Record<string, unknown>> {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new MalformedError('task-data', `${file}:${line}: not JSON (${reason})`, { file, line }, error);
  }
  if (typeof value === 'object' && value !== null && !Array.isArray(value)) return value as Record<string, unknown>;
  throw new MalformedError('task-data', `${file}:${line}: is not a JSON object`, { file, line });
}
