// DER and PEM as the certificate parsers take them: one value, one encoding; everything else is malformed.
import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { test } from 'node:test';
import { parseCertificate } from '../../src/attest/x509/certificate.js';
import { DerReader, decodeOid, decodeSmallInteger, decodeTime } from '../../src/attest/x509/der.js';
import { parsePem } from '../../src/attest/x509/pem.js';
import { MalformedError } from '../../src/trusted/wire/errors.js';
import { der, extension, oid, writeCertificate } from './x509-writer.js';

const hex = (text: string): Uint8Array => new Uint8Array(Buffer.from(text, 'hex'));
const malformed = (run: () => unknown, what: string) => assert.throws(run, MalformedError, what);

test('lengths are definite and minimal', () => {
  assert.deepEqual(new DerReader(hex('0402abcd'), 't').take().content, hex('abcd'));
  assert.equal(new DerReader(der(4, new Uint8Array(300)), 't').take().content.length, 300);
  for (const text of ['', '04', '0480', '048101ff', '04820001ff', '0484000000', '0402ab', '1f0100', '04ff']) {
    malformed(() => new DerReader(hex(text), 't').take(), text);
  }
  malformed(() => new DerReader(hex('0500'), 't').take(4), 'tag');
  const reader = new DerReader(hex('05000500'), 't');
  reader.take(5);
  malformed(() => reader.end(), 'left over');
});

test('object identifiers, numbers and times', () => {
  for (const id of ['1.3.6.1.4.1.3704.1.3.1', '2.23.133.8.1', '2.5.29.15', '2.16.840.1.101.3.4.2.2']) {
    assert.equal(decodeOid(oid(id).subarray(2), 't'), id);
  }
  for (const text of ['', '2a86', '2affffffffff7f']) malformed(() => decodeOid(hex(text), 't'), text);
  assert.equal(decodeSmallInteger(hex('00d9'), 't'), 0xd9);
  assert.equal(decodeSmallInteger(hex('7f'), 't'), 127);
  for (const text of ['', '80', '007f', '0100000000']) malformed(() => decodeSmallInteger(hex(text), 't'), text);
  const time = (tag: number, text: string) =>
    decodeTime({ tag, content: Buffer.from(text), raw: Buffer.alloc(0) }, 't');
  assert.equal(time(0x17, '240229000000Z'), Date.UTC(2024, 1, 29) / 1000);
  assert.equal(time(0x17, '500101000000Z'), Date.UTC(1950, 0, 1) / 1000);
  assert.equal(time(0x18, '99991231235959Z'), Date.UTC(9999, 11, 31, 23, 59, 59) / 1000);
  for (const text of [
    '230229000000Z',
    '241301000000Z',
    '2402290000Z',
    '240229000000+0000',
    '24022900000aZ',
    '240229006000Z',
  ]) {
    malformed(() => time(0x17, text), text);
  }
  malformed(() => time(0x04, '240229000000Z'), 'tag');
});

test('a certificate with an extension twice is malformed', () => {
  const { publicKey, privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  const fields = { serial: 1, subject: 'a', issuer: 'a', notBefore: 0, notAfter: 1, publicKey };
  const one = extension('1.2.3', Buffer.of(5, 0));
  assert.equal(
    parseCertificate(writeCertificate({ ...fields, extensions: [one] }, 'ecdsa', privateKey), 't').commonName,
    'a',
  );
  const twice = writeCertificate({ ...fields, extensions: [one, one] }, 'ecdsa', privateKey);
  malformed(() => parseCertificate(twice, 't'), 'twice');
});

test('PEM holds certificates and nothing else', () => {
  const pem = readFileSync('test/fixtures/attestation/snp/chain-milan.pem', 'utf8');
  assert.equal(parsePem(pem, 't').length, 3);
  assert.deepEqual(parsePem('', 't'), []);
  const base64 = pem.slice(pem.indexOf('M'), pem.indexOf('-----END'));
  for (const text of [
    'x',
    `${pem}x`,
    `x${pem}`,
    pem.slice(0, -30),
    pem.repeat(6),
    base64,
    pem.replace('BEGIN C', 'BEGIN X'),
  ]) {
    malformed(() => parsePem(text, 't'), text.slice(0, 20));
  }
});
