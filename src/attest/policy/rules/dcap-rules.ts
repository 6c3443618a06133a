// What Intel's collateral says of the platform, for SGX and TDX. Zone: owner (verifier).
import type { DcapStatus } from '../../verified.js';
import type { DcapPins } from '../policy.js';
import { atLeast, pinned, type Rule, rule } from '../rule.js';

const DAY_S = 86_400;

export function dcapRules(facts: DcapStatus, pins: DcapPins, now: number): readonly Rule[] {
  const { tcbStatus, advisories, tcbEvaluationDataNumber, collateralIssued } = facts;
  const listed = (names: readonly string[]): string => (names.length === 0 ? 'none' : names.join(', '));
  const unlisted = advisories.filter((name) => !pins.advisories.includes(name));
  const ageDays = (now - collateralIssued) / DAY_S;
  return [
    // The verifier refuses Revoked before; a policy made by a program must not bring it back.
    pinned('tcb-status', 'TCB status', nonRevoked(pins.statuses), tcbStatus),
    rule(
      'advisories',
      'advisories',
      pins.advisories.length === 0 ? 'none' : `none but ${listed(pins.advisories)}`,
      listed(advisories),
      unlisted.length === 0,
    ),
    atLeast('tcb-evaluation', 'TCB evaluation data number', pins.minTcbEvaluationDataNumber, tcbEvaluationDataNumber),
    rule(
      'collateral-age',
      'age of the collateral',
      `at most ${pins.maxCollateralAgeDays} days`,
      `${ageDays.toFixed(1)} days`,
      ageDays >= 0 && ageDays <= pins.maxCollateralAgeDays,
    ),
  ];
}

function nonRevoked(statuses: readonly string[]): readonly string[] {
  return statuses.filter((status) => status !== 'Revoked');
}
