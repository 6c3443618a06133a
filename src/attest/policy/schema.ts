// The form of a policy file. Only what allows or adds something may be missing, and then it does not. Zone: owner (verifier). Every scalar arrives as text (read-policy.ts).
import { z } from 'zod';
import { DCAP_STATUSES } from '../dcap/tcb-status.js';
import { parsePem } from '../x509/pem.js';
import type { AttestationPolicy } from './policy.js';

const EMPTY = 'the list is empty, which would refuse everything';
const LIST_OR_ANY = 'expected a list of values, or the word `any`';
const LIST_ZERO_OR_ANY = 'expected a list of values, or the word `zero` or `any`';
const KEY = 'expected an Ed25519 public key, 32 bytes in hex or base64url';
const ADVISORY = 'expected the name of an advisory, such as INTEL-SA-00615';
const TCB = 'expected bootLoader, tee, snp and microcode, and fmc on Turin';
const PEM = 'expected the certificate of an authority in PEM, as a block after "|"';

const hex = (bytes: number) =>
  z
    .string(`expected ${bytes} bytes in hex`)
    .regex(new RegExp(`^[0-9a-fA-F]{${2 * bytes}}$`), `expected ${bytes} bytes in hex, that is ${2 * bytes} digits`)
    .transform((text) => text.toLowerCase());
const list = <Item extends z.ZodType>(item: Item) => z.array(item, 'expected a list of values').min(1, EMPTY);
/** The word `any` must be written out. */
const pin = (bytes: number) => z.union([z.literal('any'), z.array(hex(bytes), LIST_OR_ANY).min(1, EMPTY)]);
const zeroable = (bytes: number) =>
  z.union([
    z.literal('any'),
    z.literal('zero').transform(() => ['00'.repeat(bytes)]),
    z.array(hex(bytes), LIST_ZERO_OR_ANY).min(1, EMPTY),
  ]);
const number = (most: number) => {
  const message = `expected a whole number up to ${most}`;
  const text = z.string(message).regex(/^(0|[1-9]\d{0,9})$/, message);
  return text.transform(Number).refine((value) => value <= most, message);
};
const u8 = number(255);
const flag = z
  .enum(['true', 'false'], 'expected true or false')
  .default('false')
  .transform((text) => text === 'true');
const section = <Shape extends z.core.$ZodLooseShape>(shape: Shape) => z.strictObject(shape, 'has no pins');
const bits = { value: hex(8), mask: hex(8).default('ff'.repeat(8)) };
const masked = z.strictObject(bits, 'expected value and mask, 8 bytes in hex each');
const maskedOrAny = z.strictObject(bits, 'expected value and mask, 8 bytes in hex each, or the word `any`');

const ed25519Key = z
  .string(KEY)
  .regex(/^([0-9a-fA-F]{64}|[A-Za-z0-9_-]{43})$/, KEY)
  .transform((text) => (text.length === 64 ? text.toLowerCase() : Buffer.from(text, 'base64url').toString('hex')));

const simulated = section({ roots: list(ed25519Key), measurements: pin(32) });

const dcap = {
  statuses: list(z.enum(DCAP_STATUSES, `expected one of ${DCAP_STATUSES.join(', ')}`)),
  advisories: z
    .array(z.string(ADVISORY).regex(/^INTEL-(SA|DOC)-\d{5}$/, ADVISORY), 'expected a list of advisories, [] for none')
    .default([]),
  minTcbEvaluationDataNumber: number(1_000_000),
  maxCollateralAgeDays: number(3650),
};

const sgx = section({
  mrenclave: list(hex(32)).optional(),
  mrsigner: list(hex(32)).optional(),
  isvProdId: number(0xffff).optional(),
  minIsvSvn: number(0xffff).optional(),
  attributes: masked,
  xfrm: z.union([z.literal('any'), maskedOrAny]),
  ...dcap,
}).superRefine((pins, context) => {
  const signer = ['mrsigner', 'isvProdId', 'minIsvSvn'] as const;
  for (const key of signer) {
    if (pins.mrenclave !== undefined && pins[key] !== undefined)
      context.addIssue({ code: 'custom', path: [key], message: 'cannot stand beside mrenclave: pin one or the other' });
    if (pins.mrenclave === undefined && pins[key] === undefined)
      context.addIssue({ code: 'custom', path: [key], message: `is missing: pin mrenclave, or ${signer.join(', ')}` });
  }
});

const tdx = section({
  mrtd: list(hex(48)),
  rtmr0: pin(48),
  rtmr1: pin(48),
  rtmr2: pin(48),
  rtmr3: zeroable(48),
  tdAttributes: list(hex(8)),
  xfam: pin(8),
  mrConfigId: zeroable(48),
  mrOwner: zeroable(48),
  mrOwnerConfig: zeroable(48),
  ...dcap,
});

const tcb = { bootLoader: u8, tee: u8, snp: u8, microcode: u8 };
const withoutFmc = z.strictObject(tcb, TCB).transform((parts) => ({ fmc: null, ...parts }));
const minTcb = z
  .strictObject(
    {
      Milan: withoutFmc.optional(),
      Genoa: withoutFmc.optional(),
      Turin: z.strictObject({ fmc: u8, ...tcb }, TCB).optional(),
    },
    'expected products (Milan, Genoa, Turin), each with its lowest TCB',
  )
  .refine((products) => Object.keys(products).length > 0, 'names no product');

const snp = section({
  measurement: list(hex(48)),
  minTcb,
  minAbi: z.strictObject({ major: u8, minor: u8 }, 'expected major and minor'),
  allowSmt: flag,
  allowMigration: flag,
  allowMultipleSockets: flag,
  vmpl: list(number(3)),
  minGuestSvn: number(0xffffffff),
  hostData: zeroable(32),
  idKeyDigest: zeroable(48),
  authorKeyDigest: zeroable(48),
  signedBy: list(z.enum(['VCEK', 'VLEK'], 'expected VCEK or VLEK')),
  chipIds: pin(64),
});

const tpm = section({
  endorsementCas: list(z.string(PEM).refine(isAuthority, PEM)),
  pcrs: z
    .record(z.string().regex(/^(\d|1\d|2[0-3])$/, 'a PCR has a number from 0 to 23'), pin(32), 'expected PCRs')
    .refine((pcrs) => Object.keys(pcrs).length > 0, 'names no PCR'),
  softwareTpm: flag,
});

const extraRoots = z.strictObject(
  {
    intel: list(hex(64)).default([]),
    amd: z
      .strictObject(
        { Milan: list(hex(32)).optional(), Genoa: list(hex(32)).optional(), Turin: list(hex(32)).optional() },
        'expected products (Milan, Genoa, Turin)',
      )
      .default({}),
  },
  'expected intel or amd',
);

const sections = { simulated, sgx, tdx, snp, tpm };

/** The keys that a section knows; '' is the file itself. For suggestions. */
export const KNOWN_KEYS: ReadonlyMap<string, readonly string[]> = new Map([
  ['', ['version', 'bundles', ...Object.keys(sections), 'extraRoots']],
  ...Object.entries(sections).map(([name, { shape }]) => [name, Object.keys(shape)] as const),
]);

/** From a record of texts, lists and records. */
export const POLICY_SCHEMA: z.ZodType<AttestationPolicy> = z
  .strictObject(
    {
      version: z.literal('1', 'this release reads version 1'),
      bundles: list(hex(32)),
      simulated: simulated.optional(),
      sgx: sgx.optional(),
      tdx: tdx.optional(),
      snp: snp.optional(),
      tpm: tpm.optional(),
      extraRoots: extraRoots.optional(),
    },
    'expected "name: value" lines',
  )
  .transform(({ version: _, ...policy }) => policy as AttestationPolicy);

function isAuthority(pem: string): boolean {
  try {
    const certificates = parsePem(pem, 'endorsement CA');
    return certificates.length === 1 && certificates[0]!.isCa;
  } catch {
    return false;
  }
}
