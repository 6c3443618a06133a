// Damaged copies of an input: bits flipped, bytes set, runs cut, doubled, inserted. Seeded, so a failure repeats.

/** Yields `count` copies, each different from `original`. */
export function* mutations(original: Uint8Array, count: number, seed: number): Generator<Uint8Array> {
  let state = seed >>> 0 || 1;
  const random = (below: number): number => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
  const edges = [0, 1, 0x7f, 0x80, 0xff];
  for (let made = 0; made < count; ) {
    let bytes: Uint8Array = Uint8Array.from(original);
    for (let times = 1 + random(3); times > 0 && bytes.length > 0; times--) {
      const at = random(bytes.length);
      const run = 1 + random(16);
      const kind = random(8);
      if (kind < 4) bytes[at]! ^= 1 << random(8);
      else if (kind === 4) bytes[at] = edges[random(edges.length)]!;
      else if (kind === 5) bytes = Uint8Array.from([...bytes.subarray(0, at), ...bytes.subarray(at + run)]);
      else if (kind === 6) bytes = Uint8Array.from([...bytes.subarray(0, at + run), ...bytes.subarray(at)]);
      else bytes = bytes.slice(0, at);
    }
    if (Buffer.compare(bytes, original) === 0) continue;
    made++;
    yield bytes;
  }
}
