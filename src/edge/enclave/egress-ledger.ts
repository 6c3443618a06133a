// Egress ledger: everything the device relays between the enclave and the outside world, for the data owner to read. Zone: edge.
// DESIGN section 7: evidence goes out, a grant comes in, and after unlock nothing may leave but the lease requests that a licence asks for.
import { createHash } from 'node:crypto';

export interface LedgerEntry {
  /** ISO 8601. */
  readonly time: string;
  readonly direction: 'out' | 'in';
  readonly purpose: 'evidence' | 'grant' | 'lease-request' | 'lease' | 'receipt';
  readonly bytes: number;
  readonly sha256: string;
  /** Whether the enclave had been unlocked when this was relayed. */
  readonly afterUnlock: boolean;
}

export class EgressLedger {
  readonly #entries: LedgerEntry[] = [];
  #unlocked = false;

  get entries(): readonly LedgerEntry[] {
    return this.#entries;
  }

  record(direction: LedgerEntry['direction'], purpose: LedgerEntry['purpose'], message: Uint8Array): void {
    this.#entries.push({
      time: new Date().toISOString(),
      direction,
      purpose,
      bytes: message.length,
      sha256: createHash('sha256').update(message).digest('hex'),
      afterUnlock: this.#unlocked,
    });
  }

  /** From here on every outgoing byte counts as egress after unlock. */
  markUnlocked(): void {
    this.#unlocked = true;
  }

  get egressBytesAfterUnlock(): number {
    const leaving = this.#entries.filter((entry) => entry.afterUnlock && entry.direction === 'out');
    return leaving.reduce((sum, entry) => sum + entry.bytes, 0);
  }
}
