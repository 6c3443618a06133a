// What `status` and `unlock` answer: state, licence terms, tokens charged and left. Zone: trusted (and the edge's client).
import { Reader, Writer } from './codec.js';
import { MalformedError } from './errors.js';

export const ENCLAVE_STATES = ['fresh', 'attested', 'unlocked', 'exhausted', 'expired', 'destroyed'] as const;
export type EnclaveState = (typeof ENCLAVE_STATES)[number];
export type Precision = 'float32' | 'float16';

export interface LicenceSummary {
  readonly licenceId: string;
  readonly budgetTokens: number;
  readonly chargedTokens: number;
  readonly remainingTokens: number;
  readonly topK: number;
  readonly precision: Precision;
  readonly temperature: { readonly min: number; readonly max: number };
  /** Unix seconds. */
  readonly expires: number;
}

export interface EnclaveStatus {
  readonly state: EnclaveState;
  readonly bundleId: string;
  /** The current licence; null before `unlock`. */
  readonly licence: LicenceSummary | null;
}

export function encodeStatus(status: EnclaveStatus): Uint8Array {
  const writer = new Writer().u8(ENCLAVE_STATES.indexOf(status.state)).text(status.bundleId);
  const { licence } = status;
  writer.u8(licence === null ? 0 : 1);
  if (licence !== null) {
    writer.text(licence.licenceId).u64(licence.budgetTokens).u64(licence.chargedTokens).u32(licence.topK);
    writer
      .u8(licence.precision === 'float16' ? 1 : 0)
      .f64(licence.temperature.min)
      .f64(licence.temperature.max);
    writer.u64(licence.expires);
  }
  return writer.finish();
}

function decodeLicence(reader: Reader): LicenceSummary {
  const licenceId = reader.text();
  const budgetTokens = reader.u64();
  const chargedTokens = reader.u64();
  return {
    licenceId,
    budgetTokens,
    chargedTokens,
    remainingTokens: budgetTokens - chargedTokens,
    topK: reader.u32(),
    precision: reader.u8() === 1 ? 'float16' : 'float32',
    temperature: { min: reader.f64(), max: reader.f64() },
    expires: reader.u64(),
  };
}

/** Throws MalformedError on any other bytes than `encodeStatus` writes. */
export function decodeStatus(body: Uint8Array): EnclaveStatus {
  const reader = new Reader(body);
  const state = ENCLAVE_STATES[reader.u8()];
  if (state === undefined) throw new MalformedError('message', 'status with an unknown state');
  const bundleId = reader.text();
  const licence = reader.u8() === 1 ? decodeLicence(reader) : null;
  reader.end();
  return { state, bundleId, licence };
}
