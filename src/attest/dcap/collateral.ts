// Intel's collateral: everything beside the quote that says what a platform is worth at a time. Zone: owner (verifier).
// Intel PCS API version 4. Nothing of it is believed before its signer leads to the pinned root, is not revoked, and `now` lies in
// every window. The signed texts are verified as they came and never written anew.
import { decodeHex } from '../../trusted/wire/bytes.js';
import type { JsonValue } from '../../trusted/wire/canonical-json.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import { Fields } from '../../trusted/wire/fields.js';
import { type Certificate, parsePemChain } from './certificates.js';
import { parseCrl, type RevocationList, refuseRevoked, verifyCrl } from './crl.js';
import { type Role, verifyIntelChain } from './intel-chain.js';
import { parseQeIdentity, type QeIdentity } from './qe-identity.js';
import { checkWindow, MAX_SIGNED_TEXT, verifySignedText } from './signed-json.js';
import { parseTcbInfo, type TcbInfo } from './tcb-info.js';

const KEYS = [
  'tcb_info',
  'tcb_info_signature',
  'tcb_info_issuer_chain',
  'qe_identity',
  'qe_identity_signature',
  'qe_identity_issuer_chain',
  'root_ca_crl',
  'pck_crl',
  'pck_crl_issuer_chain',
] as const;
const MAX_COLLATERAL_CHARACTERS: number = 4 * 1024 * 1024;
const MAX_CRL_HEX: number = 2 * 1024 * 1024;

/**
 * `tcb_info` and `qe_identity` are the exact signed texts, their signatures r‖s in hex, the chains PEM with the leaf first,
 * the lists DER in hex. Other tools use the same form.
 */
export type DcapCollateral = Readonly<Record<(typeof KEYS)[number], string>>;

/** Throws MalformedError unless `value` has exactly those texts. */
export function checkDcapCollateral(value: unknown): DcapCollateral {
  const fields = new Fields((value ?? null) as JsonValue, 'collateral');
  for (const key of KEYS) {
    const limit = key === 'root_ca_crl' || key === 'pck_crl' ? MAX_CRL_HEX : MAX_SIGNED_TEXT;
    const text = fields.value(key);
    if (typeof text !== 'string' || text.length > limit) {
      throw new MalformedError('collateral', `collateral.${key}: expected text of at most ${limit} characters`, {
        key,
      });
    }
  }
  fields.end();
  return value as DcapCollateral;
}

/** Reads the JSON form. Throws MalformedError. */
export function parseDcapCollateral(text: string): DcapCollateral {
  if (text.length > MAX_COLLATERAL_CHARACTERS) {
    throw new MalformedError('collateral', `longer than ${MAX_COLLATERAL_CHARACTERS} characters`);
  }
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new MalformedError('collateral', 'the collateral is not JSON', {}, cause);
  }
  return checkDcapCollateral(value);
}

export interface VerifiedCollateral {
  readonly tcbInfo: TcbInfo;
  readonly qeIdentity: QeIdentity;
  readonly rootCrl: RevocationList;
  readonly pckCrl: RevocationList;
  /** Unix seconds of the oldest of TCB info, QE identity and PCK list. The root's list is left out: it is issued once a year. */
  readonly issued: number;
}

function crlBytes(hex: string, where: string): Uint8Array {
  if (hex.length % 2 !== 0 || !/^[0-9a-f]*$/.test(hex)) {
    throw new MalformedError('collateral', `${where}: expected lower-case hex`, { where });
  }
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}

/**
 * Throws MalformedError or VerificationError. `root` is the pinned key, hex of x‖y; `now` in Unix seconds.
 * What the lists say about the quote's own certificates is for whoever has the quote.
 */
export function verifyDcapCollateral(collateral: DcapCollateral, root: string, now: number): VerifiedCollateral {
  const texts = checkDcapCollateral(collateral);
  const chainOf = (key: (typeof KEYS)[number], role: Role): [Certificate, Certificate] => {
    const chain = parsePemChain(texts[key], 2, key);
    verifyIntelChain(chain, [role, 'root'], root, now);
    return chain as [Certificate, Certificate];
  };
  const [pckAuthority, rootCertificate] = chainOf('pck_crl_issuer_chain', 'pckAuthority');
  const [tcbSigner] = chainOf('tcb_info_issuer_chain', 'tcbSigning');
  const [qeSigner] = chainOf('qe_identity_issuer_chain', 'tcbSigning');

  const rootCrl = parseCrl(crlBytes(texts.root_ca_crl, 'root_ca_crl'));
  verifyCrl(rootCrl, rootCertificate, now, 'root_ca_crl');
  for (const certificate of [rootCertificate, pckAuthority, tcbSigner, qeSigner]) refuseRevoked(certificate, rootCrl);
  const pckCrl = parseCrl(crlBytes(texts.pck_crl, 'pck_crl'));
  verifyCrl(pckCrl, pckAuthority, now, 'pck_crl');

  verifySignedText(texts.tcb_info, decodeHex(texts.tcb_info_signature, 64), tcbSigner, 'tcb_info');
  verifySignedText(texts.qe_identity, decodeHex(texts.qe_identity_signature, 64), qeSigner, 'qe_identity');
  const tcbInfo = parseTcbInfo(texts.tcb_info);
  const qeIdentity = parseQeIdentity(texts.qe_identity);
  checkWindow(tcbInfo.issued, tcbInfo.nextUpdate, now, 'tcb_info');
  checkWindow(qeIdentity.issued, qeIdentity.nextUpdate, now, 'qe_identity');
  const issued = Math.min(tcbInfo.issued, qeIdentity.issued, pckCrl.thisUpdate);
  return { tcbInfo, qeIdentity, rootCrl, pckCrl, issued };
}
