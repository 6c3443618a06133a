// Size and SHA-256 of a file, read in pieces: what a bundle's manifest lists and what the edge checks.
// Zone: edge and owner.
import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';

export interface FileDigest {
  readonly size: number;
  /** Lower-case hex. */
  readonly sha256: string;
}

/** `onBytes` hears how much was read so far. Rejects with Node's error when the file cannot be read. */
export async function digestFile(path: string, onBytes?: (bytes: number) => void): Promise<FileDigest> {
  const hash = createHash('sha256');
  let size = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: 1 << 20 })) {
    hash.update(chunk as Buffer);
    size += (chunk as Buffer).length;
    onBytes?.(size);
  }
  return { size, sha256: hash.digest('hex') };
}
