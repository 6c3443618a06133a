// Open sessions: what each was begun with and how many authorised tokens it has not yet released. Zone: trusted.
// Sessions live in memory only: a restart forgets them, the budget does not.
import { MAX_SESSIONS } from '../wire/limits.js';
import type { Passes } from './passes.js';
import { refuse } from './refuse.js';

export interface Session {
  readonly topK: number;
  readonly temperature: number;
  /** Tokens authorised and not yet released: an upper bound on rows that can follow. */
  authorisedTokens: number;
  /** Tokens authorised since it began: an upper bound on tokens through each enclave-held part. */
  enteredTokens: number;
  /** Null where the bundle places nothing in the enclave. */
  readonly passes: Passes | null;
}

export class Sessions {
  readonly #open: Map<number, Session> = new Map();
  #last = 0;

  begin(topK: number, temperature: number, passes: Passes | null): number {
    if (this.#open.size >= MAX_SESSIONS || this.#last >= 0xffffffff) refuse('too-many-sessions');
    this.#last++;
    this.#open.set(this.#last, { topK, temperature, authorisedTokens: 0, enteredTokens: 0, passes });
    return this.#last;
  }

  get(id: number): Session {
    return this.#open.get(id) ?? refuse('unknown-session');
  }

  end(id: number): void {
    if (!this.#open.delete(id)) refuse('unknown-session');
  }
}
