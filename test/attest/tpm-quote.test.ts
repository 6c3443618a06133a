// TPM quotes: a recording of swtpm, every kind of tampering, quotes that a lying TPM could sign, damaged inputs. No swtpm needed.
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { endorseKey, recallKey } from '../../src/attest/tpm/activated-key.js';
import { parseTpmAttest } from '../../src/attest/tpm/attest.js';
import { parseAttestationKey, parseEndorsementKey } from '../../src/attest/tpm/public-area.js';
import { encodeTpmQuote, parseTpmQuote, type TpmQuote } from '../../src/attest/tpm/quote.js';
import { parseTpmSignature } from '../../src/attest/tpm/signature.js';
import { verifyTpmQuote } from '../../src/attest/tpm/verify.js';
import { DistillockError, MalformedError } from '../../src/trusted/wire/errors.js';
import { type AttestFields, makeAk, signAttest, writeAttest } from './fake-tpm.js';
import { mutations } from './mutations.js';

interface Recorded {
  readonly attest: string;
  readonly signature: string;
  readonly pcrs: Readonly<Record<string, string>>;
}
const recorded = JSON.parse(readFileSync('test/fixtures/attestation/tpm/recorded.json', 'utf8')) as {
  readonly now: number;
  readonly root: string;
  readonly chain: readonly string[];
  readonly ekCertificate: string;
  readonly ekPublic: string;
  readonly eccEkPublic: string;
  readonly akPublic: string;
  readonly reportData: string;
} & Readonly<Record<'quote' | 'plain' | 'hashed', Recorded>>;
const bytes = (hex: string): Uint8Array => new Uint8Array(Buffer.from(hex, 'hex'));
const code =
  (...expected: string[]) =>
  (error: unknown) =>
    error instanceof DistillockError && expected.includes(error.code);

const endorsement = {
  ekCertificate: bytes(recorded.ekCertificate),
  ekPublic: bytes(recorded.ekPublic),
  chain: recorded.chain.map(bytes),
};
const akPublic = bytes(recorded.akPublic);
const reportData = bytes(recorded.reportData);
const roots = [{ certificate: bytes(recorded.root) }];
// The recording's TPM opened its credential; that cannot be repeated without it.
const key = recallKey(endorseKey(endorsement, akPublic, { now: recorded.now, roots }));
const options = { now: recorded.now, activatedKeys: [key] };
const quoteOf = ({ attest, signature, pcrs }: Recorded): TpmQuote => ({
  reportData,
  attest: bytes(attest),
  signature: bytes(signature),
  akPublic,
  pcrs: new Map(Object.entries(pcrs).map(([index, value]) => [Number(index), bytes(value)])),
});
const quote = quoteOf(recorded.quote);

for (const form of ['quote', 'plain', 'hashed'] as const) {
  test(`recorded quote (${form}) verifies through its encoding`, () => {
    const {
      platform,
      reportData: data,
      clockInfo,
    } = verifyTpmQuote(parseTpmQuote(encodeTpmQuote(quoteOf(recorded[form]))), options);
    assert.deepEqual(data, reportData);
    assert.deepEqual(platform.pcrs, recorded.quote.pcrs);
    assert.deepEqual(Object.keys(platform.pcrs), ['0', '1', '7']);
    assert.notEqual(platform.pcrs['7'], '00'.repeat(32));
    assert.equal(platform.softwareTpm, true);
    assert.equal(platform.endorsementCa, 'CN=swtpm-localca-rootca');
    assert.equal(platform.attestationKeyName, createHash('sha256').update(akPublic.subarray(2)).digest('hex'));
    assert.equal(clockInfo.safe, true);
  });
}

test('the recorded chain needs its own CA pinned', () => {
  const { now } = recorded;
  assert.throws(() => endorseKey(endorsement, akPublic, { now, roots: [] }), code('tpm-root'));
  assert.throws(() => endorseKey({ ...endorsement, chain: [] }, akPublic, { now, roots }), code('tpm-root'));
  const early = { now: now - 86_400 * 365, roots };
  assert.throws(() => endorseKey(endorsement, akPublic, early), code('certificate-time'));
  assert.equal(parseEndorsementKey(bytes(recorded.eccEkPublic)).type, 'ecc');
  const other = { ...endorsement, ekPublic: bytes(recorded.eccEkPublic) };
  assert.throws(() => endorseKey(other, akPublic, { now, roots }), code('tpm-endorsement'));
});

test('one flipped bit anywhere in the recorded quote is refused', () => {
  const encoded = encodeTpmQuote(quote);
  for (let at = 0; at < encoded.length; at++) {
    const changed = Uint8Array.from(encoded);
    changed[at]! ^= 1 << (at & 7);
    assert.throws(() => verifyTpmQuote(parseTpmQuote(changed), options), DistillockError, `byte ${at}`);
  }
});

test('other report data, PCRs, keys and signatures are refused', () => {
  const refuse = (change: Partial<TpmQuote>, ...expected: string[]) =>
    assert.throws(() => verifyTpmQuote({ ...quote, ...change }, options), code(...expected));
  refuse({ reportData: new Uint8Array(64) }, 'tpm-report-data');
  refuse({ reportData: reportData.subarray(0, 63) }, 'tpm-report-data');
  const pcrs = new Map(quote.pcrs);
  refuse({ pcrs: new Map([...pcrs].slice(1)) }, 'tpm-pcrs');
  refuse({ pcrs: new Map([...pcrs, [8, new Uint8Array(32)]]) }, 'tpm-pcrs');
  refuse({ pcrs: new Map([...pcrs].map(([i, v]) => [i === 7 ? 8 : i, v])) }, 'tpm-pcrs');
  refuse({ pcrs: new Map([...pcrs, [7, new Uint8Array(32)]]) }, 'tpm-pcrs');
  refuse({ akPublic: makeAk().area }, 'tpm-activation');
  refuse({ signature: bytes(recorded.hashed.signature) }, 'tpm-signature');
  refuse({ attest: bytes(recorded.hashed.attest) }, 'tpm-signature');
  const other = recallKey({ ...key, attestationKeyName: '00'.repeat(32) });
  assert.throws(() => verifyTpmQuote(quote, { ...options, activatedKeys: [other] }), code('tpm-activation'));
  assert.throws(() => verifyTpmQuote(quote, { ...options, activatedKeys: [] }), code('tpm-activation'));
  verifyTpmQuote(quote, { ...options, activatedKeys: [other, key] });
  const expired = recallKey({ ...key, endorsedUntil: recorded.now - 1 });
  assert.throws(() => verifyTpmQuote(quote, { ...options, activatedKeys: [expired] }), code('certificate-time'));
  for (const now of [Number.NaN, undefined as unknown as number]) {
    assert.throws(() => verifyTpmQuote(quote, { ...options, now }), code('now'));
  }
});

test('a signature does not make a quote of something else', () => {
  const ak = makeAk();
  const own = recallKey({ ...key, attestationKeyName: Buffer.from(ak.name).toString('hex').slice(4) });
  const pcrs = new Map([
    [0, new Uint8Array(32).fill(1)],
    [10, new Uint8Array(32).fill(2)],
  ]);
  const judge = (fields: Partial<AttestFields>) => {
    const attest = writeAttest({ extraData: reportData, pcrs, ...fields });
    return verifyTpmQuote(
      { reportData, attest, signature: signAttest(attest, ak), akPublic: ak.area, pcrs },
      { ...options, activatedKeys: [own] },
    );
  };
  assert.deepEqual(Object.keys(judge({}).platform.pcrs), ['0', '10']);
  assert.deepEqual(judge({}).clockInfo, {
    clock: (1n << 32n) + (1n << 31n),
    resetCount: 5,
    restartCount: 6,
    safe: true,
  });
  assert.equal(judge({ safe: 0 }).clockInfo.safe, false);
  judge({ extraData: createHash('sha256').update(reportData).digest() });
  const mask = Buffer.of(1, 4, 0);
  const refused: [Partial<AttestFields>, string][] = [
    [{ magic: 0xff544346 }, 'tpm'],
    [{ type: 0x8017 }, 'tpm'], // TPM_ST_ATTEST_CERTIFY
    [{ trailing: Buffer.of(0) }, 'tpm'],
    [{ safe: 2 }, 'tpm'],
    [{ extraData: new Uint8Array(0) }, 'tpm-report-data'],
    [{ extraData: reportData.subarray(0, 32) }, 'tpm-report-data'],
    [{ extraData: createHash('sha512').update(reportData).digest() }, 'tpm-report-data'],
    [{ selections: [] }, 'tpm-selection'],
    [{ selections: [{ hash: 4, mask }] }, 'tpm-selection'],
    [
      {
        selections: [
          { hash: 11, mask },
          { hash: 11, mask },
        ],
      },
      'tpm-selection',
    ],
    [{ selections: [{ hash: 11, mask: Buffer.alloc(3) }] }, 'tpm'],
    [{ selections: [{ hash: 11, mask: Buffer.alloc(5, 1) }] }, 'tpm'],
    [{ selections: [{ hash: 11, mask: Buffer.of(1, 0, 0) }] }, 'tpm-pcrs'],
    [{ pcrs: new Map([...pcrs].reverse()) }, 'tpm-pcrs'],
  ];
  for (const [fields, expected] of refused) assert.throws(() => judge(fields), code(expected), expected);
});

test('structures cut anywhere, or with a byte more, are malformed', () => {
  const inputs: [Uint8Array, (input: Uint8Array) => unknown][] = [
    [encodeTpmQuote(quote), parseTpmQuote],
    [quote.attest, parseTpmAttest],
    [quote.signature, parseTpmSignature],
    [bytes(recorded.plain.signature), parseTpmSignature],
    [akPublic, parseAttestationKey],
    [endorsement.ekPublic, parseEndorsementKey],
    [bytes(recorded.eccEkPublic), parseEndorsementKey],
  ];
  for (const [input, parse] of inputs) {
    parse(input);
    for (let size = 0; size < input.length; size++) {
      assert.throws(() => parse(input.subarray(0, size)), MalformedError, `${parse.name} ${size}`);
    }
    assert.throws(() => parse(Buffer.concat([input, Buffer.of(0)])), MalformedError);
  }
});

test('20,000 changed quotes: none is accepted', () => {
  for (const form of ['quote', 'plain'] as const) {
    for (const changed of mutations(encodeTpmQuote(quoteOf(recorded[form])), 10_000, 0x79e)) {
      assert.throws(() => verifyTpmQuote(parseTpmQuote(changed), options), DistillockError);
    }
  }
});

test('30,000 changed keys, certificates, attests: parsed or refused with an error of our own', () => {
  const trust = { now: recorded.now, roots };
  const inputs: [Uint8Array, number, (input: Uint8Array) => unknown][] = [
    [akPublic, 10_000, parseAttestationKey],
    [endorsement.ekPublic, 5000, parseEndorsementKey],
    [quote.attest, 10_000, parseTpmAttest],
    [
      endorsement.ekCertificate,
      5000,
      (ekCertificate) => endorseKey({ ...endorsement, ekCertificate }, akPublic, trust),
    ],
  ];
  for (const [input, count, parse] of inputs) {
    for (const changed of mutations(input, count, input.length)) {
      try {
        parse(changed);
      } catch (error) {
        assert.ok(error instanceof DistillockError, String(error));
        continue;
      }
      assert.notEqual(input, endorsement.ekCertificate, 'a changed certificate was accepted');
    }
  }
});
