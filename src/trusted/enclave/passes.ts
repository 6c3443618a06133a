// Forward passes through enclave-held parts: checks what the other side asks for, keeps caches and hidden states that stay inside,
// and allows every authorised token one way through each part. Zone: trusted. DESIGN sections 4 and 6.
import { MAX_HIDDEN_ENTRIES, MAX_PASSES, MAX_TOKENS_PER_CALL } from '../wire/limits.js';
import type { Manifest } from '../wire/manifest.js';
import type { ReleaseReply } from '../wire/messages.js';
import {
  type BlockRequest,
  type EmbedRequest,
  type HeadRequest,
  type HiddenReply,
  NO_CACHE,
  type PassLayout,
} from '../wire/part-messages.js';
import type { Precision } from '../wire/status.js';
import { roundToFloat16 } from './float16.js';
import type { BlockCache, EnclaveParts, Layout } from './parts.js';
import { refuse } from './refuse.js';
import type { Session } from './sessions.js';

/** What one session has inside. */
export class Passes {
  readonly #parts: EnclaveParts;
  readonly #manifest: Manifest;
  /** Cache and its length, per segment. */
  readonly #caches: Map<number, { readonly blocks: BlockCache; length: number }> = new Map();
  readonly #kept: Map<number, Float32Array> = new Map();
  /** Tokens that have gone through each segment. */
  readonly #through: Map<number, number> = new Map();
  #lastPass = 0;

  constructor(parts: EnclaveParts, manifest: Manifest) {
    this.#parts = parts;
    this.#manifest = manifest;
  }

  /** Token ids into an enclave-held first segment. Refuses `token-out-of-range`, `cache-length`, `memory-exceeded`. */
  async embed(request: EmbedRequest, session: Session): Promise<HiddenReply> {
    if (this.#manifest.segments[0]!.place !== 'enclave') refuse('part-not-held');
    const { vocabSize } = this.#manifest.model;
    const foreign = request.tokenIds.findIndex((id) => id < 0 || id >= vocabSize);
    if (foreign >= 0) refuse('token-out-of-range', foreign);
    const layout = this.#layout(request);
    session.authorisedTokens += request.tokenIds.length;
    session.enteredTokens += request.tokenIds.length;
    const ids = new Int32Array(layout.lengths.length * layout.tokens);
    let at = 0;
    layout.lengths.forEach((length, row) => {
      ids.set(request.tokenIds.subarray(at, at + length), row * layout.tokens);
      at += length;
    });
    const hidden = await this.#parts.enter(ids, { ...layout, ...this.#cache(0, request) });
    this.#advance(0, request);
    return this.#reply(0, hidden);
  }

  /** Hidden states through an enclave-held segment between others. Refuses what `embed` does, and tokens beyond the authorised. */
  async block(request: BlockRequest, session: Session): Promise<HiddenReply> {
    const { segment, hidden } = request;
    const last = this.#manifest.segments.length - 1;
    if (segment === 0 || segment >= last || this.#manifest.segments[segment]!.place !== 'enclave')
      refuse('part-not-held', segment);
    const layout = this.#layout(request);
    if (hidden.length !== layout.lengths.length * layout.tokens * this.#manifest.model.hiddenSize) refuse('malformed');
    const tokens = (this.#through.get(segment) ?? 0) + layout.lengths.reduce((sum, length) => sum + length, 0);
    if (tokens > session.enteredTokens) refuse('release-not-authorised', session.enteredTokens, tokens);
    this.#through.set(segment, tokens);
    const out = await this.#parts.run(segment, hidden, { ...layout, ...this.#cache(segment, request) });
    this.#advance(segment, request);
    return this.#reply(segment, out);
  }

  /** Rows into the enclave-held head; nothing is given out before the caller has charged them. Returns the rows and how many. */
  async head(request: HeadRequest, session: Session, precision: Precision): Promise<ReleaseReply> {
    const { hidden, positions } = this.#rows(request);
    const k = Math.min(request.k, this.#manifest.model.vocabSize);
    const { ids, logprobs } = await this.#parts.head(hidden, positions, k, session.temperature);
    if (request.pass !== 0) this.#parts.reuse(hidden);
    return { tokenIds: ids, logprobs: precision === 'float16' ? logprobs.map(roundToFloat16) : logprobs };
  }

  /** Rows a `head` request asks for. */
  rowsOf({ pass, positions, hidden }: HeadRequest): number {
    return pass === 0 ? hidden.length / this.#manifest.model.hiddenSize : positions.length;
  }

  #rows(request: HeadRequest): Pick<HeadRequest, 'hidden' | 'positions'> {
    const { pass, positions, hidden } = request;
    const { segments, model } = this.#manifest;
    if (segments.at(-1)?.place !== 'enclave') refuse('part-not-held', segments.length - 1);
    if (pass === 0) {
      if (this.#insideBefore(segments.length - 1) || hidden.length % model.hiddenSize !== 0) refuse('malformed');
      return { hidden, positions: Int32Array.from({ length: this.rowsOf(request) }, (_, i) => i) };
    }
    const kept = this.#kept.get(pass) ?? refuse('pass-unknown');
    const rows = kept.length / model.hiddenSize;
    if (hidden.length > 0 || positions.some((position) => position < 0 || position >= rows)) refuse('malformed');
    this.#kept.delete(pass);
    return { hidden: kept, positions };
  }

  #layout({ lengths }: PassLayout): Pick<Layout, 'lengths' | 'tokens'> {
    const tokens = lengths.reduce((longest, length) => Math.max(longest, length), 0);
    const cells = lengths.length * tokens;
    if (cells > MAX_TOKENS_PER_CALL || cells * this.#manifest.model.hiddenSize > MAX_HIDDEN_ENTRIES)
      refuse('malformed');
    return { lengths, tokens };
  }

  #cache(segment: number, { past }: PassLayout): Pick<Layout, 'cache' | 'past'> {
    if (past === NO_CACHE) return { cache: null, past: 0 };
    if (past === 0) this.#caches.set(segment, { blocks: new Map(), length: 0 });
    const cache = this.#caches.get(segment);
    if (cache === undefined || cache.length !== past) return refuse('cache-length', cache?.length ?? 0, past);
    return { cache: cache.blocks, past };
  }

  #advance(segment: number, { past, lengths }: PassLayout): void {
    if (past !== NO_CACHE) this.#caches.get(segment)!.length = past + lengths[0]!;
  }

  #insideBefore(segment: number): boolean {
    return this.#manifest.segments[segment - 1]?.place === 'enclave';
  }

  /** Hidden states leave only where the next segment is on the accelerator. */
  #reply(segment: number, hidden: Float32Array): HiddenReply {
    if (!this.#insideBefore(segment + 1) || this.#manifest.segments[segment + 1]!.place !== 'enclave')
      return { pass: 0, hidden };
    if (this.#kept.size >= MAX_PASSES) this.#kept.delete(this.#kept.keys().next().value!);
    this.#kept.set(++this.#lastPass, hidden);
    return { pass: this.#lastPass, hidden: new Float32Array(0) };
  }
}
