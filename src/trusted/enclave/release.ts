// Undoes the vocabulary permutation of released top-k rows and enforces what may leave. Zone: trusted. DESIGN section 6.
// Pure: budget and session are checked by the caller, and nothing returned here leaves before it has been charged.
import { LOGPROB_TOLERANCE } from '../wire/limits.js';
import type { ReleaseReply, ReleaseRequest } from '../wire/messages.js';
import type { Precision } from '../wire/status.js';
import { roundToFloat16 } from './float16.js';
import { refuse } from './refuse.js';

/** From locked ids to token ids, row by row. */
export class RowUnlocker {
  readonly #tokenOfLockedId: Int32Array;
  /** The last row, counted over all releases, that each locked id was in. */
  readonly #lastRow: Float64Array;
  #row = 0;

  constructor(tokenOfLockedId: Int32Array) {
    this.#tokenOfLockedId = tokenOfLockedId;
    this.#lastRow = new Float64Array(tokenOfLockedId.length);
  }

  /** Refuses `release-malformed` (row) for an id out of range or twice in its row, or a value that is no log-probability. */
  unlock({ rows, k, lockedIds, logprobs }: ReleaseRequest, precision: Precision): ReleaseReply {
    const tokenIds = new Int32Array(lockedIds.length);
    const released = new Float32Array(logprobs.length);
    for (let row = 0; row < rows; row++) {
      const counted = ++this.#row;
      for (let at = row * k; at < (row + 1) * k; at++) {
        const locked = lockedIds[at]!;
        const logprob = logprobs[at]!;
        const seen = this.#lastRow[locked];
        if (seen === undefined || seen === counted) refuse('release-malformed', row);
        // Written so that NaN fails too; minus infinity is refused because it is not finite.
        if (!(logprob <= LOGPROB_TOLERANCE && logprob >= -3.5e38)) refuse('release-malformed', row);
        this.#lastRow[locked] = counted;
        tokenIds[at] = this.#tokenOfLockedId[locked]!;
        released[at] = precision === 'float16' ? roundToFloat16(logprob) : logprob;
      }
    }
    return { tokenIds, logprobs: released };
  }

  erase(): void {
    this.#tokenOfLockedId.fill(0);
    this.#lastRow.fill(0);
  }
}
