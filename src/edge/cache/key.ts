// What a teacher cache belongs to, and how its examples divide into shards. Both go into the address, so nothing stale is found.
// Zone: edge (DESIGN section 8).
import { createHash } from 'node:crypto';
import { MalformedError } from '../../trusted/wire/errors.js';

export type CachePrecision = 'float16' | 'float32';

export interface CacheKey {
  readonly bundleId: string;
  readonly tokenizerHash: string;
  /** `hashExamples` of the data. */
  readonly textHash: string;
  readonly k: number;
  readonly temperature: number;
  readonly precision: CachePrecision;
  readonly vocabSize: number;
}

export const CACHE_VERSION = 1;
/** A shard is closed before it exceeds this many rows; one longer example makes a shard of its own. */
export const SHARD_ROWS = 4096;
export const MAX_VOCAB_SIZE: number = 2 ** 20;

/** Consecutive examples [start, end) and the rows each of them has. */
export interface ShardLayout {
  readonly index: number;
  readonly start: number;
  readonly end: number;
  readonly rows: number;
}

/** Throws MalformedError naming the field that is out of range. */
export function checkCacheKey(key: CacheKey): void {
  const bad = (field: string, range: string): never => {
    throw new MalformedError('cache-key', `the teacher cache needs ${field} ${range}`, { field });
  };
  if (!Number.isInteger(key.vocabSize) || key.vocabSize < 1 || key.vocabSize > MAX_VOCAB_SIZE)
    bad('vocabSize', '1 to 2^20');
  if (!Number.isInteger(key.k) || key.k < 1 || key.k > key.vocabSize) bad('k', '1 to vocabSize');
  if (!(key.temperature > 0 && Number.isFinite(key.temperature))) bad('temperature', 'above 0');
}

/** SHA-256 over every field, the format version and the row counts. */
export function hashCacheKey(key: CacheKey, exampleRowCounts: readonly number[]): Buffer {
  const counts = createHash('sha256').update(Uint32Array.from(exampleRowCounts)).digest('hex');
  const fields = [CACHE_VERSION, key.bundleId, key.tokenizerHash, key.textHash, key.k, key.temperature, key.precision];
  return createHash('sha256')
    .update(JSON.stringify([...fields, key.vocabSize, SHARD_ROWS, counts]))
    .digest();
}

/** Divides examples, in order, into shards of at most SHARD_ROWS rows. */
export function layoutShards(exampleRowCounts: readonly number[]): readonly ShardLayout[] {
  const shards: ShardLayout[] = [];
  let start = 0;
  let rows = 0;
  for (const [i, count] of exampleRowCounts.entries()) {
    if (i > start && rows + count > SHARD_ROWS) {
      shards.push({ index: shards.length, start, end: i, rows });
      start = i;
      rows = 0;
    }
    rows += count;
  }
  const end = exampleRowCounts.length;
  if (end > start) shards.push({ index: shards.length, start, end, rows });
  return shards;
}
