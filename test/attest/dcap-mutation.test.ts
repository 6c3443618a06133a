// Hostile input: every truncation of every vector, and 100,000 mutants across the parsers, each also put to the verifier. Whatever
// comes is refused with one of our errors, or is the original; nothing hangs. Seeded: a failure names the seed and the number.
import assert from 'node:assert/strict';
import { test } from 'node:test';
import { isDeepStrictEqual } from 'node:util';
import { parseCertificate, parsePemChain } from '../../src/attest/dcap/certificates.js';
import { parseDcapCollateral, verifyDcapCollateral } from '../../src/attest/dcap/collateral.js';
import { parseCrl, verifyCrl } from '../../src/attest/dcap/crl.js';
import { INTEL_SGX_ROOT, verifyIntelChain } from '../../src/attest/dcap/intel-chain.js';
import { readPckExtension } from '../../src/attest/dcap/pck-extension.js';
import { parseQeIdentity } from '../../src/attest/dcap/qe-identity.js';
import { parseDcapQuote } from '../../src/attest/dcap/quote.js';
import { verifySignedText } from '../../src/attest/dcap/signed-json.js';
import { parseTcbInfo } from '../../src/attest/dcap/tcb-info.js';
import { verifyDcapQuote } from '../../src/attest/dcap/verify-dcap.js';
import { DistillockError } from '../../src/trusted/wire/errors.js';
import { acceptedCases, type DcapCase, dcapCases, layoutOf } from './dcap-vectors.js';

/** The result, or undefined when refused. Anything but one of our errors fails the test. */
function attempt<T>(what: string, run: () => T): T | undefined {
  try {
    return run();
  } catch (error) {
    if (!(error instanceof DistillockError)) assert.fail(`${what}: ${String((error as Error).stack)}`);
    return undefined;
  }
}

function holds(what: string, run: () => unknown): boolean {
  return (
    attempt(what, () => {
      run();
      return true;
    }) ?? false
  );
}

type Random = (below: number) => number;

/** mulberry32: small, seeded, good enough to choose edits. */
function randomOf(seed: number): Random {
  let state = seed;
  return (below) => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) % below;
  };
}

/** One to three edits: a bit, a byte, an odd number, a cut, a repetition, an insertion. */
function mutate(bytes: Uint8Array, random: Random): Buffer {
  let out = Buffer.from(bytes);
  for (let edits = 1 + random(3); edits > 0 && out.length > 0; edits--) {
    const at = random(out.length);
    const size = 1 + random(random(8) === 0 ? 400 : 4);
    const [head, piece, tail] = [out.subarray(0, at), out.subarray(at, at + size), out.subarray(at + size)];
    switch (random(6)) {
      case 0:
        out[at]! ^= 1 << random(8);
        break;
      case 1:
        out[at] = random(256);
        break;
      case 2:
        piece.fill([0x00, 0xff, 0x7f, 0x80, 0x30][random(5)]!);
        break;
      case 3:
        out = Buffer.concat([head, tail]);
        break;
      case 4:
        out = Buffer.concat([head, piece, piece, tail]);
        break;
      default:
        out = Buffer.concat([head, Buffer.from(Array.from({ length: size }, () => random(256))), piece, tail]);
    }
  }
  return out;
}

function hexBytes(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, 'hex'));
}

test('quotes cut at every byte', () => {
  for (const { id, quoteBytes } of dcapCases) {
    const { end } = layoutOf(quoteBytes);
    for (let size = 0; size < quoteBytes.length; size++) {
      const parsed = attempt(`${id}, ${size} bytes`, () => parseDcapQuote(quoteBytes.subarray(0, size)));
      // What is cut from the zero bytes behind a version 4 quote is no loss.
      assert.equal(parsed !== undefined, quoteBytes[0] === 4 && size >= end, `${id}, ${size} bytes`);
    }
  }
});

test('lists, certificates, chains and signed texts cut at every byte', () => {
  const seen = new Set<string>();
  for (const { id, collateralData: data, quoteBytes } of acceptedCases) {
    const texts: [string, (text: string) => unknown][] = [
      [data.tcb_info, parseTcbInfo],
      [data.qe_identity, parseQeIdentity],
      [data.tcb_info_issuer_chain, (text) => parsePemChain(text, 2, 'chain')],
      [data.pck_crl_issuer_chain, (text) => parsePemChain(text, 2, 'chain')],
    ];
    for (const [text, parse] of texts) {
      if (seen.has(text)) continue;
      seen.add(text);
      parse(text);
      // A parse takes a while: every length near both ends, every seventh between.
      for (let size = 0; size < text.length; size += size > 800 && size < text.length - 800 ? 7 : 1) {
        assert.equal(
          attempt(id, () => parse(text.slice(0, size))),
          undefined,
          `${id}: ${size} characters`,
        );
      }
    }
    const ders: [Uint8Array, (bytes: Uint8Array) => unknown][] = [
      [hexBytes(data.pck_crl), parseCrl],
      [hexBytes(data.root_ca_crl), parseCrl],
      ...parseDcapQuote(quoteBytes).pckChain.map(({ raw }): [Uint8Array, (bytes: Uint8Array) => unknown] => [
        raw,
        parseCertificate,
      ]),
    ];
    for (const [bytes, parse] of ders) {
      parse(bytes);
      for (let size = 0; size < bytes.length; size++) {
        assert.equal(
          attempt(id, () => parse(bytes.subarray(0, size))),
          undefined,
          `${id}: ${size} bytes`,
        );
      }
      assert.equal(
        attempt(id, () => parse(Uint8Array.from([...bytes, 0]))),
        undefined,
        `${id}: a byte more`,
      );
    }
  }
});

test('collateral files cut at every character', () => {
  for (const text of new Set(dcapCases.map(({ collateralText }) => collateralText.trimEnd()))) {
    for (let size = 0; size < text.length; size++) {
      assert.equal(
        attempt('collateral', () => parseDcapCollateral(text.slice(0, size))),
        undefined,
        `${size}`,
      );
    }
  }
});

type Edit = (bytes: Uint8Array) => Buffer;

interface Outcome {
  readonly accepted: boolean;
  /** Says the same as the original. */
  readonly same: boolean;
}

/** `one` edits a part of the vector and puts it to the verifier. Unedited, it must be accepted: the control. */
function mutants(name: string, count: number, one: (vector: DcapCase, edit: Edit, random: Random) => Outcome): void {
  test(`${count} mutants: ${name}`, () => {
    const seed = 20_260_101 + count;
    const random = randomOf(seed);
    for (let i = 0; i < count; i++) {
      const vector = acceptedCases[i % acceptedCases.length]!;
      if (i < 4 * acceptedCases.length) {
        assert.deepEqual(
          one(vector, (bytes) => Buffer.from(bytes), random),
          { accepted: true, same: true },
          `${name}, control`,
        );
      }
      const { accepted, same } = one(vector, (bytes) => mutate(bytes, random), random);
      assert.ok(!accepted || same, `${name}, seed ${seed}, mutant ${i}: accepted`);
    }
  });
}

function editText(text: string, edit: Edit): string {
  return edit(Buffer.from(text, 'latin1')).toString('latin1');
}

mutants('quotes', 25_000, ({ id, now, quoteBytes, collateralData: collateral }, edit) => {
  const bytes = edit(quoteBytes);
  const { end } = layoutOf(quoteBytes);
  return {
    accepted: holds(id, () => verifyDcapQuote(parseDcapQuote(bytes), { now, collateral })),
    // What follows a version 4 quote is zero bytes, however many.
    same: bytes.subarray(0, end).equals(quoteBytes.subarray(0, end)),
  };
});

mutants('revocation lists', 37_000, ({ id, now, collateralData }, edit, random) => {
  const original = hexBytes(random(2) === 0 ? collateralData.root_ca_crl : collateralData.pck_crl);
  const bytes = edit(original);
  const list = attempt(id, () => parseCrl(bytes));
  const issuers = list === undefined ? [] : parsedChain(collateralData.pck_crl_issuer_chain);
  return {
    accepted: issuers.some((issuer) => holds(id, () => verifyCrl(list!, issuer, now, 'list'))),
    same: bytes.equals(original),
  };
});

mutants('certificates', 25_000, ({ id, now, quoteBytes }, edit, random) => {
  const chain = parsedQuote(quoteBytes).pckChain;
  const which = random(3);
  const roles = (['pck', 'pckAuthority', 'root'] as const).slice(which);
  const bytes = edit(chain[which]!.raw);
  const accepted = holds(id, () => {
    const certificate = parseCertificate(bytes);
    if (which === 0) readPckExtension(certificate);
    verifyIntelChain([certificate, ...chain.slice(which + 1)], roles, INTEL_SGX_ROOT, now);
  });
  return { accepted, same: bytes.equals(chain[which]!.raw) };
});

mutants('signed texts', 8_000, ({ id, collateralData: data }, edit, random) => {
  const tcb = random(2) === 0;
  const original = tcb ? data.tcb_info : data.qe_identity;
  const text = editText(original, edit);
  // Before its signature is known to be wrong: no text may hurt the reader.
  attempt(id, () => (tcb ? parseTcbInfo(text) : parseQeIdentity(text)));
  const signature = hexBytes(tcb ? data.tcb_info_signature : data.qe_identity_signature);
  const signer = parsedChain(tcb ? data.tcb_info_issuer_chain : data.qe_identity_issuer_chain)[0]!;
  return { accepted: holds(id, () => verifySignedText(text, signature, signer, 'text')), same: text === original };
});

mutants('collateral files', 5_000, ({ id, now, collateralText, collateralData }, edit) => {
  const parsed = attempt(id, () => parseDcapCollateral(editText(collateralText, edit)));
  // Spaces between the keys carry nothing.
  const same = isDeepStrictEqual(parsed, collateralData);
  if (parsed === undefined) return { accepted: false, same };
  return { accepted: holds(id, () => verifyDcapCollateral(parsed, INTEL_SGX_ROOT, now)), same };
});

const quotes = new Map<Uint8Array, ReturnType<typeof parseDcapQuote>>();
function parsedQuote(bytes: Uint8Array): ReturnType<typeof parseDcapQuote> {
  const quote = quotes.get(bytes) ?? parseDcapQuote(bytes);
  quotes.set(bytes, quote);
  return quote;
}

const chains = new Map<string, ReturnType<typeof parsePemChain>>();
function parsedChain(text: string): ReturnType<typeof parsePemChain> {
  const chain = chains.get(text) ?? parsePemChain(text, 2, 'chain');
  chains.set(text, chain);
  return chain;
}
