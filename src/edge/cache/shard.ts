// One shard file: header, rows, SHA-256 of both. Whatever was truncated, altered or written for another cache does not pass.
// Zone: edge (DESIGN section 8).
//   0 magic "dlkshard" · 8 version u32 · 12 shard u32 · 16 first example u32 · 20 examples u32 · 24 rows u32 · 28 row bytes u32
//   32 key hash (32 bytes) · 64 rows · SHA-256 of everything before it (32 bytes)
import { createHash } from 'node:crypto';
import { CACHE_VERSION, type ShardLayout } from './key.js';
import type { RowFormat } from './row-codec.js';

export const HEADER_BYTES = 64;
export const TRAILER_BYTES = 32;
const MAGIC = Buffer.from('dlkshard', 'latin1');

export function shardHeader(shard: ShardLayout, format: RowFormat, keyHash: Uint8Array): Buffer {
  const header = Buffer.alloc(HEADER_BYTES);
  MAGIC.copy(header);
  const fields = [CACHE_VERSION, shard.index, shard.start, shard.end - shard.start, shard.rows, format.rowBytes];
  for (const [i, field] of fields.entries()) header.writeUInt32LE(field, 8 + 4 * i);
  header.set(keyHash, 32);
  return header;
}

export function shardBytes(shard: ShardLayout, format: RowFormat): number {
  return HEADER_BYTES + shard.rows * format.rowBytes + TRAILER_BYTES;
}

export function shardDigest(content: Uint8Array): Buffer {
  return createHash('sha256').update(content).digest();
}

/** Why the start of a file is not the expected shard, or null. `size` is the file's length. */
export function faultOfHeader(found: Uint8Array, size: number, expected: Buffer, expectedBytes: number): string | null {
  if (found.length < HEADER_BYTES || !MAGIC.equals(found.subarray(0, 8))) return 'not a cache shard';
  if (!expected.subarray(32).equals(found.subarray(32, HEADER_BYTES)))
    return 'written for another teacher, text or setting';
  if (!expected.equals(found.subarray(0, HEADER_BYTES))) return 'another version or another part of the data';
  if (size < expectedBytes) return `truncated: ${size} of ${expectedBytes} bytes`;
  if (size > expectedBytes) return `${size - expectedBytes} bytes too long`;
  return null;
}

/** Why a whole file is not the expected shard, or null. */
export function faultOfShard(file: Uint8Array, expected: Buffer, expectedBytes: number): string | null {
  const fault = faultOfHeader(file, file.length, expected, expectedBytes);
  if (fault !== null) return fault;
  const end = file.length - TRAILER_BYTES;
  return shardDigest(file.subarray(0, end)).equals(file.subarray(end)) ? null : 'altered: its SHA-256 does not match';
}
