// What `distillock attest verify` does: read evidence, policy and collateral, verify, explain. Zone: owner (verifier).
// A raw quote is judged as far as it goes; it says nothing about an enclave's keys, so it never becomes appraised evidence.
import { readFile } from 'node:fs/promises';
import type { Collateral } from '../attest/evidence/collateral.js';
import { readBytes, readCollateral } from '../attest/evidence/read-collateral.js';
import { recogniseQuote } from '../attest/evidence/recognise.js';
import { verifyEvidence, verifyQuote } from '../attest/evidence/verify-evidence.js';
import { type ExplainedFacts, explain } from '../attest/policy/appraise.js';
import { readPolicy } from '../attest/policy/read-policy.js';
import type { Rule } from '../attest/policy/rule.js';
import { trustRoots } from '../attest/policy/trust-roots.js';
import { measurementOf, type PlatformFacts } from '../attest/verified.js';
import { describeFileError } from '../model/files.js';
import { equalBytes } from '../trusted/wire/bytes.js';
import { MalformedError, VerificationError } from '../trusted/wire/errors.js';
import { MAX_EVIDENCE_BYTES } from '../trusted/wire/limits.js';
import { readEvidenceFile } from './exchange-files.js';
import { renderPairs, renderTable } from './table.js';
import { paint } from './terminal.js';
import type { Context } from './verb.js';
import type { AttestVerifyOptions } from './verbs/attest-verify.js';

/** What --json prints. */
export interface AttestVerifyResult {
  /** `platform-accepted`: of a raw quote, every rule that it can answer holds. */
  readonly verdict: 'accepted' | 'platform-accepted' | 'refused';
  /** Code of the first rule that failed. */
  readonly refusedBy: string | null;
  readonly kind: PlatformFacts['kind'];
  readonly rawQuote: boolean;
  /** Whether the evidence is over a nonce that the owner chose; null for a raw quote. */
  readonly fresh: boolean | null;
  /** Unix seconds that everything was judged at. */
  readonly now: number;
  readonly rules: readonly Rule[];
  readonly platform: PlatformFacts;
}

type Input =
  | { readonly evidence: Uint8Array; readonly nonce: Uint8Array }
  | { readonly quote: Uint8Array; readonly kind: 'sgx' | 'tdx' | 'snp' };

/** Throws MalformedError, VerificationError and the like when the evidence cannot be verified: then no rule is reached. */
export async function runAttestVerify(options: AttestVerifyOptions, context: Context): Promise<AttestVerifyResult> {
  const policy = await readPolicy(options.policy);
  const input = await readInput(options);
  const now = options.now ?? Math.floor(Date.now() / 1000);
  const verification = { now, roots: trustRoots(policy), collateral: await gatherCollateral(options) };
  const raw = 'quote' in input;
  const facts: ExplainedFacts = raw
    ? { claims: null, platform: verifyQuote(input.kind, input.quote, verification).platform }
    : verifyEvidence(input.evidence, { ...verification, nonce: input.nonce });
  const rules = explain(facts, policy, now);
  const failed = rules.find(({ verdict }) => verdict === 'fail');
  const open = rules.some(({ verdict }) => verdict === 'unchecked');
  const result: AttestVerifyResult = {
    verdict: failed !== undefined ? 'refused' : open ? 'platform-accepted' : 'accepted',
    refusedBy: failed?.code ?? null,
    kind: facts.platform.kind,
    rawQuote: raw,
    fresh: raw ? null : options.nonce !== undefined,
    now,
    rules,
    platform: facts.platform,
  };
  show(result, options, context);
  if (failed !== undefined) context.refuse();
  return result;
}

async function readInput({ evidence: file, nonce }: AttestVerifyOptions): Promise<Input> {
  const bytes = await readFile(file).catch((error: unknown) => {
    throw describeFileError(error, file, 'read');
  });
  const kind = recogniseQuote(bytes);
  if (kind !== null) {
    if (nonce === undefined) return { quote: bytes, kind };
    const message = `${file} is a raw quote, which says nothing about a nonce; leave --nonce out`;
    throw new MalformedError('evidence-file', message, { file });
  }
  if (bytes[0] === 0x7b) {
    const read = await readEvidenceFile(file);
    if (nonce !== undefined && !equalBytes(nonce, read.nonce)) {
      const message = `${file} is over another nonce than --nonce: it is old, or meant for somebody else`;
      throw new VerificationError('evidence-nonce', message, { file });
    }
    return read;
  }
  if (bytes.length > MAX_EVIDENCE_BYTES || nonce === undefined) {
    const message = `${file} is no evidence file, SGX or TDX quote or SNP report; bare evidence bytes need --nonce`;
    throw new MalformedError('evidence-file', message, { file });
  }
  return { evidence: bytes, nonce };
}

async function gatherCollateral({ collateral, certificate, chain }: AttestVerifyOptions): Promise<Collateral> {
  const stored = collateral === undefined ? {} : await readCollateral(collateral);
  const leaf = certificate === undefined ? undefined : await readBytes(certificate);
  const more = chain === undefined ? [] : [await readBytes(chain)];
  return { ...stored, snp: { ...stored.snp, leaf, chain: [...(stored.snp?.chain ?? []), ...more] } };
}

const MARKS = { pass: 'pass', fail: 'FAIL', unchecked: 'not checked' } as const;
const STYLES = { pass: 'green', fail: 'red', unchecked: 'yellow' } as const;

function show(result: AttestVerifyResult, options: AttestVerifyOptions, { print, colour }: Context): void {
  const { rules, verdict, fresh, kind } = result;
  const pairs = [
    ['evidence', `${options.evidence} (${kind}${result.rawQuote ? ', raw quote' : ''})`],
    ['measurement', measurementOf(result.platform)],
    ['judged as of', new Date(1000 * result.now).toISOString().replace('.000Z', 'Z')],
  ] as [string, string][];
  if (fresh !== null) pairs.push(['freshness', fresh ? 'proven by --nonce' : 'not proven: give --nonce']);
  print(renderPairs(pairs, colour));
  const columns = [{ title: 'rule' }, { title: 'result' }, { title: 'wanted' }, { title: 'found' }];
  const rows = rules.map((rule) => [
    rule.code,
    paint(colour, STYLES[rule.verdict], MARKS[rule.verdict]),
    shortened(rule.expected),
    shortened(rule.actual),
  ]);
  print(renderTable(columns, rows, colour));
  const failed = rules.filter((rule) => rule.verdict === 'fail');
  for (const { code, fact, expected, actual } of failed) {
    print(`${code}: ${fact}\n  wanted ${expected}\n  found  ${actual}`);
  }
  print(verdictLine(verdict, failed.length, options.policy));
}

function verdictLine(verdict: AttestVerifyResult['verdict'], failed: number, policy: string): string {
  if (verdict === 'accepted') return `Accepted by ${policy}.`;
  if (verdict === 'refused') return `Refused by ${policy}: ${failed} rule${failed === 1 ? ' does' : 's do'} not hold.`;
  return `The platform is accepted by ${policy}. A raw quote does not prove whose keys it is about: no key may be released for it.`;
}

/** Long values keep both ends; the failed ones are printed whole below the table. */
function shortened(text: string): string {
  return text.length <= 44 ? text : `${text.slice(0, 30)}…${text.slice(-8)}`;
}
