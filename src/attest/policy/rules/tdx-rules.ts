// Rules for Intel TDX. Zone: owner (verifier). Intel TDX module specification: TDREPORT, ATTRIBUTES, XFAM.
import type { TdxFacts } from '../../verified.js';
import type { TdxPins } from '../policy.js';
import { never, pinned, type Rule, rule } from '../rule.js';
import { dcapRules } from './dcap-rules.js';

const ZERO_48 = '00'.repeat(48);

export function tdxRules(facts: TdxFacts, pins: TdxPins, now: number): readonly Rule[] {
  const { rtmrs } = facts;
  return [
    never('debug', 'TD under debug', facts.debug),
    rule('sept-ve-disable', 'SEPT_VE_DISABLE', 'yes', facts.septVeDisable ? 'yes' : 'no', facts.septVeDisable),
    pinned('td-attributes', 'TD attributes', pins.tdAttributes, facts.tdAttributes),
    pinned('xfam', 'XFAM', pins.xfam, facts.xfam),
    pinned('mrtd', 'MRTD', pins.mrtd, facts.mrtd),
    pinned('rtmr0', 'RTMR0', pins.rtmr0, rtmrs[0]),
    pinned('rtmr1', 'RTMR1', pins.rtmr1, rtmrs[1]),
    pinned('rtmr2', 'RTMR2', pins.rtmr2, rtmrs[2]),
    pinned('rtmr3', 'RTMR3', pins.rtmr3, rtmrs[3]),
    pinned('mr-config-id', 'MRCONFIGID', pins.mrConfigId, facts.mrConfigId),
    pinned('mr-owner', 'MROWNER', pins.mrOwner, facts.mrOwner),
    pinned('mr-owner-config', 'MROWNERCONFIG', pins.mrOwnerConfig, facts.mrOwnerConfig),
    // A service TD could migrate this one elsewhere; only Intel's own module signs with a signer of zeros.
    pinned('mr-service-td', 'MRSERVICETD', [ZERO_48], facts.mrServiceTd),
    pinned('seam-signer', 'MRSIGNERSEAM', [ZERO_48], facts.mrSignerSeam),
    ...dcapRules(facts, pins, now),
  ];
}
