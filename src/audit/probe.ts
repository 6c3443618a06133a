// Probes: attacks that end in a yes or no rather than in a clone. Each runs against the bundle's real enclave and against a deliberately
// weak one, which it must break. Zone: owner.
import type { Adversary } from './attack.js';
import { realStand, type Stand, type StandOptions } from './stand.js';
import { type Weakness, weakStand } from './weak-enclave.js';

export interface Outcome {
  readonly succeeded: boolean;
  /** One line with the numbers. */
  readonly detail: string;
}

export interface Probe {
  /** kebab-case. */
  readonly name: string;
  readonly adversary: Adversary;
  /** One line for a person. */
  readonly summary: string;
  readonly sources: readonly string[];
  /** The weak enclave that this probe must break. */
  readonly control: Weakness;
  /** Why the bundle gives it nothing to work on; null when it applies. */
  idleReason(stand: Stand): string | null;
  run(stand: Stand): Promise<Outcome>;
}

export interface ProbeFinding {
  readonly probe: string;
  readonly adversary: Adversary;
  readonly summary: string;
  readonly succeeded: boolean;
  readonly detail: string;
  readonly control: Outcome;
  /** `broken` when it succeeded; `held` when it did not, and did against the weak enclave. */
  readonly verdict: 'held' | 'broken' | 'inconclusive' | 'idle';
}

/** One after the other, each on a stand of its own. */
export async function runProbes(
  probes: readonly Probe[],
  options: StandOptions,
  onProbe?: (name: string) => void,
): Promise<ProbeFinding[]> {
  const findings: ProbeFinding[] = [];
  for (const probe of probes) {
    onProbe?.(probe.name);
    const outcome = await on(await realStand(options), probe);
    const control = await on(await weakStand(options, probe.control), probe);
    const { name, adversary, summary } = probe;
    const verdict = outcome.idle ? 'idle' : outcome.succeeded ? 'broken' : control.succeeded ? 'held' : 'inconclusive';
    const { succeeded, detail } = outcome;
    const against = { succeeded: control.succeeded, detail: control.detail };
    findings.push({ probe: name, adversary, summary, succeeded, detail, control: against, verdict });
  }
  return findings;
}

async function on(stand: Stand, probe: Probe): Promise<Outcome & { readonly idle: boolean }> {
  try {
    const idle = probe.idleReason(stand);
    if (idle !== null) return { succeeded: false, detail: idle, idle: true };
    return { ...(await probe.run(stand)), idle: false };
  } finally {
    await stand.close();
  }
}
