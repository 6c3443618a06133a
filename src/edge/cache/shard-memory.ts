// Least recently used shards within a byte limit.
// Zone: edge. Only verified shards are put here.

export class ShardMemory {
  private readonly limitBytes: number;
  /** Insertion order is age: the least recently used shard comes first. */
  private readonly held = new Map<number, Buffer>();
  private heldBytes = 0;

  constructor(limitBytes: number) {
    this.limitBytes = limitBytes;
  }

  get(shard: number): Buffer | null {
    const file = this.held.get(shard);
    if (file === undefined) return null;
    this.held.delete(shard);
    this.held.set(shard, file);
    return file;
  }

  /** Keeps a shard, dropping older ones; one that is larger than the limit is not kept. */
  put(shard: number, file: Buffer): void {
    this.drop(shard);
    if (file.length > this.limitBytes) return;
    this.held.set(shard, file);
    this.heldBytes += file.length;
    for (const oldest of this.held.keys()) {
      if (this.heldBytes <= this.limitBytes) break;
      this.drop(oldest);
    }
  }

  drop(shard: number): void {
    this.heldBytes -= this.held.get(shard)?.length ?? 0;
    this.held.delete(shard);
  }
}
