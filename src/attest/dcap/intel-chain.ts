// Intel's attestation PKI: which role each certificate has, and that it leads to the pinned root. Zone: owner (verifier).
// Intel SGX PCK Certificate and CRL Profile Specification, revision 1.5: root → PCK Platform/Processor CA → PCK certificate, root → TCB Signing.
import { decodeHex, equalBytes } from '../../trusted/wire/bytes.js';
import { VerificationError } from '../../trusted/wire/errors.js';
import type { Certificate } from './certificates.js';
import { verifyP256 } from './p256.js';

/** Public key of the Intel SGX Root CA: x‖y on P-256, hex. */
export const INTEL_SGX_ROOT: string =
  '0ba9c4c0c0c86193a3fe23d6b02cda10a8bbd4e88e48b4458561a36e705525f567918e2edc88e40d860bd0cc4ee26aacc988e505a953558c453f6b0904ae7394';

export const ROLES = {
  root: ['Intel SGX Root CA'],
  pckAuthority: ['Intel SGX PCK Platform CA', 'Intel SGX PCK Processor CA'],
  pck: ['Intel SGX PCK Certificate'],
  tcbSigning: ['Intel SGX TCB Signing'],
} as const;

export type Role = keyof typeof ROLES;

function fail(code: string, message: string, certificate: Certificate): never {
  throw new VerificationError(code, message, { commonName: certificate.commonName.slice(0, 64) });
}

/** `below`: authorities between this one and the leaf. */
function checkRole(certificate: Certificate, role: Role, below: number): void {
  const names: readonly string[] = ROLES[role];
  if (!names.includes(certificate.commonName)) {
    fail('certificate-role', `a certificate has another role than ${names.join(' or ')}`, certificate);
  }
  const { authority, pathLength, keyUsage } = certificate;
  const isAuthority = role === 'root' || role === 'pckAuthority';
  const allowed = isAuthority
    ? authority && keyUsage.certSign && keyUsage.crlSign && (pathLength === null || pathLength >= below)
    : !authority && keyUsage.digitalSignature && !keyUsage.certSign && !keyUsage.crlSign;
  if (!allowed) fail('certificate-role', 'a certificate may not be used for its role', certificate);
}

/**
 * Throws VerificationError unless each certificate has its role, is valid at `now` and is signed by the next, and the last one
 * is the root with the pinned key (`root`: hex of x‖y). Leaf first. Revocation is the caller's.
 */
export function verifyIntelChain(
  chain: readonly Certificate[],
  roles: readonly Role[],
  root: string,
  now: number,
): void {
  const pinned = decodeHex(root, 64);
  for (const [i, certificate] of chain.entries()) {
    checkRole(certificate, roles[i]!, roles.slice(0, i).filter((role) => role === 'pckAuthority').length);
    if (now < certificate.notBefore || now > certificate.notAfter) {
      fail('certificate-window', 'a certificate is not valid at the time given', certificate);
    }
    const issuer = chain[i + 1] ?? certificate;
    if (!equalBytes(certificate.issuer, issuer.subject))
      fail('certificate-chain', 'the issuer has another name', issuer);
    if (!verifyP256(issuer.point, certificate.signed, certificate.signature, 'der')) {
      fail('certificate-signature', 'the issuer did not sign a certificate', certificate);
    }
  }
  const last = chain[chain.length - 1]!;
  if (!equalBytes(last.point, pinned)) fail('root', 'the chain does not lead to the pinned root key', last);
}
