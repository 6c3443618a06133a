// AMD's root keys (ARK), pinned. Zone: owner (verifier). The certificates are published at kdsintf.amd.com/vcek/v1/PRODUCT/cert_chain.
import type { SnpProduct } from './tcb.js';

/** Hex SHA-256 of the root key's subject public key info. */
export type SnpRoots = Readonly<Record<SnpProduct, string>>;

export const AMD_ROOTS: SnpRoots = {
  Milan: '9f056bee44377e29308cb5ffa895bdfb62d18881fa6bed8d6f075b0204089cb9',
  Genoa: '429a69c9422aa258ee4d8db5fcda9c6470ef15f8cd5a9cebd6cbc7d90b863831',
  Turin: '4f125410563a2ab9a50356f9243f6fe0b6f73de98603f53f90339c70e9d7ad08',
};
