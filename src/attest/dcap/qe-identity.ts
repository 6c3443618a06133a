// Intel's identity of the quoting enclave: which enclave may sign with an attestation key. Zone: owner (verifier).
// Intel PCS API version 4, enclave identity version 2. Matching as in Intel's quote verification library (EnclaveReportVerifier).
import { equalBytes } from '../../trusted/wire/bytes.js';
import { VerificationError } from '../../trusted/wire/errors.js';
import { Fields } from '../../trusted/wire/fields.js';
import type { EnclaveReport } from './reports.js';
import { hexField, readSignedText, timeField } from './signed-json.js';
import { type EnclaveLevel, matchEnclave, readEnclaveLevel } from './tcb-info.js';

export interface QeIdentity {
  readonly id: 'QE' | 'TD_QE';
  /** Unix seconds. */
  readonly issued: number;
  readonly nextUpdate: number;
  readonly evaluationNumber: number;
  readonly miscSelect: Uint8Array;
  readonly miscSelectMask: Uint8Array;
  readonly attributes: Uint8Array;
  readonly attributesMask: Uint8Array;
  readonly mrsigner: Uint8Array;
  readonly isvProdId: number;
  readonly levels: readonly EnclaveLevel[];
}

/** Throws MalformedError. The signature over `text` must have been verified. */
export function parseQeIdentity(text: string): QeIdentity {
  const fields = new Fields(readSignedText(text, 'qe_identity'), 'qe_identity');
  fields.integer('version', 2, 2);
  return {
    id: fields.choice('id', ['QE', 'TD_QE']),
    issued: timeField(fields, 'issueDate'),
    nextUpdate: timeField(fields, 'nextUpdate'),
    evaluationNumber: fields.integer('tcbEvaluationDataNumber', 0, 1_000_000),
    miscSelect: hexField(fields, 'miscselect', 4),
    miscSelectMask: hexField(fields, 'miscselectMask', 4),
    attributes: hexField(fields, 'attributes', 16),
    attributesMask: hexField(fields, 'attributesMask', 16),
    mrsigner: hexField(fields, 'mrsigner', 32),
    isvProdId: fields.integer('isvprodid', 0, 65_535),
    levels: fields.list('tcbLevels', 256).map(readEnclaveLevel),
  };
}

function equalMasked(actual: Uint8Array, mask: Uint8Array, expected: Uint8Array): boolean {
  const masked = actual.map((byte, i) => byte & mask[i]!);
  return equalBytes(masked, expected);
}

/**
 * The level of the quoting enclave. Throws VerificationError: 'qe-identity' when it is another enclave (or one with DEBUG,
 * which the masks cover), 'tcb-level' when it is older than every level.
 */
export function matchQe(identity: QeIdentity, report: EnclaveReport): EnclaveLevel {
  const differing = [
    ['MRSIGNER', equalBytes(report.mrsigner, identity.mrsigner)],
    ['ISVPRODID', report.isvProdId === identity.isvProdId],
    ['MISCSELECT', equalMasked(report.miscSelect, identity.miscSelectMask, identity.miscSelect)],
    ['ATTRIBUTES', equalMasked(report.attributes, identity.attributesMask, identity.attributes)],
  ].find(([, equal]) => !equal);
  if (differing !== undefined) {
    throw new VerificationError('qe-identity', `the quoting enclave is not Intel's: another ${differing[0]}`);
  }
  return matchEnclave(identity.levels, report.isvSvn, 'the quoting enclave');
}
