// Which scheme and placement to lock with, from what recorded audits found. Zone: owner. DESIGN section 4. Chooses the candidate that fits
// the TEE and came out best against the adversaries that matter; says so when even that one did not hold.
import type { DecoderConfig } from '../model/config.js';
import { choosePlacement, leastTeeBytes, type PlacementFacts, planNamed } from '../owner/placement.js';
import { DistillockError, EnvironmentError } from '../trusted/wire/errors.js';
import type { EnclavePrecision, Scheme } from '../trusted/wire/manifest.js';
import type { Verdict } from './measure.js';
import { shown } from './sentences.js';
import type { AuditSummary, SummaryRow } from './summary.js';

export interface AdviceFacts {
  readonly config: DecoderConfig;
  readonly teeMemoryMb: number;
  /** Tokens that the licence will release. */
  readonly budgetTokens: number;
  /** A public checkpoint that the model was tuned from exists. */
  readonly ancestor: boolean;
  readonly speeds: Pick<PlacementFacts, 'teeGflops' | 'acceleratorGflops' | 'speedSource'>;
}

export interface Candidate {
  readonly scheme: Scheme;
  readonly placement: string;
  readonly fits: boolean;
  /** Trusted memory it takes, megabytes. */
  readonly needsMb: number;
  /** The worst over adversaries, models and seeds, at the recorded budget nearest below the licence's. */
  readonly worst: number | null;
  readonly verdict: Verdict;
  readonly evidence: SummaryRow & { readonly model: string };
}

export interface Advice {
  readonly scheme: Scheme;
  readonly placement: string;
  readonly precision: EnclavePrecision;
  readonly verdict: Verdict;
  readonly reasons: readonly string[];
  /** Best first. */
  readonly candidates: readonly Candidate[];
}

/** Memory of an enclave that holds no whole block: tiles of embedding and head. */
const TILES_MB = 64;

/** Throws EnvironmentError('advise-unrecorded') where no recorded audit applies to the model. */
export function advise(facts: AdviceFacts, summary: AuditSummary): Advice {
  const candidates = candidatesFor(facts, summary).sort((a, b) => cost(a) - cost(b));
  const best = candidates[0];
  if (best === undefined)
    throw new EnvironmentError(
      'advise-unrecorded',
      'no recorded audit applies to this model; run `distillock audit` on it',
    );
  const placed = best.placement === 'enclave' ? insideReasons(facts, best.scheme) : null;
  const precision = placed?.precision ?? 'float32';
  const reasons = [...whyBest(facts, best), ...whyNot(candidates, best), ...(placed?.reasons ?? [])];
  return { scheme: best.scheme, placement: best.placement, precision, verdict: best.verdict, reasons, candidates };
}

const RANK: readonly Verdict[] = ['held', 'weakened', 'broken', 'inconclusive'];

// What does not fit is no choice; then by verdict; then rotation, which int8 inside needs; then by what attacks got, and what it takes.
function cost({ fits, verdict, scheme, worst, needsMb }: Candidate): number {
  const gained = Math.max(0, worst ?? 0);
  return (
    (fits ? 0 : 1e6) +
    1e4 * RANK.indexOf(verdict) +
    (verdict === 'held' ? 0 : 1e3 * gained) +
    (scheme === 'rotation' ? 0 : 1) +
    1e-6 * needsMb
  );
}

function candidatesFor(facts: AdviceFacts, { audits }: AuditSummary): Candidate[] {
  const rows = audits.flatMap(({ model, rows: own }) =>
    atBudget(own, facts.budgetTokens).map((row) => ({ model, ...row })),
  );
  const relevant = rows.filter(({ adversary }) => facts.ancestor || adversary !== 'ancestor');
  const groups = new Map<string, typeof relevant>();
  for (const row of relevant) {
    const key = `${row.scheme} ${row.placement}`;
    groups.set(key, [...(groups.get(key) ?? []), row]);
  }
  return [...groups.values()].flatMap((own) => {
    const evidence = own.reduce((a, b) => (severity(b) > severity(a) ? b : a));
    const { scheme, placement, worst, verdict } = evidence;
    const needsMb = memoryFor(facts, scheme, placement);
    if (needsMb === null) return [];
    return [{ scheme, placement, fits: needsMb <= facts.teeMemoryMb, needsMb, worst, verdict, evidence }];
  });
}

function severity({ verdict, worst }: SummaryRow): number {
  return 1e3 * RANK.indexOf(verdict) + Math.max(-100, worst ?? -100);
}

/** Of every adversary the rows of the largest recorded budget that the licence covers, or of the smallest one. */
function atBudget(rows: readonly SummaryRow[], budgetTokens: number): SummaryRow[] {
  // Adversaries that do not record have rows at the largest budget alone.
  return [...new Set(rows.map(({ adversary }) => adversary))].flatMap((adversary) => {
    const own = rows.filter((row) => row.adversary === adversary);
    const budgets = own.map((row) => row.budgetTokens);
    const covered = budgets.filter((budget) => budget <= budgetTokens);
    const at = covered.length > 0 ? Math.max(...covered) : Math.min(...budgets);
    return own.filter((row) => row.budgetTokens === at);
  });
}

/** null: the model has no such parts. */
function memoryFor({ config }: AdviceFacts, scheme: Scheme, placement: string): number | null {
  if (placement === 'accelerator') return 0;
  try {
    const plan = planNamed(placement, config.numHiddenLayers);
    if (!plan.blocks.includes('enclave')) return TILES_MB;
  } catch (error) {
    if (error instanceof DistillockError && error.code === 'plan-part') return null;
    throw error;
  }
  const int8 = placement === 'enclave' && scheme === 'rotation' && config.hiddenSize >= 256;
  return Math.ceil(leastTeeBytes(config, int8 ? 'int8' : 'float32') / 1e6);
}

function insideReasons({ config, teeMemoryMb, budgetTokens, ancestor, speeds }: AdviceFacts, scheme: Scheme) {
  return choosePlacement({ config, scheme, teeMemoryMb, budgetTokens, ancestor, ...speeds, acceptRecorder: false });
}

const number = (value: number): string => value.toLocaleString('en-US');

function whyBest({ budgetTokens, ancestor, teeMemoryMb }: AdviceFacts, best: Candidate): string[] {
  const { evidence, verdict, placement, scheme, worst } = best;
  const found = evidence.idle
    ? 'no attack had anything to work on but released answers'
    : `the strongest attack, ${evidence.attack} (${evidence.adversary}), reached an advantage of ${shown(worst)}`;
  const compared =
    evidence.budgetTokens > budgetTokens
      ? `the smallest recorded budget is ${number(evidence.budgetTokens)} tokens, more than your ${number(budgetTokens)}`
      : evidence.budgetTokens < budgetTokens
        ? `your licence of ${number(budgetTokens)} tokens gives an attacker more than the ${number(evidence.budgetTokens)} recorded: expect no less than this`
        : `recorded with as many tokens as your licence releases, ${number(budgetTokens)}`;
  const limits =
    verdict === 'held'
      ? []
      : [
          `this does not hold: no recorded placement that fits ${number(teeMemoryMb)} MB of trusted memory does; this one loses least`,
        ];
  return [
    `${scheme}, ${placement}: in the recorded audit of ${evidence.model} ${found} (${verdict})`,
    compared,
    ...limits,
    ancestor
      ? 'a public ancestor exists: attacks that match against it count'
      : 'no public ancestor: attacks that need one are left out',
  ];
}

function whyNot(candidates: readonly Candidate[], best: Candidate): string[] {
  const others = candidates.filter(({ placement }) => placement !== best.placement);
  const placements = [...new Set(others.map(({ placement }) => placement))];
  return placements.map((placement) => {
    const own = others.filter((other) => other.placement === placement);
    const { fits, needsMb, verdict, worst, evidence } = own[0]!;
    return fits
      ? `not ${placement}: ${verdict} by ${evidence.attack} at ${number(evidence.budgetTokens)} tokens, advantage ${shown(worst)}`
      : `not ${placement}: needs ${number(needsMb)} MB of trusted memory (${verdict} in the recorded audit)`;
  });
}
