// The rows of a shard that is not complete yet, batch by batch as they are released: what was charged is not lost when a run stops.
// Zone: edge (DESIGN section 8). A header as the shard's, then records; the first that is torn or altered ends the journal.
//   record: example u32 · rows u32 · encoded rows · SHA-256 of everything before it in the record (32 bytes)
import {
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { describeFileError } from '../../model/files.js';
import { shardDigest } from './shard.js';

const DIGEST_BYTES = 32;

export class ShardJournal {
  readonly #path: string;
  readonly #header: Buffer;
  readonly #rowBytes: number;

  constructor(path: string, header: Buffer, rowBytes: number) {
    this.#path = path;
    this.#header = header;
    this.#rowBytes = rowBytes;
  }

  /** Encoded rows by example. A torn end is cut off; a journal of another cache counts as empty. */
  read(): Map<number, Buffer> {
    const entries = new Map<number, Buffer>();
    if (!existsSync(this.#path)) return entries;
    const file = readFileSync(this.#path);
    if (!file.subarray(0, this.#header.length).equals(this.#header)) {
      this.remove();
      return entries;
    }
    let at = this.#header.length;
    while (at + 8 <= file.length) {
      const end = at + 8 + file.readUInt32LE(at + 4) * this.#rowBytes;
      const digest = file.subarray(end, end + DIGEST_BYTES);
      if (digest.length < DIGEST_BYTES || !shardDigest(file.subarray(at, end)).equals(digest)) break;
      entries.set(file.readUInt32LE(at), file.subarray(at + 8, end));
      at = end + DIGEST_BYTES;
    }
    if (at < file.length) this.#write((handle) => ftruncateSync(handle, at));
    return entries;
  }

  /** Makes the encoded rows of some examples durable. Throws EnvironmentError on a full disk. */
  append(entries: readonly (readonly [example: number, rows: Buffer])[]): void {
    const parts = entries.flatMap(([example, rows]) => {
      const head = Buffer.alloc(8);
      head.writeUInt32LE(example, 0);
      head.writeUInt32LE(rows.length / this.#rowBytes, 4);
      const record = Buffer.concat([head, rows]);
      return [record, shardDigest(record)];
    });
    const fresh = !existsSync(this.#path);
    // writeFileSync goes on after a short write, where writeSync would leave a torn record in the middle.
    this.#write((handle) => writeFileSync(handle, Buffer.concat(fresh ? [this.#header, ...parts] : parts)));
  }

  remove(): void {
    rmSync(this.#path, { force: true });
  }

  #write(change: (handle: number) => void): void {
    try {
      const handle = openSync(this.#path, 'a');
      try {
        change(handle);
        fsyncSync(handle);
      } finally {
        closeSync(handle);
      }
    } catch (error) {
      throw describeFileError(error, this.#path, 'write');
    }
  }
}
