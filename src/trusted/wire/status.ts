// What `status`, `unlock` and `lease` answer: state, licence terms, tokens charged and left. Zone: trusted.
import type { Licence } from './licence.js';

export const ENCLAVE_STATES = ['fresh', 'attested', 'unlocked', 'exhausted', 'expired', 'destroyed'] as const;
export type EnclaveState = (typeof ENCLAVE_STATES)[number];
export type Precision = 'float32' | 'float16';

export interface LicenceSummary extends Licence {
  readonly chargedTokens: number;
  readonly remainingTokens: number;
}

/** On the wire: its canonical JSON. */
export interface EnclaveStatus {
  readonly state: EnclaveState;
  readonly bundleId: string;
  /** The current licence; null before `unlock`. */
  readonly licence: LicenceSummary | null;
  /** Positions covered by leases and not yet released; null where the licence needs none. */
  readonly leasedTokens: number | null;
}
