// Rules for a TPM 2.0 quote. Zone: owner (verifier). TCG PC Client Platform Firmware Profile: what each PCR measures.
import type { TpmFacts } from '../../verified.js';
import { parsePem } from '../../x509/pem.js';
import type { TpmPins } from '../policy.js';
import { permitted, pinned, type Rule, rule } from '../rule.js';

export function tpmRules(facts: TpmFacts, pins: TpmPins): readonly Rule[] {
  const subjects = pins.endorsementCas.flatMap((pem) =>
    parsePem(pem, 'endorsement CA').map(({ subjectText }) => subjectText),
  );
  const wanted = Object.keys(pins.pcrs).sort((a, b) => Number(a) - Number(b));
  const quoted = Object.keys(facts.pcrs).sort((a, b) => Number(a) - Number(b));
  return [
    permitted('software-tpm', 'software TPM', pins.softwareTpm, facts.softwareTpm),
    pinned('endorsement-ca', 'authority of the endorsement key', subjects, facts.endorsementCa),
    rule('pcr-selection', 'quoted PCRs', wanted.join(' '), quoted.join(' '), wanted.join(' ') === quoted.join(' ')),
    ...wanted.map((index) => pinned(`pcr-${index}`, `PCR ${index}`, pins.pcrs[index]!, facts.pcrs[index] ?? 'missing')),
  ];
}
