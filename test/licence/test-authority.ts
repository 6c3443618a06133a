// A certificate authority for one test and a server certificate of it, made by the openssl command. Not a test itself.
import { execFileSync } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

export interface ServerCertificate {
  /** PEM of the authority, for the client to pin. */
  readonly ca: string;
  readonly cert: string;
  readonly key: string;
}

/** For `https://<host>` and no other name. */
export function certificateFor(host: string): ServerCertificate {
  const folder = mkdtempSync(join(tmpdir(), 'distillock-ca-'));
  const file = (name: string): string => join(folder, name);
  const openssl = (...words: string[]): unknown => execFileSync('openssl', words, { stdio: 'pipe' });
  const newKey = ['-newkey', 'ec', '-pkeyopt', 'ec_paramgen_curve:P-256', '-nodes'];
  try {
    openssl(
      'req',
      '-x509',
      ...newKey,
      '-keyout',
      file('ca.key'),
      '-out',
      file('ca.pem'),
      '-days',
      '2',
      '-subj',
      '/CN=Test authority',
    );
    openssl('req', ...newKey, '-keyout', file('key.pem'), '-out', file('request.pem'), '-subj', `/CN=${host}`);
    writeFileSync(file('names'), `subjectAltName=DNS:${host}\n`);
    const signer = ['-CA', file('ca.pem'), '-CAkey', file('ca.key'), '-CAcreateserial', '-extfile', file('names')];
    openssl('x509', '-req', '-in', file('request.pem'), ...signer, '-out', file('cert.pem'), '-days', '2');
    const read = (name: string): string => readFileSync(file(name), 'utf8');
    return { ca: read('ca.pem'), cert: read('cert.pem'), key: read('key.pem') };
  } finally {
    rmSync(folder, { recursive: true });
  }
}
