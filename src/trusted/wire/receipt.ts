// The receipt an enclave signs when it has destroyed its keys: what was granted, what was used, when it ended. Zone: trusted.
// Canonical JSON in a JWS of purpose `receipt`; attest/receipt.ts reads and verifies it.

export interface ReceiptEntry {
  readonly licenceId: string;
  readonly budgetTokens: number;
  readonly chargedTokens: number;
}

export interface Receipt {
  readonly bundleId: string;
  /** Key id of the enclave's signing key, as attested. */
  readonly enclaveKeyId: string;
  /** Evidence kind of the platform; `simulated` proves nothing about hardware. */
  readonly platform: string;
  /** Every licence the enclave ever accepted, oldest first; empty when it was never unlocked. */
  readonly licences: readonly ReceiptEntry[];
  /** State in which `destroy` arrived. */
  readonly reason: 'requested' | 'exhausted' | 'expired';
  /** Unix seconds. */
  readonly time: number;
}
