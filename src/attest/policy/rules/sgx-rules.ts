// Rules for Intel SGX. Zone: owner (verifier). Intel SDM volume 3D: ATTRIBUTES, XFRM, MRENCLAVE, MRSIGNER, ISVPRODID, ISVSVN.
import type { SgxFacts } from '../../verified.js';
import type { SgxPins } from '../policy.js';
import { atLeast, masked, never, pinned, type Rule } from '../rule.js';
import { dcapRules } from './dcap-rules.js';

export function sgxRules(facts: SgxFacts, pins: SgxPins, now: number): readonly Rule[] {
  return [
    never('debug', 'DEBUG attribute', facts.debug),
    ...codeRules(facts, pins),
    masked('attributes', 'ATTRIBUTES', pins.attributes, facts.attributes),
    masked('xfrm', 'XFRM', pins.xfrm, facts.xfrm),
    ...dcapRules(facts, pins, now),
  ];
}

function codeRules(facts: SgxFacts, pins: SgxPins): readonly Rule[] {
  if ('mrenclave' in pins) return [pinned('mrenclave', 'MRENCLAVE', pins.mrenclave, facts.mrenclave)];
  return [
    pinned('mrsigner', 'MRSIGNER', pins.mrsigner, facts.mrsigner),
    pinned('isv-prod-id', 'ISVPRODID', [String(pins.isvProdId)], String(facts.isvProdId)),
    atLeast('isv-svn', 'ISVSVN', pins.minIsvSvn, facts.isvSvn),
  ];
}
