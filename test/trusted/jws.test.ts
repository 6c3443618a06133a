// The small verifier against `jose`, and against every header it must not accept; manifest, licence and receipt parsers.

import assert from 'node:assert/strict';
import { generateKeyPairSync } from 'node:crypto';
import { test } from 'node:test';
import { CompactSign, calculateJwkThumbprint, compactVerify, importJWK } from 'jose';
import { parseManifest } from '../../src/model/bundle-manifest.js';
import { encodeLicence } from '../../src/owner/encode-grant.js';
import { encodeManifest } from '../../src/owner/encode-manifest.js';
import { createOwnerKeys } from '../../src/owner/owner-keys.js';
import { signDetached, signWithOwnerKey } from '../../src/owner/sign.js';
import { encodeBase64url } from '../../src/trusted/wire/base64url.js';
import { encodeCanonicalJson } from '../../src/trusted/wire/canonical-json.js';
import { jwsHeader, keyId, signJws, verifyJws } from '../../src/trusted/wire/jws.js';
import { type Licence, parseLicence } from '../../src/trusted/wire/licence.js';
import { fakeBundle } from './fake-port.js';

const keys = createOwnerKeys();
const payload = Buffer.from('{"a":1}');
const jwk = { kty: 'OKP', crv: 'Ed25519', x: encodeBase64url(keys.signingKey), d: encodeBase64url(keys.signingSecret) };
const { d: _secret, ...publicJwk } = jwk;

test('jose signs what we verify, we sign what jose verifies, byte for byte the same', async () => {
  const theirs = await signWithOwnerKey('licence', payload, keys);
  assert.deepEqual(Buffer.from(verifyJws('licence', theirs, keys.signingKey)), payload);
  const ours = signJws('licence', payload, keys.signingSecret, keys.signingKey);
  assert.equal(ours, theirs);
  assert.deepEqual(Buffer.from((await compactVerify(ours, await importJWK(publicJwk, 'EdDSA'))).payload), payload);
  assert.equal(keyId(keys.signingKey), await calculateJwkThumbprint(jwk));
});

test('RFC 8037 appendix A.3: the thumbprint of its key', () => {
  const x = Buffer.from('11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo', 'base64url');
  assert.equal(keyId(x), 'kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k');
});

test('a detached signature covers its file and nothing else', async () => {
  const jws = await signDetached('manifest', payload, keys);
  verifyJws('manifest', jws, keys.signingKey, payload);
  assert.throws(() => verifyJws('manifest', jws, keys.signingKey, Buffer.from('{"a":2}')), { kind: 'verification' });
  assert.throws(() => verifyJws('manifest', jws, keys.signingKey), { code: 'jws-payload' });
  const attached = await signWithOwnerKey('manifest', payload, keys);
  assert.throws(() => verifyJws('manifest', attached, keys.signingKey, payload), { code: 'jws-payload' });
});

test('no other header is accepted, even correctly signed', async () => {
  const key = await importJWK(jwk, 'EdDSA');
  const typ = jwsHeader('licence').typ;
  const headers = [
    { alg: 'EdDSA' },
    { typ, alg: 'EdDSA' },
    { alg: 'Ed25519', typ },
    { alg: 'EdDSA', typ, kid: 'a' },
    { alg: 'EdDSA', typ: 'JWT' },
    { alg: 'EdDSA', typ: jwsHeader('receipt').typ },
    { alg: 'EdDSA', typ, b64: true, crit: ['b64'] },
  ];
  for (const header of headers) {
    const jws = await new CompactSign(payload)
      .setProtectedHeader(header)
      .sign(key)
      .catch(() => null);
    if (jws !== null)
      assert.throws(() => verifyJws('licence', jws, keys.signingKey), { kind: 'malformed', code: 'jws-header' });
  }
  const none = `${Buffer.from(JSON.stringify({ alg: 'none', typ })).toString('base64url')}.${payload.toString('base64url')}.`;
  assert.throws(() => verifyJws('licence', none, keys.signingKey), { code: 'jws-header' });
  const hmac = Buffer.from(JSON.stringify({ alg: 'HS256', typ })).toString('base64url');
  assert.throws(() => verifyJws('licence', `${hmac}.e30.AAAA`, keys.signingKey), { code: 'jws-header' });
});

test('another key, any changed character and any truncation are refused', async () => {
  const jws = await signWithOwnerKey('licence', payload, keys);
  const other = generateKeyPairSync('ed25519').publicKey.export({ format: 'jwk' });
  assert.throws(() => verifyJws('licence', jws, Buffer.from(other.x!, 'base64url')), { kind: 'verification' });
  for (let at = 0; at < jws.length; at++) {
    const changed = `${jws.slice(0, at)}${jws[at] === 'A' ? 'B' : 'A'}${jws.slice(at + 1)}`;
    assert.throws(() => verifyJws('licence', changed, keys.signingKey));
    assert.throws(() => verifyJws('licence', jws.slice(0, at), keys.signingKey));
  }
});

const licence: Licence = {
  licenceId: 'a',
  bundleId: 'a'.repeat(64),
  budgetTokens: 10,
  leaseTokens: 0,
  topK: 4,
  precision: 'float16',
  temperature: { min: 0.5, max: 2 },
  notBefore: 1,
  expires: 2,
  enclaveKeyId: 'A'.repeat(43),
};

test('a licence reads back; missing, unknown and out-of-range terms do not', () => {
  assert.deepEqual(parseLicence(encodeLicence(licence)), licence);
  for (const key of Object.keys(licence)) {
    const { [key as keyof Licence]: _, ...rest } = licence;
    assert.throws(() => parseLicence(encodeCanonicalJson(rest)), { kind: 'malformed' });
  }
  const bad: object[] = [
    { extra: 1 },
    { budgetTokens: 0 },
    { budgetTokens: 1.5 },
    { budgetTokens: '10' },
    { topK: 0 },
    { precision: 'float64' },
  ];
  bad.push(
    { expires: 0 },
    { temperature: { min: 2, max: 1 } },
    { temperature: { min: 0, max: 1, x: 1 } },
    { bundleId: 'A'.repeat(64) },
  );
  for (const changes of bad) {
    assert.throws(() => parseLicence(encodeCanonicalJson({ ...licence, ...changes })), { kind: 'malformed' });
  }
});

test('a manifest names only files inside the bundle, each once, and all that its segments need', async () => {
  const { port } = await fakeBundle();
  const manifest = parseManifest(port.bundle.manifest);
  assert.deepEqual(encodeManifest(manifest), new Uint8Array(port.bundle.manifest));
  const sealed = manifest.files[0]!;
  const parse = (changes: object) => () => parseManifest(encodeCanonicalJson({ ...manifest, ...changes }));
  for (const path of ['../x', '/x', 'a/../x', 'a/b/c', '.x', 'a\\b', '', 'a//b', 'C:x', 'a/.x']) {
    assert.throws(parse({ files: [sealed, { ...sealed, path }] }), { kind: 'malformed' }, path);
  }
  assert.throws(parse({ files: [sealed, sealed] }), { code: 'manifest' });
  assert.throws(parse({ files: [] }), { code: 'manifest' });
  const body = { name: 'body', place: 'accelerator', graph: 'segments/00.onnx', data: 'segments/00.data' };
  assert.throws(parse({ segments: [body] }), { code: 'manifest' });
  assert.throws(parse({ segments: [{ ...body, place: 'cloud' }] }), { kind: 'malformed' });
  const inside = { name: 'head', place: 'enclave', sealed: 'segments/01.sealed', precision: 'int8' };
  assert.throws(parse({ segments: [inside] }), { code: 'manifest' });
  assert.throws(parse({ segments: [{ ...inside, precision: 'int2' }] }), { kind: 'malformed' });
  const file = { ...sealed, path: 'segments/01.sealed' };
  assert.deepEqual(parse({ segments: [inside], files: [sealed, file] })().segments, [inside]);
  assert.throws(parse({ formatVersion: 2 }), { kind: 'malformed' });
  assert.throws(parse({ scheme: 'none' }), { kind: 'malformed' });
  assert.throws(parse({ plan: { ...manifest.plan, blocks: ['cloud'] } }), { kind: 'malformed' });
});
