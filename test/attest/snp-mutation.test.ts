// SNP parsers under damage: cut at every byte, 50,000 changed inputs. Nothing hangs, crashes or is accepted.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parseCertificateTable, parseSnpQuote } from '../../src/attest/snp/certificate-table.js';
import { parseSnpReport } from '../../src/attest/snp/report.js';
import { verifySnpQuote } from '../../src/attest/snp/verify.js';
import { parseCertificate } from '../../src/attest/x509/certificate.js';
import { parseCrl } from '../../src/attest/x509/crl.js';
import { parsePem } from '../../src/attest/x509/pem.js';
import { concatBytes } from '../../src/trusted/wire/bytes.js';
import { DistillockError, MalformedError } from '../../src/trusted/wire/errors.js';
import { makeChain, makeCrl, makeTable } from './amd-test-pki.js';
import { mutations } from './mutations.js';

const read = (name: string): Uint8Array => readFileSync(`test/fixtures/attestation/snp/${name}`);
const NOW = 1_748_736_000;
const report = read('report-milan.bin');
const pem = read('chain-milan.pem');
const [ask, ark] = parsePem(new TextDecoder().decode(pem), 'chain').map(({ der }) => der) as [Uint8Array, Uint8Array];
const quote = concatBytes(
  report,
  makeTable([
    ['vcek', read('vcek-milan.der')],
    ['ask', ask],
    ['ark', ark],
  ]),
);
/** Padding behind the certificates, which means nothing. */
const used = quote.findLastIndex((byte) => byte !== 0) + 1;

test('a report cut anywhere, or with a byte more, is malformed', () => {
  for (let size = 0; size < report.length; size++) {
    assert.throws(() => parseSnpReport(report.subarray(0, size)), MalformedError);
  }
  assert.throws(() => parseSnpReport(concatBytes(report, Uint8Array.of(0))), MalformedError);
});

test('a quote cut anywhere is refused', () => {
  verifySnpQuote(parseSnpQuote(quote), { now: NOW });
  for (let size = 0; size < used; size++) {
    const cut = quote.subarray(0, size);
    assert.throws(() => verifySnpQuote(parseSnpQuote(cut), { now: NOW }), DistillockError);
  }
});

test('a certificate and a revocation list cut anywhere, or with a byte more, are malformed', () => {
  const vcek = read('vcek-milan.der');
  const crl = makeCrl(makeChain('Milan'), [1]);
  parseCertificate(vcek, 'VCEK');
  parseCrl(crl, 'CRL');
  for (let size = 0; size < vcek.length; size++) {
    assert.throws(() => parseCertificate(vcek.subarray(0, size), 'VCEK'), MalformedError);
  }
  for (let size = 0; size < crl.length; size++)
    assert.throws(() => parseCrl(crl.subarray(0, size), 'CRL'), MalformedError);
  assert.throws(() => parseCertificate(concatBytes(vcek, Uint8Array.of(0)), 'VCEK'), MalformedError);
  assert.throws(() => parseCrl(concatBytes(crl, Uint8Array.of(0)), 'CRL'), MalformedError);
});

test('10,000 changed quotes: none is accepted', () => {
  for (const changed of mutations(quote.subarray(0, used), 10_000, 0x5e1)) {
    assert.throws(() => verifySnpQuote(parseSnpQuote(changed), { now: NOW }), DistillockError);
  }
});

test('40,000 changed reports, tables and certificates: parsed or refused with an error of our own', () => {
  const crl = makeCrl(makeChain('Milan'), [1, 2, 3]);
  const inputs = [
    { bytes: report, parse: parseSnpReport },
    { bytes: quote.subarray(report.length, used), parse: parseCertificateTable },
    { bytes: read('vcek-milan.der'), parse: (bytes: Uint8Array) => parseCertificate(bytes, 'VCEK') },
    { bytes: crl, parse: (bytes: Uint8Array) => parseCrl(bytes, 'CRL') },
  ];
  for (const { bytes, parse } of inputs) {
    for (const changed of mutations(bytes, 10_000, bytes.length)) {
      try {
        parse(changed);
      } catch (error) {
        assert.ok(error instanceof DistillockError, String(error));
      }
    }
  }
});
