// Stands in for `gramine-sgx distillock-enclave`: the enclave program as Gramine would run it, on played device files. Not a test itself.
// Like Gramine it takes its arguments from the manifest in the working folder, and its sockets are reached over a port only.
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';
import { createEnclave } from '../../src/trusted/enclave/enclave.js';
import { createGrantOpener } from '../../src/trusted/platform/hpke.js';
import { openPort } from '../../src/trusted/platform/open-port.js';
import { startServer } from '../../src/trusted/platform/server.js';
import { openSgx } from '../../src/trusted/platform/sgx.js';
import { openStateFile } from '../../src/trusted/platform/state-file.js';
import { decodeBase64url } from '../../src/trusted/wire/base64url.js';
import { bundleId } from '../../src/trusted/wire/manifest.js';
import { DCAP, fakeGramine } from '../trusted/fake-devices.js';
import type { FakeManifest } from './play-gramine.js';

assert.deepEqual(process.argv.slice(2), ['distillock-enclave']);
const manifest = JSON.parse(readFileSync('distillock-enclave.manifest.sgx', 'utf8')) as FakeManifest;
const opener = await createGrantOpener();
const adapter = openSgx(openStateFile(manifest.stateFile), fakeGramine({ type: 'dcap' }), DCAP);
const port = openPort(
  {
    bundleDir: manifest.bundleDir,
    ownerKey: decodeBase64url(manifest.ownerKey),
    encryptionKey: opener.encryptionKey,
    memoryBytes: 1e9,
  },
  adapter,
);
const enclave = createEnclave(port);
const served = await startServer('tcp:0', { enclave, opener, bundleId: bundleId(port.bundle.manifest) });
process.stdin.on('end', () => process.exit(0)).resume();
console.log(JSON.stringify({ ready: 'yes', platform: manifest.says, address: manifest.address ?? served.address }));
