// Whose signatures a verification starts from: the vendors' pinned roots and what the policy adds. Zone: owner (verifier).
import { X509Certificate } from 'node:crypto';
import { INTEL_SGX_ROOT } from '../dcap/intel-chain.js';
import { AMD_ROOTS, type SnpRoots } from '../snp/amd-roots.js';
import { SNP_PRODUCTS } from '../snp/tcb.js';
import type { TpmRoot } from '../tpm/endorsement.js';
import type { AttestationPolicy } from './policy.js';

export interface TrustRoots {
  /** Raw Ed25519 public keys of SIMULATED platforms. */
  readonly simulated: readonly Uint8Array[];
  /** Public keys, hex of x‖y; the vendor's first. */
  readonly intel: readonly string[];
  /** The vendor's first. */
  readonly amd: readonly SnpRoots[];
  /** Authorities of TPM endorsement certificates, for `endorseKey`. */
  readonly endorsementCas: readonly TpmRoot[];
}

/** The vendors' roots, and nothing for kinds that have no vendor. */
export const VENDOR_ROOTS: TrustRoots = {
  simulated: [],
  intel: [INTEL_SGX_ROOT],
  amd: [AMD_ROOTS],
  endorsementCas: [],
};

export function trustRoots({ simulated, tpm, extraRoots }: AttestationPolicy): TrustRoots {
  const { intel, amd } = VENDOR_ROOTS;
  const added = SNP_PRODUCTS.flatMap((product) =>
    (extraRoots?.amd[product] ?? []).map((root) => ({ ...AMD_ROOTS, [product]: root })),
  );
  return {
    simulated: (simulated?.roots ?? []).map((root) => new Uint8Array(Buffer.from(root, 'hex'))),
    intel: [...intel, ...(extraRoots?.intel ?? [])],
    amd: [...amd, ...added],
    endorsementCas: (tpm?.endorsementCas ?? []).map((pem) => ({ certificate: new X509Certificate(pem).raw })),
  };
}
