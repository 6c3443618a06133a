// What a verification needs beside the quote: Intel's collateral per platform family, AMD's certificates. Zone: owner (verifier).
// Choosing among collateral trusts nothing: whatever is chosen is verified in full afterwards.
import { VerificationError } from '../../trusted/wire/errors.js';
import type { DcapCollateral } from '../dcap/collateral.js';
import { readPckExtension } from '../dcap/pck-extension.js';
import type { DcapQuote } from '../dcap/quote.js';
import { parseTcbInfo } from '../dcap/tcb-info.js';
import type { SnpCollateral } from '../snp/verify.js';

export interface Collateral {
  /** For any number of platform families. */
  readonly dcap?: readonly DcapCollateral[];
  readonly snp?: SnpCollateral;
}

/** Of the quote's kind and platform family, the newest that is not from the future. Throws VerificationError ('collateral-missing'). */
export function fittingCollateral(quote: DcapQuote, stored: readonly DcapCollateral[], now: number): DcapCollateral {
  const { fmspc } = readPckExtension(quote.pckChain[0]);
  const kind = quote.body.kind.toUpperCase();
  const fitting = stored
    .map((collateral) => ({ collateral, info: parseTcbInfo(collateral.tcb_info) }))
    .filter(({ info }) => info.id === kind && info.fmspc === fmspc)
    .sort((a, b) => b.info.issued - a.info.issued);
  const best = fitting.find(({ info }) => info.issued <= now) ?? fitting[0];
  if (best !== undefined) return best.collateral;
  const found = stored.length === 0 ? 'none was given' : `none of the ${stored.length} given is for it`;
  throw new VerificationError(
    'collateral-missing',
    `verifying this quote needs Intel's ${kind} collateral for the platform family (FMSPC) ${fmspc}: ${found}`,
    { fmspc, kind },
  );
}
