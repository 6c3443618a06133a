// The chain from AMD's pinned root (ARK) over ASK or ASVK to the key that signs reports (VCEK or VLEK). Zone: owner (verifier).
// VCEK certificate and KDS interface specification (57230), VLEK (58369). RATS, RFC 9334: AMD is the endorser.
import { decodeUtf8, equalBytes } from '../../trusted/wire/bytes.js';
import { MalformedError, UnsupportedError, VerificationError } from '../../trusted/wire/errors.js';
import {
  type Certificate,
  checkCritical,
  checkIssuedBy,
  checkValidity,
  parseCertificate,
} from '../x509/certificate.js';
import { checkCrl, parseCrl, RSASSA_PSS } from '../x509/crl.js';
import { DerReader, decodeSmallInteger, TAG } from '../x509/der.js';
import { parsePem } from '../x509/pem.js';
import type { SnpRoots } from './amd-roots.js';
import { hwIdBytes, SNP_PRODUCTS, type SnpProduct, tcbExtensions } from './tcb.js';

/** What AMD's key service publishes for one machine. Each part in DER or PEM. */
export interface SnpEndorsement {
  /** VCEK or VLEK. */
  readonly leaf: Uint8Array;
  /** ASK or ASVK, and the ARK; in any order, others may stand beside them. */
  readonly chain: readonly Uint8Array[];
}

/** A certificate whose chain ends at a pinned root. */
export interface VerifiedLeaf {
  readonly kind: 'VCEK' | 'VLEK';
  readonly product: SnpProduct;
  readonly publicKey: Certificate['publicKey'];
  /** TCB_VERSION that the key is derived for, 8 bytes. */
  readonly tcb: Uint8Array;
  /** null for a VLEK, which belongs to a cloud provider and not to one chip. */
  readonly hwId: Uint8Array | null;
}

const AMD = '1.3.6.1.4.1.3704.1';
const CRL_DISTRIBUTION = '2.5.29.31';

/** DER or PEM. */
export function parseCertificates(bytes: Uint8Array, where: string): Certificate[] {
  const isPem = bytes[0] === 0x2d;
  return isPem ? parsePem(decodeUtf8(bytes), where) : [parseCertificate(bytes, where)];
}

export interface EndorsementOptions {
  /** Unix seconds. */
  readonly now: number;
  readonly roots: SnpRoots;
  /** AMD's list of revoked ASKs, DER. Without it revocation is not checked. */
  readonly crl?: Uint8Array | undefined;
}

/** Throws MalformedError for unreadable certificates, VerificationError when the chain does not hold. */
export function verifyEndorsement(endorsement: SnpEndorsement, options: EndorsementOptions): VerifiedLeaf {
  const [leaf, ...more] = parseCertificates(endorsement.leaf, 'SNP leaf');
  if (leaf === undefined || more.length > 0) throw new MalformedError('snp-leaf', 'expected exactly one VCEK or VLEK');
  const chain = endorsement.chain.flatMap((part) => parseCertificates(part, 'SNP chain'));
  const kind = leaf.commonName === 'SEV-VCEK' ? 'VCEK' : 'VLEK';
  if (leaf.commonName !== `SEV-${kind}`) {
    throw new VerificationError('snp-leaf', 'the leaf certificate is neither a VCEK nor a VLEK');
  }
  const product = productOf(leaf);

  const root = chain.find(({ spkiSha256 }) => spkiSha256 === options.roots[product]);
  if (root === undefined || root.commonName !== `ARK-${product}`) {
    throw new VerificationError('snp-root', `the chain does not end at the pinned root key ARK-${product}`, {
      product,
    });
  }
  const signer = kind === 'VCEK' ? `SEV-${product}` : `SEV-VLEK-${product}`;
  const issuer = chain.find(({ subject, commonName }) => commonName === signer && equalBytes(subject, leaf.issuer));
  if (issuer === undefined) {
    throw new VerificationError('certificate-issuer', `the chain lacks ${signer}, which issued the ${kind}`, {
      signer,
    });
  }
  const links = [
    { certificate: root, by: root, where: 'ARK' },
    { certificate: issuer, by: root, where: kind === 'VCEK' ? 'ASK' : 'ASVK' },
    { certificate: leaf, by: issuer, where: kind },
  ];
  for (const { certificate, by, where } of links) {
    if (certificate.signatureAlgorithm !== RSASSA_PSS) {
      throw new VerificationError('certificate-signature', `the ${where} certificate is not signed with RSA-PSS`, {
        where,
      });
    }
    checkCritical(certificate, [CRL_DISTRIBUTION], where);
    checkIssuedBy(certificate, by, where);
    checkValidity(certificate, options.now, where);
  }
  if (options.crl !== undefined) checkRevocation(options.crl, root, issuer, options.now);
  if (leaf.isCa || leaf.publicKey.asymmetricKeyDetails?.namedCurve !== 'secp384r1') {
    throw new VerificationError('snp-leaf', `the ${kind} is not a P-384 key that may only sign reports`);
  }
  return { kind, product, publicKey: leaf.publicKey, tcb: tcbOf(leaf, product), hwId: hwIdOf(leaf, kind, product) };
}

function checkRevocation(der: Uint8Array, root: Certificate, issuer: Certificate, now: number): void {
  const crl = parseCrl(der, 'AMD revocation list');
  checkCrl(crl, root, now, 'AMD revocation list');
  if (crl.revoked.has(issuer.serial) || crl.revoked.has(root.serial)) {
    throw new VerificationError('certificate-revoked', 'AMD has revoked the CA that issued the certificate', {
      serial: issuer.serial,
    });
  }
}

function extension(leaf: Certificate, arc: string): Uint8Array {
  const found = leaf.extensions.get(`${AMD}.${arc}`);
  if (found === undefined)
    throw new MalformedError('snp-leaf', `the leaf certificate lacks the extension ${AMD}.${arc}`);
  return found.value;
}

/** The product's name, for a VCEK with its stepping: `Milan-B0`. */
function productOf(leaf: Certificate): SnpProduct {
  const reader = new DerReader(extension(leaf, '2'), 'SNP product name');
  const name = String.fromCharCode(...reader.take(TAG.ia5String).content.subarray(0, 64));
  reader.end();
  const product = SNP_PRODUCTS.find((known) => name === known || name.startsWith(`${known}-`));
  if (product === undefined) {
    throw new UnsupportedError('snp-product', 'the leaf certificate is for a product that is not known', { name });
  }
  return product;
}

function tcbOf(leaf: Certificate, product: SnpProduct): Uint8Array {
  return Uint8Array.from(tcbExtensions(product), (arc) => {
    const where = `SNP TCB extension ${arc}`;
    const reader = new DerReader(extension(leaf, `3.${arc}`), where);
    const value = decodeSmallInteger(reader.take(TAG.integer).content, where);
    reader.end();
    if (value > 255) throw new MalformedError('snp-leaf', `${where} does not fit a byte`);
    return value;
  });
}

/** The bytes themselves, or, in newer certificates, an OCTET STRING of them. */
function hwIdOf(leaf: Certificate, kind: 'VCEK' | 'VLEK', product: SnpProduct): Uint8Array | null {
  if (kind === 'VLEK') {
    if (leaf.extensions.has(`${AMD}.4`)) throw new VerificationError('snp-leaf', 'a VLEK must not name a chip');
    return null;
  }
  const value = extension(leaf, '4');
  const size = hwIdBytes(product);
  if (value.length === size) return value;
  const reader = new DerReader(value, 'SNP hwID');
  const { content } = reader.take(TAG.octetString);
  reader.end();
  if (content.length !== size) throw new MalformedError('snp-leaf', `the hwID of a ${product} VCEK has ${size} bytes`);
  return content;
}
