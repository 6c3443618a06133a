// Hard limits on everything that crosses the enclave's boundary. Zone: trusted.
// A frame above its limit is refused before memory is set aside for it.

/** Bytes of an attestation nonce. */
export const NONCE_BYTES = 32;
/** An HPKE-sealed grant, licence included. */
export const MAX_GRANT_BYTES: number = 64 * 1024;
/** Hardware quotes carry certificate chains; the largest seen is below 20 KiB. */
export const MAX_EVIDENCE_BYTES: number = 128 * 1024;
/** Token ids in one `authorise`. */
export const MAX_TOKENS_PER_CALL: number = 1 << 20;
/** Entries (rows × k) in one `release`. */
export const MAX_RELEASE_ENTRIES: number = 1 << 22;
/** Open sessions of one enclave. */
export const MAX_SESSIONS: number = 1 << 16;
export const MAX_VOCAB_SIZE: number = 1 << 20;
/** manifest.json, and the licence and receipt texts. */
export const MAX_MANIFEST_BYTES: number = 1 << 20;
export const MAX_LICENCE_BYTES: number = 8 * 1024;
export const MAX_RECEIPT_BYTES: number = 16 * 1024;
/** Licences one sealed state remembers: the first and its successors. */
export const MAX_LICENCES: number = 32;
/** Hidden values (rows × width) in one message: 128 MB. */
export const MAX_HIDDEN_ENTRIES: number = 1 << 25;
/** Pieces of a sealed segment, and bytes of the index that lists them. */
export const MAX_PIECES: number = 1 << 20;
export const MAX_SEALED_INDEX_BYTES: number = 16 * 1024 * 1024;
/** Passes of one session that wait for their release. */
export const MAX_PASSES = 4;
/** Log-probabilities may exceed 0 by rounding only. */
export const LOGPROB_TOLERANCE = 1e-3;
