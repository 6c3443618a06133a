// AMD's products and the layouts of their TCB_VERSION. Zone: owner (verifier).
// SEV Secure Nested Paging Firmware ABI (56860), TCB_VERSION; VCEK certificate specification (57230), extensions.
import { UnsupportedError } from '../../trusted/wire/errors.js';
import type { SnpFacts, SnpTcb } from '../verified.js';

export type SnpProduct = SnpFacts['product'];
export const SNP_PRODUCTS: readonly SnpProduct[] = ['Milan', 'Genoa', 'Turin'];

/** Product line of family, model as in the report (v3 and later): Bergamo and Siena are signed as Genoa. */
export function productOfCpuid(family: number, model: number): SnpProduct {
  if (family === 0x19 && model <= 0x0f) return 'Milan';
  if (family === 0x19 && ((model >= 0x10 && model <= 0x1f) || (model >= 0xa0 && model <= 0xaf))) return 'Genoa';
  if (family === 0x1a && model <= 0x11) return 'Turin';
  throw new UnsupportedError(
    'snp-product',
    'the report comes from a processor that is neither Milan, Genoa nor Turin',
    {
      family,
      model,
    },
  );
}

/** Last arc of the extension 1.3.6.1.4.1.3704.1.3.x that states each byte of TCB_VERSION. */
export function tcbExtensions(product: SnpProduct): readonly number[] {
  return product === 'Turin' ? [9, 1, 2, 3, 5, 6, 7, 8] : [1, 2, 4, 5, 6, 7, 3, 8];
}

/** TCB_VERSION, eight bytes. Turin has the FMC first and no gap before the SNP firmware. */
export function decodeTcb(bytes: Uint8Array, product: SnpProduct): SnpTcb {
  const at = (index: number): number => bytes[index]!;
  return product === 'Turin'
    ? { fmc: at(0), bootLoader: at(1), tee: at(2), snp: at(3), microcode: at(7) }
    : { fmc: null, bootLoader: at(0), tee: at(1), snp: at(6), microcode: at(7) };
}

/** Bytes of CHIP_ID that a VCEK states as hwID; the rest of the 64 must be zero. */
export function hwIdBytes(product: SnpProduct): number {
  return product === 'Turin' ? 8 : 64;
}
