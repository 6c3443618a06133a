// What an audit says to a person: one plain sentence per adversary, and what the controls did. Zone: owner.
import type { Adversary } from './attack.js';
import { ADVERSARIES, type AuditRow, type ProbeRow } from './report.js';
import { decisiveRows, worstRow } from './report-rows.js';

/** DESIGN section 2, in a clause. */
const SEES: Readonly<Record<Adversary, string>> = {
  copier: 'who holds a copy of the bundle and nothing else',
  unlicensed: 'who holds the bundle and an enclave that refuses',
  recorder: 'who keeps everything that passes outside the enclave in a licensed session',
  chooser: 'who also picks what goes through the teacher',
  ancestor: 'who also holds the public checkpoint that the model was tuned from',
  tamperer: 'who returns wrong results or rolls sealed state back',
  network: 'who sits between enclave and owner',
};

/** One sentence for every adversary of DESIGN section 2, those that no attack stood for included. */
export function sentencesOf(rows: readonly AuditRow[], probes: readonly ProbeRow[] = []): string[] {
  const decisive = decisiveRows(rows);
  const told = ADVERSARIES.flatMap((adversary) => {
    const own = decisive.filter((row) => row.adversary === adversary);
    const tried = probes.filter((probe) => probe.adversary === adversary);
    return own.length + tried.length === 0 ? [] : [sentence(adversary, own, tried)];
  });
  const missing = ADVERSARIES.filter((adversary) =>
    [...decisive, ...probes].every((row) => row.adversary !== adversary),
  );
  return missing.length === 0
    ? told
    : [...told, `Nothing was run, and so nothing is said, about: ${missing.join(', ')}.`];
}

function sentence(adversary: Adversary, rows: readonly AuditRow[], probes: readonly ProbeRow[]): string {
  const worst = targetsOf(rows).map((own) => worstRow(own));
  const clauses = [
    clause(worst, 'broken', 'ends up with the model, or most of it, from'),
    clause(worst, 'weakened', 'gets more than a black-box student from'),
    clause(worst, 'held', 'gets no more than a black-box student from'),
    clause(worst, 'inconclusive', 'is not judged (the control failed) on'),
    probeClause(probes, 'broken', 'succeeds with'),
    probeClause(probes, 'held', 'fails with'),
    probeClause(probes, 'inconclusive', 'is not judged (the control failed) with'),
    probeClause(probes, 'idle', 'has nothing to work on with'),
  ];
  return `The ${adversary}, ${SEES[adversary]}, ${clauses.filter((each) => each !== '').join('; ')}.`;
}

function targetsOf(rows: readonly AuditRow[]): AuditRow[][] {
  const groups = new Map<string, AuditRow[]>();
  for (const row of rows) groups.set(targetName(row), [...(groups.get(targetName(row)) ?? []), row]);
  return [...groups.values()];
}

function clause(rows: readonly AuditRow[], verdict: AuditRow['verdict'], verb: string): string {
  const own = rows.filter((row) => row.verdict === verdict);
  if (own.length === 0) return '';
  const placements = [...new Set(own.map(({ placement }) => placement))];
  const named = placements.map((placement) => {
    const here = own.filter((row) => row.placement === placement);
    const schemes = here.map(({ scheme }) => scheme).join(' and ');
    const { attack, worst, recordedTokens } = worstRow(here);
    const how = `: ${attack} reached an advantage of ${shown(worst)} with ${Math.round(recordedTokens).toLocaleString('en-US')} tokens`;
    return `${placement} (${schemes}${verdict === 'broken' || verdict === 'weakened' ? how : ''})`;
  });
  return `${verb} ${listed(named)}`;
}

/** Probes by name; where not every bundle came out so, those that did. */
function probeClause(probes: readonly ProbeRow[], verdict: ProbeRow['verdict'], verb: string): string {
  const names = [...new Set(probes.filter((row) => row.verdict === verdict).map(({ probe }) => probe))];
  const named = names.map((name) => {
    const all = probes.filter(({ probe }) => probe === name);
    const own = all.filter((row) => row.verdict === verdict);
    return own.length === all.length ? name : `${name} (${own.map(targetName).join(', ')})`;
  });
  return named.length === 0 ? '' : `${verb} ${listed(named)}`;
}

function listed(names: readonly string[]): string {
  return names.length < 2 ? names.join('') : `${names.slice(0, -1).join(', ')} and ${names.at(-1)}`;
}

/** `rotation, shielded:0,head` as one name. */
export function targetName({ scheme, placement }: Pick<AuditRow, 'scheme' | 'placement'>): string {
  return `${scheme} ${placement}`;
}

/** Advantages, two decimals; a dash where there is none. */
export function shown(advantage: number | null): string {
  return advantage === null ? '–' : advantage.toFixed(2).replace('-0.00', '0.00');
}

/** What the controls did, in a sentence each. */
export function controlSentences(rows: readonly AuditRow[]): string[] {
  const byAttack = new Map(decisiveRows(rows).map((row) => [row.attack, row.control]));
  return [...byAttack].map(([attack, { advantage, succeeded }]) =>
    succeeded
      ? `Control of ${attack}: the same code against the model without a lock reached an advantage of ${shown(advantage)}, so it works.`
      : `Control of ${attack}: the same code against the model without a lock only reached ${shown(advantage)}, so what it did not achieve against a lock says nothing.`,
  );
}
