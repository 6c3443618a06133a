// A malicious accelerator: takes a session's way through enclave-held parts and answers for its own parts with whatever it likes. Zone: owner.
// No model runs outside, which is all the same to an enclave that only counts and checks.
import type { Bundle } from '../edge/bundle.js';
import type { EnclaveClient, EnclaveSession } from '../edge/enclave/client.js';
import type { Passed } from '../edge/teacher/gate.js';
import { DistillockError } from '../trusted/wire/errors.js';
import type { ReleaseReply } from '../trusted/wire/messages.js';
import { TOP_K } from './stand.js';

/** Fills hidden states that the accelerator hands over. */
export type Fill = (index: number) => number;

/** Lets `ids` in; null where the embedding lies outside. */
export async function enter(session: EnclaveSession, { segments }: Bundle, ids: Int32Array): Promise<Passed | null> {
  if (segments[0]!.place === 'enclave') return session.embed(ids, layoutOf(ids.length));
  await session.authorise(ids);
  return null;
}

/** One text through all parts, with crafted results where they lie outside; its rows are released, that is charged. */
export async function passAndRelease(
  session: EnclaveSession,
  bundle: Bundle,
  ids: Int32Array,
  fill: Fill = () => 0.1,
): Promise<ReleaseReply> {
  const { segments, config } = bundle;
  const rows = ids.length;
  const crafted = (): Float32Array => Float32Array.from({ length: rows * config.hiddenSize }, (_, i) => fill(i));
  let passed: Passed = (await enter(session, bundle, ids)) ?? crafted();
  for (let segment = 1; segment < segments.length - 1; segment += 1) {
    if (segments[segment]!.place === 'accelerator') passed = crafted();
    else passed = await session.block(segment, passed instanceof Float32Array ? passed : crafted(), layoutOf(rows));
  }
  if (segments.at(-1)!.place === 'enclave') {
    const positions = Int32Array.from({ length: rows }, (_, i) => i);
    return session.head(passed instanceof Float32Array ? passed : { pass: passed.pass, positions }, TOP_K);
  }
  const lockedIds = Int32Array.from({ length: rows * TOP_K }, (_, i) => i % TOP_K);
  return session.release({ rows, k: TOP_K, lockedIds, logprobs: new Float32Array(rows * TOP_K).fill(-2) });
}

export function layoutOf(tokens: number): { batch: number; tokens: number; lengths: number[]; past: null } {
  return { batch: 1, tokens, lengths: [tokens], past: null };
}

/** Releases two rows at a time until the enclave refuses, `most` rows at most. Returns the rows, and the refusal. */
export async function spendAll(
  client: EnclaveClient,
  bundle: Bundle,
  most: number,
): Promise<{ readonly rows: number; readonly refusal: string | null }> {
  let rows = 0;
  try {
    const session = await client.begin({ topK: TOP_K, temperature: 1 });
    while (rows < most) {
      await passAndRelease(session, bundle, Int32Array.of(1, 2));
      rows += 2;
    }
  } catch (error) {
    if (!(error instanceof DistillockError)) throw error;
    return { rows, refusal: error.code };
  }
  return { rows, refusal: null };
}
