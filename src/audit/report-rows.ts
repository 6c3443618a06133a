// From findings to the rows of audit.json: every trial, and the mean over the seeds at every budget that the attack ran at. Zone: owner.
import { interval, verdictOf } from './measure.js';
import type { AuditRow } from './report.js';
import type { Finding, Trial } from './run-audit.js';

export function reportRows(findings: readonly Finding[]): AuditRow[] {
  return findings.flatMap((finding) => {
    const budgets = [...new Set(finding.trials.map(({ budgetTokens }) => budgetTokens))];
    return budgets.flatMap((budget) => {
      const trials = finding.trials.filter(({ budgetTokens }) => budgetTokens === budget);
      return [...trials.map((trial) => row(finding, [trial], trial.seed)), row(finding, trials, 'mean')];
    });
  });
}

function row(finding: Finding, trials: readonly Trial[], seed: number | 'mean'): AuditRow {
  const { attack, adversary, scheme, placement, idle, control } = finding;
  const mean = (value: (trial: Trial) => number): number =>
    trials.reduce((sum, trial) => sum + value(trial), 0) / trials.length;
  const advantage = interval(trials.map((trial) => trial.advantage));
  return {
    attack,
    adversary,
    scheme,
    placement,
    budgetTokens: trials[0]!.budgetTokens,
    seed,
    advantage: known(advantage.mean),
    half: advantage.half === null ? null : known(advantage.half),
    worst: known(advantage.worst),
    agreement: mean((trial) => trial.agreement),
    kl: mean((trial) => trial.kl),
    recordedTokens: mean((trial) => trial.recordedTokens),
    queries: mean((trial) => trial.queries),
    bytes: mean((trial) => trial.bytes),
    seconds: mean((trial) => trial.seconds),
    control: { advantage: known(control.advantage), succeeded: control.succeeded },
    verdict: verdictOf(advantage, control.succeeded),
    idle,
    ...(trials.every(({ leak }) => leak !== undefined)
      ? { leak: { rank: mean(({ leak }) => leak!.rank), headShare: mean(({ leak }) => leak!.headShare) } }
      : {}),
  };
}

// JSON has no NaN; an advantage is none where nothing was left to gain.
function known(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

/** Means at the largest budget: one row per attack and bundle, what verdicts are about. */
export function decisiveRows(rows: readonly AuditRow[]): AuditRow[] {
  const largest = Math.max(...rows.map(({ budgetTokens }) => budgetTokens));
  return rows.filter(({ seed, budgetTokens }) => seed === 'mean' && budgetTokens === largest);
}

const SEVERITY = ['held', 'inconclusive', 'weakened', 'broken'] as const;

/** The row that says the worst: by verdict, then by the worst seed. */
export function worstRow(rows: readonly AuditRow[]): AuditRow {
  if (rows.length === 0) throw new RangeError('no rows');
  const rank = ({ verdict, worst }: AuditRow): number =>
    1e6 * SEVERITY.indexOf(verdict) + Math.max(-1000, worst ?? -1000);
  return rows.reduce((a, b) => (rank(b) > rank(a) ? b : a));
}
