// Undoes the vocabulary permutation of released top-k rows and enforces what may leave. Zone: trusted. DESIGN section 6.
// Pure: budget and session are checked by the caller, and nothing returned here leaves before it has been charged.
import { LOGPROB_TOLERANCE } from '../wire/limits.js';
import type { ReleaseReply, ReleaseRequest } from '../wire/messages.js';
import type { Precision } from '../wire/status.js';
import { roundToFloat16 } from './float16.js';
import { refuse } from './refuse.js';

/** Refuses `release-malformed` (row) for an id out of range or twice in its row, or a value that is no log-probability. */
export function unlockRows(request: ReleaseRequest, tokenOfLockedId: Int32Array, precision: Precision): ReleaseReply {
  const { rows, k, lockedIds, logprobs } = request;
  const tokenIds = new Int32Array(lockedIds.length);
  const released = new Float32Array(logprobs.length);
  const lastRow = new Int32Array(tokenOfLockedId.length).fill(-1);
  for (let row = 0; row < rows; row++) {
    for (let at = row * k; at < (row + 1) * k; at++) {
      const locked = lockedIds[at]!;
      const logprob = logprobs[at]!;
      const seen = lastRow[locked];
      if (seen === undefined || seen === row) refuse('release-malformed', row);
      // Written so that NaN fails too; minus infinity is refused because it is not finite.
      if (!(logprob <= LOGPROB_TOLERANCE && logprob >= -3.5e38)) refuse('release-malformed', row);
      lastRow[locked] = row;
      tokenIds[at] = tokenOfLockedId[locked]!;
      released[at] = precision === 'float16' ? roundToFloat16(logprob) : logprob;
    }
  }
  return { tokenIds, logprobs: released };
}
