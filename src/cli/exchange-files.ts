// The two files that owner and data owner exchange: evidence from the enclave, licence from the owner. Zone: both.
// Whatever they say is checked again: evidence by the owner's verifier, the licence by the enclave.
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { describeFileError, writeFileAtomic } from '../model/files.js';
import { decodeBase64url, encodeBase64url } from '../trusted/wire/base64url.js';
import { MalformedError } from '../trusted/wire/errors.js';
import type { Licence } from '../trusted/wire/licence.js';
import { MAX_EVIDENCE_BYTES, MAX_GRANT_BYTES } from '../trusted/wire/limits.js';

export interface EvidenceFile {
  readonly evidence: Uint8Array;
  /** 32 bytes that the evidence is over. */
  readonly nonce: Uint8Array;
  /** Root of the SIMULATED platform, raw Ed25519: whoever writes this file chooses it, so it proves nothing. Null on hardware. */
  readonly simulatedRoot: Uint8Array | null;
}

export interface LicenceFile {
  /** The terms in readable form; the signed ones travel inside `grant`. */
  readonly licence: Licence;
  readonly grant: Uint8Array;
}

const bytes32 = z.string().regex(/^[A-Za-z0-9_-]{43}$/, 'expected 32 bytes in base64url');
const base64url = (most: number): z.ZodString =>
  z
    .string()
    .regex(/^[A-Za-z0-9_-]+$/, 'expected base64url')
    .max(Math.ceil((most * 4) / 3), 'too long');
const time = z.int().min(0);

const evidenceFields = {
  format: z.literal('distillock evidence v1'),
  evidence: base64url(MAX_EVIDENCE_BYTES),
  nonce: bytes32,
};
const evidenceSchema = z.discriminatedUnion('simulated', [
  z.strictObject({ ...evidenceFields, simulated: z.literal(true), simulatedRoot: bytes32 }),
  z.strictObject({ ...evidenceFields, simulated: z.literal(false) }),
]);
const licenceSchema = z.strictObject({
  format: z.literal('distillock licence v1'),
  licence: z.strictObject({
    licenceId: z.string(),
    bundleId: z.string(),
    budgetTokens: z.int().min(1),
    leaseTokens: z.int().min(0),
    topK: z.int().min(1),
    precision: z.enum(['float32', 'float16']),
    temperature: z.strictObject({ min: z.number(), max: z.number() }),
    notBefore: time,
    expires: time,
    enclaveKeyId: z.string(),
  }),
  grant: base64url(MAX_GRANT_BYTES),
});

/** The file's content, for whoever must know what leaves before it does. */
export function encodeEvidenceFile({ evidence, nonce, simulatedRoot }: EvidenceFile): Uint8Array {
  const record = {
    format: 'distillock evidence v1',
    simulated: simulatedRoot !== null,
    evidence: encodeBase64url(evidence),
    nonce: encodeBase64url(nonce),
    ...(simulatedRoot === null ? {} : { simulatedRoot: encodeBase64url(simulatedRoot) }),
  };
  return Buffer.from(`${JSON.stringify(record, null, 2)}\n`);
}

export async function writeEvidenceFile(file: string, contents: EvidenceFile): Promise<void> {
  await writeFileAtomic(file, encodeEvidenceFile(contents));
}

/** Throws MalformedError('evidence-file') naming file and field, EnvironmentError when it cannot be read. */
export async function readEvidenceFile(file: string): Promise<EvidenceFile> {
  const read = await readJson(file, 'evidence', evidenceSchema);
  const bytes = decoder(file, 'evidence');
  const simulatedRoot = read.simulated ? bytes(read.simulatedRoot) : null;
  return { evidence: bytes(read.evidence), nonce: bytes(read.nonce), simulatedRoot };
}

export async function writeLicenceFile(file: string, { licence, grant }: LicenceFile): Promise<void> {
  await writeJson(file, { format: 'distillock licence v1', licence, grant: encodeBase64url(grant) });
}

/** Throws MalformedError('licence-file') naming file and field, EnvironmentError when it cannot be read. */
export async function readLicenceFile(file: string): Promise<LicenceFile> {
  const { licence, grant } = await readJson(file, 'licence', licenceSchema);
  return { licence, grant: decoder(file, 'licence')(grant) };
}

async function writeJson(file: string, record: unknown): Promise<void> {
  await writeFileAtomic(file, `${JSON.stringify(record, null, 2)}\n`);
}

async function readJson<T>(file: string, what: 'evidence' | 'licence', schema: z.ZodType<T>): Promise<T> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw describeFileError(error, file, 'read');
  });
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw notThat(file, what, 'it is not JSON, or incomplete', cause);
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  const field = issue?.path.join('.') ?? '';
  throw notThat(file, what, `${field === '' ? '' : `${field}: `}${issue?.message ?? 'invalid'}`);
}

function decoder(file: string, what: 'evidence' | 'licence'): (text: string) => Uint8Array {
  return (text) => {
    try {
      return decodeBase64url(text);
    } catch (cause) {
      throw notThat(file, what, 'its base64url is damaged', cause);
    }
  };
}

function notThat(file: string, what: 'evidence' | 'licence', reason: string, cause?: unknown): MalformedError {
  const from = what === 'evidence' ? 'distillock enclave' : 'distillock grant';
  return new MalformedError(`${what}-file`, `${file} is no ${what} file of \`${from}\`: ${reason}`, { file }, cause);
}
