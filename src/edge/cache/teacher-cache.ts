// The teacher cache: what the enclave released, by example, on disk. Content-addressed, resumable, never used unverified.
// Zone: edge (DESIGN section 8). A shard that is torn, altered or foreign is set aside and counts as missing.
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { writeFileAtomic } from '../../model/files.js';
import { MalformedError, VerificationError } from '../../trusted/wire/errors.js';
import { ShardJournal } from './journal.js';
import { CACHE_VERSION, type CacheKey, checkCacheKey, hashCacheKey, layoutShards, type ShardLayout } from './key.js';
import { decodeRows, encodeRows, type RowFormat, rowFormat } from './row-codec.js';
import type { TeacherRows } from './rows.js';
import { HEADER_BYTES, shardBytes, shardDigest } from './shard.js';
import { type SetAside, ShardFolder } from './shard-folder.js';

export interface CacheOptions {
  /** Verified shards kept in memory; beyond it rows are read from their place in the file. Default 256 MiB. */
  readonly memoryBytes?: number;
  /** Called whenever a file is set aside, so that the user hears of it. */
  readonly onSetAside?: (event: SetAside) => void;
}

export interface CacheStats {
  readonly folder: string;
  readonly shards: number;
  readonly present: number;
  readonly rows: number;
  /** Size of all shards when complete. */
  readonly bytes: number;
  readonly bytesPerRow: number;
  readonly setAside: readonly SetAside[];
}

export interface TeacherCache {
  readonly shardCount: number;
  /** Shards that are absent or were set aside, ascending. Names, sizes and headers are checked; `verify` checks contents. */
  missingShards(): number[];
  /** Examples [start, end) of a shard. */
  examplesOf(shard: number): readonly [start: number, end: number];
  /** Reads every present shard once and sets aside those that were altered; call it before `missingShards` when resuming. */
  verify(): void;
  /** Examples of an incomplete shard whose rows are kept already. */
  kept(shard: number): ReadonlySet<number>;
  /** Makes rows of an incomplete shard durable. Throws MalformedError when they do not fit, EnvironmentError on a full disk. */
  keep(shard: number, examples: readonly number[], rows: readonly TeacherRows[]): void;
  /** Turns a shard of which every example is kept into its file. Throws MalformedError when one is not. */
  finishShard(shard: number): Promise<void>;
  /** `keep` for all examples of a shard, in order, and `finishShard`. */
  writeShard(shard: number, rows: readonly TeacherRows[]): Promise<void>;
  /** Rows of an example. Throws MalformedError when its shard is missing, VerificationError when it was just found altered. */
  readExample(example: number): TeacherRows;
  stats(): CacheStats;
}

/** Opens `<dir>/<key hash>/`, creating it. `exampleRowCounts[i]` is `countTargets` of example i. */
export async function openTeacherCache(
  dir: string,
  key: CacheKey,
  exampleRowCounts: readonly number[],
  options: CacheOptions = {},
): Promise<TeacherCache> {
  checkCacheKey(key);
  const keyHash = hashCacheKey(key, exampleRowCounts);
  const folder = join(dir, keyHash.toString('hex').slice(0, 32));
  const described = `${JSON.stringify({ format: CACHE_VERSION, ...key, examples: exampleRowCounts.length }, null, 2)}\n`;
  const keyFile = join(folder, 'key.json');
  if (!existsSync(keyFile) || readFileSync(keyFile, 'utf8') !== described) await writeFileAtomic(keyFile, described);
  const format = rowFormat(key.k, key.vocabSize, key.precision);
  const memoryBytes = options.memoryBytes ?? 256 * 2 ** 20;
  const files = new ShardFolder(folder, keyHash, format, memoryBytes, options.onSetAside ?? (() => {}));
  return new ShardedCache(folder, files, format, exampleRowCounts);
}

class ShardedCache implements TeacherCache {
  readonly shardCount: number;
  private readonly folder: string;
  private readonly files: ShardFolder;
  private readonly format: RowFormat;
  private readonly rowCounts: readonly number[];
  private readonly layout: readonly ShardLayout[];
  private readonly shardOf: Int32Array;
  private readonly open = new Map<number, Map<number, Buffer>>();
  /** Rows of the same shard that come before each example. */
  private readonly rowsBefore: Int32Array;

  constructor(folder: string, files: ShardFolder, format: RowFormat, rowCounts: readonly number[]) {
    this.folder = folder;
    this.files = files;
    this.format = format;
    this.rowCounts = rowCounts;
    this.layout = layoutShards(rowCounts);
    this.shardCount = this.layout.length;
    this.shardOf = new Int32Array(rowCounts.length);
    this.rowsBefore = new Int32Array(rowCounts.length);
    for (const shard of this.layout) {
      for (let example = shard.start, before = 0; example < shard.end; before += rowCounts[example++]!) {
        this.shardOf[example] = shard.index;
        this.rowsBefore[example] = before;
      }
      files.find(shard);
    }
  }

  missingShards(): number[] {
    return this.layout.filter(({ index }) => !this.files.has(index)).map(({ index }) => index);
  }

  examplesOf(shard: number): readonly [start: number, end: number] {
    const { start, end } = this.shard(shard);
    return [start, end];
  }

  verify(): void {
    for (const shard of this.layout) {
      if (this.files.has(shard.index) && !this.files.isVerified(shard.index)) this.files.load(shard);
    }
  }

  kept(index: number): ReadonlySet<number> {
    return new Set(this.entries(index).keys());
  }

  keep(index: number, examples: readonly number[], rows: readonly TeacherRows[]): void {
    const encoded = examples.map((example, i): [number, Buffer] => [example, this.encode(example, rows[i]!)]);
    const entries = this.entries(index);
    this.journal(index).append(encoded);
    for (const [example, bytes] of encoded) entries.set(example, bytes);
  }

  async finishShard(index: number): Promise<void> {
    const shard = this.shard(index);
    const entries = this.entries(index);
    const file = Buffer.alloc(shardBytes(shard, this.format));
    let at = this.files.header(shard).copy(file);
    for (let example = shard.start; example < shard.end; example++) {
      const bytes = entries.get(example);
      if (bytes === undefined) throw misfit(`shard ${index} lacks the rows of example ${example}`);
      at += bytes.copy(file, at);
    }
    shardDigest(file.subarray(0, at)).copy(file, at);
    await this.files.write(shard, file);
    this.journal(index).remove();
    this.open.delete(index);
  }

  async writeShard(index: number, rows: readonly TeacherRows[]): Promise<void> {
    const shard = this.shard(index);
    const examples = Array.from({ length: shard.end - shard.start }, (_, i) => shard.start + i);
    if (rows.length !== examples.length)
      throw misfit(`shard ${index} holds ${examples.length} examples but got ${rows.length}`);
    this.keep(index, examples, rows);
    await this.finishShard(index);
  }

  readExample(example: number): TeacherRows {
    const count = this.rowCounts[example];
    if (count === undefined) throw new RangeError(`there is no example ${example} in the teacher cache`);
    const shard = this.shard(this.shardOf[example]!);
    const details = { file: this.files.path(shard.index), shard: shard.index };
    if (!this.files.has(shard.index)) {
      throw new MalformedError(
        'cache-shard-missing',
        `teacher cache shard ${details.file} is not captured yet`,
        details,
      );
    }
    const start = HEADER_BYTES + this.rowsBefore[example]! * this.format.rowBytes;
    const bytes = this.files.read(shard, start, count * this.format.rowBytes);
    if (bytes === null) {
      const reason = this.files.setAside.at(-1)?.reason ?? 'altered';
      const message = `teacher cache shard ${details.file} is ${reason}; it was set aside, run again to capture it anew`;
      throw new VerificationError('cache-shard-altered', message, details);
    }
    return decodeRows(this.format, bytes, count);
  }

  stats(): CacheStats {
    return {
      folder: this.folder,
      shards: this.shardCount,
      present: this.shardCount - this.missingShards().length,
      rows: this.layout.reduce((sum, { rows }) => sum + rows, 0),
      bytes: this.layout.reduce((sum, shard) => sum + shardBytes(shard, this.format), 0),
      bytesPerRow: this.format.rowBytes,
      setAside: [...this.files.setAside],
    };
  }

  private encode(example: number, rows: TeacherRows): Buffer {
    const count = this.rowCounts[example];
    if (rows.rows !== count || rows.k !== this.format.k) {
      const wanted = `${count} rows of k=${this.format.k}`;
      throw misfit(`example ${example} needs ${wanted} but got ${rows.rows} of k=${rows.k}`);
    }
    const bytes = Buffer.alloc(count * this.format.rowBytes);
    encodeRows(this.format, rows, bytes, 0, `example ${example}`);
    return bytes;
  }

  private journal(index: number): ShardJournal {
    const path = this.files.path(index).replace(/shard$/, 'journal');
    return new ShardJournal(path, this.files.header(this.shard(index)), this.format.rowBytes);
  }

  /** Encoded rows of an incomplete shard, read from its journal at the first use. */
  private entries(index: number): Map<number, Buffer> {
    const { start, end } = this.shard(index);
    let entries = this.open.get(index);
    if (entries === undefined) {
      entries = this.journal(index).read();
      for (const [example, bytes] of entries) {
        const fits =
          example >= start && example < end && bytes.length === this.rowCounts[example]! * this.format.rowBytes;
        if (!fits) entries.delete(example);
      }
      this.open.set(index, entries);
    }
    return entries;
  }

  private shard(index: number): ShardLayout {
    const shard = this.layout[index];
    if (shard === undefined)
      throw new RangeError(`there is no shard ${index}, the teacher cache has ${this.shardCount}`);
    return shard;
  }
}

function misfit(message: string): MalformedError {
  return new MalformedError('cache-shard-rows', message);
}
