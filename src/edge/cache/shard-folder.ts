// The shard files of one cache: found by header, verified on first use, read by position, set aside when they do not pass.
// Zone: edge (DESIGN section 8). Setting aside keeps the file for inspection: `000003.shard.set-aside-0`.
import { closeSync, existsSync, fstatSync, openSync, readSync, renameSync } from 'node:fs';
import { join } from 'node:path';
import { describeFileError, writeFileAtomic } from '../../model/files.js';
import type { ShardLayout } from './key.js';
import type { RowFormat } from './row-codec.js';
import { faultOfHeader, faultOfShard, HEADER_BYTES, shardBytes, shardHeader } from './shard.js';
import { ShardMemory } from './shard-memory.js';

export interface SetAside {
  readonly shard: number;
  /** Where the file is now. */
  readonly file: string;
  readonly reason: string;
}

export class ShardFolder {
  readonly setAside: SetAside[] = [];
  private readonly folder: string;
  private readonly keyHash: Buffer;
  private readonly format: RowFormat;
  private readonly onSetAside: (event: SetAside) => void;
  private readonly memory: ShardMemory;
  private readonly present = new Set<number>();
  private readonly verified = new Set<number>();

  constructor(
    folder: string,
    keyHash: Buffer,
    format: RowFormat,
    memoryBytes: number,
    onSetAside: (event: SetAside) => void,
  ) {
    this.folder = folder;
    this.keyHash = keyHash;
    this.format = format;
    this.onSetAside = onSetAside;
    this.memory = new ShardMemory(memoryBytes);
  }

  has(shard: number): boolean {
    return this.present.has(shard);
  }

  path(shard: number): string {
    return join(this.folder, `${String(shard).padStart(6, '0')}.shard`);
  }

  /** Looks for a shard and checks its size and header only, so that a large cache opens quickly. */
  find(shard: ShardLayout): void {
    const path = this.path(shard.index);
    if (!existsSync(path)) return;
    const { bytes, size } = readPart(path, 0, HEADER_BYTES);
    const fault = faultOfHeader(bytes, size, this.header(shard), shardBytes(shard, this.format));
    if (fault === null) this.present.add(shard.index);
    else this.reject(shard.index, fault);
  }

  /** The whole shard, verified; null when it did not pass and was set aside. */
  load(shard: ShardLayout): Buffer | null {
    const { bytes } = readPart(this.path(shard.index), 0, Number.MAX_SAFE_INTEGER);
    const fault = faultOfShard(bytes, this.header(shard), shardBytes(shard, this.format));
    if (fault !== null) {
      this.reject(shard.index, fault);
      return null;
    }
    this.keep(shard.index, bytes);
    return bytes;
  }

  /** Bytes [start, start + length) of a shard that is verified first; null when it did not pass and was set aside. */
  read(shard: ShardLayout, start: number, length: number): Uint8Array | null {
    const held = this.memory.get(shard.index);
    if (held === null && this.verified.has(shard.index)) return readPart(this.path(shard.index), start, length).bytes;
    return (held ?? this.load(shard))?.subarray(start, start + length) ?? null;
  }

  /** `file` is a complete shard. */
  async write(shard: ShardLayout, file: Buffer): Promise<void> {
    await writeFileAtomic(this.path(shard.index), file);
    this.present.add(shard.index);
    this.keep(shard.index, file);
  }

  header(shard: ShardLayout): Buffer {
    return shardHeader(shard, this.format, this.keyHash);
  }

  isVerified(shard: number): boolean {
    return this.verified.has(shard);
  }

  private keep(shard: number, file: Buffer): void {
    this.verified.add(shard);
    this.memory.put(shard, file);
  }

  private reject(shard: number, reason: string): void {
    this.present.delete(shard);
    const path = this.path(shard);
    let n = 0;
    while (existsSync(`${path}.set-aside-${n}`)) n++;
    const file = `${path}.set-aside-${n}`;
    try {
      renameSync(path, file);
    } catch (error) {
      throw describeFileError(error, path, 'write');
    }
    const event: SetAside = { shard, file, reason };
    this.setAside.push(event);
    this.onSetAside(event);
  }
}

/** At most `length` bytes from `start`, fewer at the end of the file, and the file's size. */
function readPart(path: string, start: number, length: number): { bytes: Buffer; size: number } {
  try {
    const file = openSync(path, 'r');
    try {
      const { size } = fstatSync(file);
      const bytes = Buffer.allocUnsafe(Math.max(0, Math.min(length, size - start)));
      let got = 0;
      for (let n = -1; n !== 0 && got < bytes.length; got += n)
        n = readSync(file, bytes, got, bytes.length - got, start + got);
      return { bytes: bytes.subarray(0, got), size };
    } finally {
      closeSync(file);
    }
  } catch (error) {
    throw describeFileError(error, path, 'read');
  }
}
