// Bodies of the replies that come back from the enclave, and how large each may be. Zone: edge. DESIGN section 6.
// Everything here throws MalformedError on any other bytes than the enclave writes; a size beyond its limit is refused by its frame.
import {
  encodeCanonicalJson,
  type JsonObject,
  type JsonValue,
  parseCanonicalJson,
} from '../../trusted/wire/canonical-json.js';
import type { Reader } from '../../trusted/wire/codec.js';
import { REFUSALS } from '../../trusted/wire/error-codes.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import { Fields } from '../../trusted/wire/fields.js';
import type { FrameLimits } from '../../trusted/wire/frame.js';
import { parseLicence } from '../../trusted/wire/licence.js';
import * as limits from '../../trusted/wire/limits.js';
import { decodeBody, ERROR_REPLY, type ErrorReply, type ReleaseReply, replyType } from '../../trusted/wire/messages.js';
import type { HiddenReply } from '../../trusted/wire/part-messages.js';
import { ENCLAVE_STATES, type EnclaveStatus, type LicenceSummary } from '../../trusted/wire/status.js';

const MAX_STATUS_BYTES = 2048;
const RELEASE_ARRAYS = 8 * limits.MAX_RELEASE_ENTRIES;
const HIDDEN = 4 * limits.MAX_HIDDEN_ENTRIES;
export const REPLY_LIMITS: FrameLimits = new Map<number, number>([
  [replyType('attest'), limits.MAX_EVIDENCE_BYTES],
  [replyType('unlock'), MAX_STATUS_BYTES],
  [replyType('begin'), 4],
  [replyType('authorise'), 4 + 4 * limits.MAX_TOKENS_PER_CALL],
  [replyType('release'), 8 + RELEASE_ARRAYS],
  [replyType('end'), 0],
  [replyType('status'), MAX_STATUS_BYTES],
  [replyType('destroy'), limits.MAX_RECEIPT_BYTES],
  [replyType('embed'), 8 + HIDDEN],
  [replyType('block'), 8 + HIDDEN],
  [replyType('head'), 8 + RELEASE_ARRAYS],
  [replyType('leaseRequest'), limits.MAX_LICENCE_BYTES],
  [replyType('lease'), MAX_STATUS_BYTES],
  [ERROR_REPLY, 17],
]);

export function decodeReleaseReply(body: Uint8Array): ReleaseReply {
  return decodeBody(body, (reader) => ({ tokenIds: reader.i32s(), logprobs: reader.f32s() }));
}

/** Locked token ids (`authorise` reply). */
export function decodeIds(body: Uint8Array): Int32Array {
  return decodeBody(body, (reader) => reader.i32s());
}

export function decodeHidden(body: Uint8Array): HiddenReply {
  return decodeBody(body, (reader) => ({ pass: reader.u32(), hidden: reader.f32s() }));
}

export function decodeError(body: Uint8Array): ErrorReply {
  return decodeBody(body, (reader: Reader) => {
    const refusal = REFUSALS[reader.u8()];
    if (refusal === undefined) throw new MalformedError('message', 'error frame with an unknown code');
    return { refusal, numbers: [reader.u64(), reader.u64()] as const };
  });
}

const MAX = Number.MAX_SAFE_INTEGER;

function readLicence(value: JsonValue): LicenceSummary {
  const fields = new Fields(value, 'status.licence');
  const chargedTokens = fields.integer('chargedTokens', 0, MAX);
  const remainingTokens = fields.integer('remainingTokens', 0, MAX);
  const { chargedTokens: _, remainingTokens: __, ...terms } = value as JsonObject;
  return { ...parseLicence(encodeCanonicalJson(terms)), chargedTokens, remainingTokens };
}

/** `status`, `unlock` and `lease` replies. */
export function decodeStatus(body: Uint8Array): EnclaveStatus {
  const fields = new Fields(parseCanonicalJson(body, MAX_STATUS_BYTES), 'status');
  const licence = fields.value('licence');
  const status: EnclaveStatus = {
    state: fields.choice('state', ENCLAVE_STATES),
    bundleId: fields.text('bundleId', /^[0-9a-f]{64}$/),
    licence: licence === null ? null : readLicence(licence),
    leasedTokens: fields.value('leasedTokens') === null ? null : fields.integer('leasedTokens', 0, MAX),
  };
  fields.end();
  return status;
}
