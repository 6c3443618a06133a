// The egress ledger on disk: JSON lines, each with the SHA-256 of the line before it, synced before the message goes out. Zone: edge.
// It lies beside the enclave's state folder, not in it: the sandboxed enclave program cannot write there. DESIGN section 7.
// A chain shows that a line was altered, moved or taken out of the middle; it cannot show that lines are missing at the end.
import { createHash } from 'node:crypto';
import { mkdir, open, readFile, truncate } from 'node:fs/promises';
import { dirname } from 'node:path';
import { lock } from 'proper-lockfile';
import { z } from 'zod';
import { describeFileError, writeFileAtomic } from '../../model/files.js';

export const PURPOSES = ['challenge', 'evidence', 'grant', 'lease-request', 'lease', 'receipt'] as const;
export type Purpose = (typeof PURPOSES)[number];

const hash = z.string().regex(/^[0-9a-f]{64}$/, 'expected SHA-256 in hex');
export interface LedgerEntry {
  /** ISO 8601. */
  readonly time: string;
  readonly direction: 'out' | 'in';
  readonly purpose: Purpose;
  /** `host:port` of the licence service, or how else the message travelled. */
  readonly host: string;
  /** Of the body: HTTP and TLS put headers around it. */
  readonly bytes: number;
  readonly sha256: string;
  /** Whether the enclave had been unlocked when this was relayed. */
  readonly afterUnlock: boolean;
}

interface Line extends LedgerEntry {
  /** SHA-256 of the line before this one, without its line break; zeros in the first. */
  readonly prev: string;
}

const lineSchema: z.ZodType<Line> = z.strictObject({
  time: z.iso.datetime(),
  direction: z.enum(['out', 'in']),
  purpose: z.enum(PURPOSES),
  host: z.string().min(1).max(300),
  bytes: z.int().min(0),
  sha256: hash,
  afterUnlock: z.boolean(),
  prev: hash,
});

export interface LedgerContents {
  readonly entries: readonly LedgerEntry[];
  /** The first line that is no entry or does not follow from the one before it; null: the chain holds. */
  readonly broken: { readonly line: number; readonly reason: string } | null;
  /** Bytes behind the last line break: a write that a crash cut short. */
  readonly tornBytes: number;
}

const FIRST = '0'.repeat(64);
const LINE_BREAK = 0x0a;

function sha256(bytes: Uint8Array): string {
  return createHash('sha256').update(bytes).digest('hex');
}

async function readOrEmpty(file: string): Promise<Buffer> {
  try {
    return await readFile(file);
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return Buffer.alloc(0);
    throw describeFileError(error, file, 'read');
  }
}

/** Where the ledger of an enclave lies: beside its state folder. */
export function ledgerFileOf(stateDir: string): string {
  return `${stateDir}.egress.jsonl`;
}

/** Reads and checks the whole file; one that does not exist is empty. Never throws for what it holds. */
export async function readLedger(file: string): Promise<LedgerContents> {
  const bytes = await readOrEmpty(file);
  const end = bytes.lastIndexOf(LINE_BREAK) + 1;
  const lines =
    end === 0
      ? []
      : bytes
          .subarray(0, end - 1)
          .toString('utf8')
          .split('\n');
  const entries: LedgerEntry[] = [];
  let broken: LedgerContents['broken'] = null;
  let expected = FIRST;
  for (const [i, text] of lines.entries()) {
    const line = parseLine(text);
    if (line === null) broken ??= { line: i + 1, reason: 'it is no ledger entry' };
    else if (line.prev !== expected) broken ??= { line: i + 1, reason: 'it does not follow from the line before it' };
    expected = sha256(Buffer.from(text));
    if (line !== null) {
      const { prev: _, ...entry } = line;
      entries.push(entry);
    }
  }
  return { entries, broken, tornBytes: bytes.length - end };
}

function parseLine(text: string): Line | null {
  try {
    return lineSchema.parse(JSON.parse(text));
  } catch {
    return null;
  }
}

/** Puts the cut end of a torn file aside as `<file>.torn-<time>`; gives that name, or null when nothing was torn. */
export async function setTornEndAside(file: string): Promise<string | null> {
  return locked(file, async () => {
    const bytes = await readOrEmpty(file);
    const end = bytes.lastIndexOf(LINE_BREAK) + 1;
    if (end === bytes.length) return null;
    const aside = `${file}.torn-${Date.now()}`;
    await writeFileAtomic(aside, bytes.subarray(end));
    await truncate(file, end);
    return aside;
  });
}

/** Adds one line and returns once it is on the disk. Several processes may do so at once. */
export async function appendEntry(file: string, entry: LedgerEntry): Promise<void> {
  await locked(file, async () => {
    const bytes = await readOrEmpty(file);
    const body = bytes.at(-1) === LINE_BREAK ? bytes.subarray(0, -1) : bytes;
    // A torn end stays what it is: the next line begins on its own, and the chain says where it broke.
    const repair = bytes.length > 0 && body.length === bytes.length ? '\n' : '';
    const prev = bytes.length === 0 ? FIRST : sha256(body.subarray(body.lastIndexOf(LINE_BREAK) + 1));
    const handle = await open(file, 'a', 0o600);
    try {
      await handle.writeFile(`${repair}${JSON.stringify({ ...entry, prev } satisfies Line)}\n`);
      await handle.sync();
    } finally {
      await handle.close();
    }
    if (bytes.length === 0) await syncFolder(dirname(file));
  });
}

async function syncFolder(folder: string): Promise<void> {
  const handle = await open(folder, 'r');
  await handle.sync().catch(() => undefined);
  await handle.close();
}

async function locked<T>(file: string, run: () => Promise<T>): Promise<T> {
  try {
    await mkdir(dirname(file), { recursive: true, mode: 0o700 });
    const retries = { retries: 100, minTimeout: 10, maxTimeout: 200, factor: 1.3 };
    const release = await lock(file, { lockfilePath: `${file}.lock`, realpath: false, stale: 10_000, retries });
    try {
      return await run();
    } finally {
      await release();
    }
  } catch (error) {
    throw describeFileError(error, file, 'write');
  }
}
