// Rules for AMD SEV-SNP. Zone: owner (verifier). SEV Secure Nested Paging Firmware ABI (56860): guest policy, TCB_VERSION.
import type { SnpFacts, SnpTcb } from '../../verified.js';
import type { SnpPins } from '../policy.js';
import { atLeast, never, permitted, pinned, type Rule, rule } from '../rule.js';

export function snpRules(facts: SnpFacts, pins: SnpPins): readonly Rule[] {
  const { policy, vmpl, product } = facts;
  const { major, minor } = pins.minAbi;
  const abi = policy.abiMajor > major || (policy.abiMajor === major && policy.abiMinor >= minor);
  return [
    never('debug', 'guest policy allows debugging', policy.debug),
    permitted('migration', 'guest policy allows a migration agent', pins.allowMigration, policy.migrateMa),
    permitted('smt', 'guest policy allows SMT', pins.allowSmt, policy.smt),
    permitted('sockets', 'guest policy allows several sockets', pins.allowMultipleSockets, !policy.singleSocket),
    rule('abi', 'lowest firmware ABI', `at least ${major}.${minor}`, `${policy.abiMajor}.${policy.abiMinor}`, abi),
    pinned('vmpl', 'VMPL', pins.vmpl.map(String), String(vmpl)),
    pinned('measurement', 'MEASUREMENT', pins.measurement, facts.measurement),
    pinned('product', 'product', Object.keys(pins.minTcb), product),
    tcbRule(facts, pins.minTcb[product]),
    atLeast('guest-svn', 'GUEST_SVN', pins.minGuestSvn, facts.guestSvn),
    pinned('host-data', 'HOST_DATA', pins.hostData, facts.hostData),
    pinned('id-key-digest', 'ID_KEY_DIGEST', pins.idKeyDigest, facts.idKeyDigest),
    pinned('author-key-digest', 'AUTHOR_KEY_DIGEST', pins.authorKeyDigest, facts.authorKeyDigest),
    pinned('signed-by', 'signing key', pins.signedBy, facts.signedBy),
    pinned('chip-id', 'CHIP_ID', pins.chipIds, facts.chipId),
  ];
}

/** Part by part: a newer part does not make up for an older one. */
function tcbRule({ reportedTcb }: SnpFacts, least: SnpTcb | undefined): Rule {
  const parts = ['fmc', 'bootLoader', 'tee', 'snp', 'microcode'] as const;
  const shown = (tcb: SnpTcb): string =>
    parts.flatMap((part) => (tcb[part] === null ? [] : [`${part} ${tcb[part]}`])).join(', ');
  if (least === undefined) return rule('tcb', 'REPORTED_TCB', 'a product with minTcb', shown(reportedTcb), false);
  const holds = parts.every((part) => {
    const [wanted, actual] = [least[part], reportedTcb[part]];
    return wanted === null ? actual === null : actual !== null && actual >= wanted;
  });
  return rule('tcb', 'REPORTED_TCB', `at least ${shown(least)}`, shown(reportedTcb), holds);
}
