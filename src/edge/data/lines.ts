// Lines of a UTF-8 file, one at a time, with their numbers; a byte that is not UTF-8 is an error that says where it is.
// Zone: edge. Files larger than memory are fine, a byte order mark and carriage returns are dropped.
import { isUtf8 } from 'node:buffer';
import { createReadStream } from 'node:fs';
import { describeFileError } from '../../model/files.js';
import { MalformedError } from '../../trusted/wire/errors.js';

export interface Line {
  /** From 1. */
  readonly number: number;
  readonly text: string;
}

/** Throws MalformedError (`not-utf8`) with the byte offset, EnvironmentError when the file cannot be read. */
export async function* readLines(file: string): AsyncGenerator<Line> {
  let number = 0;
  let lineStart = 0;
  let pending: Buffer[] = [];
  const finish = (): Line => {
    const bytes = pending.length === 1 ? pending[0]! : Buffer.concat(pending);
    const text = decodeLine(bytes, file, lineStart);
    lineStart += bytes.length + 1;
    pending = [];
    number += 1;
    return { number, text: number === 1 && text.startsWith('\uFEFF') ? text.slice(1) : text };
  };
  try {
    for await (const chunk of createReadStream(file, { highWaterMark: 1 << 20 }) as AsyncIterable<Buffer>) {
      let from = 0;
      for (let end = chunk.indexOf(10); end >= 0; end = chunk.indexOf(10, from)) {
        pending.push(chunk.subarray(from, end));
        from = end + 1;
        yield finish();
      }
      if (from < chunk.length) pending.push(chunk.subarray(from));
    }
  } catch (error) {
    throw describeFileError(error, file, 'read');
  }
  if (pending.length > 0) yield finish();
}

function decodeLine(bytes: Buffer, file: string, start: number): string {
  if (!isUtf8(bytes)) {
    const at = firstInvalidByte(bytes);
    const offset = start + at;
    const found =
      at < bytes.length ? `byte 0x${bytes[at]!.toString(16).padStart(2, '0')} at offset ${offset}` : `offset ${offset}`;
    throw new MalformedError('not-utf8', `${file}: not UTF-8 text (${found}); convert it, e.g. with iconv`, {
      file,
      offset,
    });
  }
  const end = bytes.length > 0 && bytes[bytes.length - 1] === 13 ? bytes.length - 1 : bytes.length;
  return bytes.toString('utf8', 0, end);
}

/** Index of the byte at which a strict decoder stops; the length when only the last character is cut off. */
function firstInvalidByte(bytes: Buffer): number {
  const accepts = (length: number): boolean => {
    try {
      new TextDecoder('utf-8', { fatal: true }).decode(bytes.subarray(0, length), { stream: true });
      return true;
    } catch {
      return false;
    }
  };
  let good = 0;
  let bad = bytes.length + 1;
  while (bad - good > 1) {
    const middle = (good + bad) >> 1;
    if (middle <= bytes.length && accepts(middle)) good = middle;
    else bad = middle;
  }
  return good;
}
