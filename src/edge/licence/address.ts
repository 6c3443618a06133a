// Which licence service the device talks to: its address, its certificate authority, and that it is not plain HTTP by accident.
// Zone: edge. Everything sent is either sealed to the enclave or public, but an activation code is worth a licence to whoever reads it.
import { readFile } from 'node:fs/promises';
import { describeFileError } from '../../model/files.js';
import { MalformedError, PolicyError } from '../../trusted/wire/errors.js';

export interface ServiceAddress {
  /** Ends in `/`; paths of the service are appended to it. */
  readonly base: string;
  /** `host:port`, as the ledger names it. */
  readonly host: string;
  /** PEM certificates that alone are trusted; null: those of the system. */
  readonly ca: string | null;
  /** Plain HTTP to another machine was asked for. */
  readonly insecureHttp: boolean;
}

const LOOPBACK = /^(localhost|127(\.\d{1,3}){3}|\[::1\])$/;

/** Throws MalformedError('setting-value') for what is no service's URL, PolicyError('service-insecure') for plain HTTP elsewhere. */
export function parseServiceAddress(
  text: string,
  { ca, insecureHttp }: { readonly ca: string | null; readonly insecureHttp: boolean },
): ServiceAddress {
  const url = URL.parse(text);
  if (
    url === null ||
    !['http:', 'https:'].includes(url.protocol) ||
    url.username + url.password + url.search + url.hash
  )
    throw new MalformedError(
      'setting-value',
      `licence_service: "${text}" is no address such as https://licence.example`,
      { name: 'licence_service' },
    );
  const plain = url.protocol === 'http:';
  if (plain && !LOOPBACK.test(url.hostname) && !insecureHttp) {
    const message = `licence_service ${url.origin} is plain HTTP to another machine: whoever is on the way reads the activation code. Use https, or add --insecure_http`;
    throw new PolicyError('service-insecure', message, { service: url.origin });
  }
  const base = url.href.endsWith('/') ? url.href : `${url.href}/`;
  const port = url.port === '' ? (plain ? '80' : '443') : url.port;
  return { base, host: `${url.hostname}:${port}`, ca, insecureHttp };
}

/** The certificates in `file`. Throws MalformedError when there is none, EnvironmentError when it cannot be read. */
export async function readCertificates(file: string): Promise<string> {
  const text = await readFile(file, 'utf8').catch((error: unknown) => {
    throw describeFileError(error, file, 'read');
  });
  if (text.includes('-----BEGIN CERTIFICATE-----')) return text;
  throw new MalformedError('setting-value', `service_ca: ${file} holds no PEM certificate`, {
    name: 'service_ca',
    file,
  });
}
