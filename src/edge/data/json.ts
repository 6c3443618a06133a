// JSON files as rows: one object a line, or one array of objects.
// Zone: edge. Lines are read one at a time; an array is read whole.
import { readFile } from 'node:fs/promises';
import { describeFileError } from '../../model/files.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import { readLines } from './lines.js';
import type { Row } from './record.js';

/** Throws MalformedError('dataset-json') with the line, and what `readLines` throws. Empty lines are skipped. */
export async function* readJsonLines(file: string): AsyncGenerator<Row> {
  for await (const { number, text } of readLines(file)) {
    if (text.trim() !== '') yield { value: parseJson(text, file, number), line: number };
  }
}

/** A JSON array, whose items count as lines, or JSON lines under the wrong extension. */
export async function* readJsonArray(file: string): AsyncGenerator<Row> {
  let first = '';
  for await (const { text } of readLines(file)) {
    first = text.trim();
    if (first !== '') break;
  }
  if (!first.startsWith('[')) {
    if (first === '{') {
      const message = `${file}: one JSON object over several lines; expected a list [{…}, …], or one object a line`;
      throw new MalformedError('dataset-json', message, { file, line: 1 });
    }
    yield* readJsonLines(file);
    return;
  }
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw describeFileError(error, file, 'read');
  });
  const items = parseJson(text.replace(/^\uFEFF/, ''), file, 1);
  for (const [i, value] of (items as unknown[]).entries()) yield { value, line: i + 1 };
}

function parseJson(text: string, file: string, line: number): unknown {
  try {
    return JSON.parse(text);
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new MalformedError('dataset-json', `${file}:${line}: not JSON (${reason})`, { file, line }, error);
  }
}
