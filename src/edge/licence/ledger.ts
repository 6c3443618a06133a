// Egress ledger: everything the device relays between the enclave and the outside world, for the data owner to read. Zone: edge.
// DESIGN section 7: evidence goes out, a grant comes in, and after unlock nothing leaves but what the licence's leases ask for.
// A message is recorded before it is sent: a crash may leave a line without its message, never a message without its line.
import { createHash } from 'node:crypto';
import { appendEntry, type LedgerEntry, type Purpose, readLedger, setTornEndAside } from './ledger-file.js';

export type { LedgerEntry, Purpose } from './ledger-file.js';

/** The host of messages that travel as files, by hand. */
export const BY_FILE = 'file';

export interface Relayed {
  readonly direction: LedgerEntry['direction'];
  readonly purpose: Purpose;
  /** `host:port` of the licence service, or `BY_FILE`. */
  readonly host: string;
  /** The body as it travels. */
  readonly message: Uint8Array;
}

export class EgressLedger {
  readonly #file: string | null;
  readonly #entries: LedgerEntry[] = [];
  #unlocked = false;

  /** Without a file the ledger lives in memory, for a program that shows it itself. */
  constructor(file: string | null = null) {
    this.#file = file;
  }

  /** Checks what is in `file` so far; what is wrong with it is said and does not stop the work. */
  static async open(file: string, onNotice: (line: string) => void): Promise<EgressLedger> {
    const aside = await setTornEndAside(file);
    if (aside !== null) onNotice(`egress ledger: the last line was cut short by a crash; it was set aside as ${aside}`);
    const { broken } = await readLedger(file);
    if (broken !== null) {
      onNotice(`egress ledger: ${file} was altered: line ${broken.line}: ${broken.reason}; new lines go on after it`);
    }
    return new EgressLedger(file);
  }

  /** What this process recorded. */
  get entries(): readonly LedgerEntry[] {
    return this.#entries;
  }

  /** Returns once the entry is on the disk. Throws EnvironmentError when it cannot be: then nothing may be sent. */
  async record({ direction, purpose, host, message }: Relayed): Promise<void> {
    const entry: LedgerEntry = {
      time: new Date().toISOString(),
      direction,
      purpose,
      host,
      bytes: message.length,
      sha256: createHash('sha256').update(message).digest('hex'),
      afterUnlock: this.#unlocked,
    };
    if (this.#file !== null) await appendEntry(this.#file, entry);
    this.#entries.push(entry);
  }

  /** From here on every outgoing byte counts as egress after unlock. */
  markUnlocked(): void {
    this.#unlocked = true;
  }

  get egressBytesAfterUnlock(): number {
    return bytesOut(this.#entries.filter(({ afterUnlock }) => afterUnlock));
  }
}

/** Bytes of the entries that left the device. */
export function bytesOut(entries: readonly LedgerEntry[]): number {
  return entries.reduce((sum, { direction, bytes }) => sum + (direction === 'out' ? bytes : 0), 0);
}
