// One HTTP request to the licence service: JSON out, JSON in, nothing else followed, nothing kept open. Zone: edge.
// On node:https and not fetch: fetch follows no pinned certificate authority, and keeps connections that send packets later on.
import { type IncomingMessage, request as requestHttp } from 'node:http';
import { request as requestHttps } from 'node:https';
import { EnvironmentError, ProtocolError, VerificationError } from '../../trusted/wire/errors.js';
import type { ServiceAddress } from './address.js';

export interface HttpLimits {
  /** For the whole exchange, from the first packet to the last. */
  readonly timeoutMs: number;
  readonly maxReplyBytes: number;
  readonly signal?: AbortSignal | undefined;
}

export interface HttpReply {
  readonly status: number;
  readonly body: Uint8Array;
}

/** Node's codes for a certificate that does not hold. */
const CERTIFICATE = /CERT|SELF_SIGNED|UNABLE_TO_(GET_ISSUER|VERIFY)|ALTNAME|^ERR_TLS_|^ERR_SSL_|^EPROTO$/;

/**
 * Posts `body` and gives the reply whatever its status, once the connection is closed. Throws EnvironmentError('service-unreachable'),
 * VerificationError('service-certificate') or ProtocolError ('service-timeout', 'service-reply-size', 'service-redirect').
 */
export function postJson(
  address: ServiceAddress,
  path: string,
  body: Uint8Array,
  limits: HttpLimits,
): Promise<HttpReply> {
  const url = new URL(path, address.base);
  const send = url.protocol === 'https:' ? requestHttps : requestHttp;
  return new Promise((resolve, reject) => {
    const controller = new AbortController();
    const timer = setTimeout(() => {
      const message = `the licence service ${address.host} did not answer in full within ${limits.timeoutMs / 1000} s`;
      controller.abort(new ProtocolError('service-timeout', message, { service: address.host }));
    }, limits.timeoutMs);
    const onAbort = (): void => controller.abort(limits.signal!.reason);
    if (limits.signal?.aborted) onAbort();
    else limits.signal?.addEventListener('abort', onAbort, { once: true });
    let outcome: HttpReply | null = null;
    let failure: unknown = null;
    const request = send(url, {
      method: 'POST',
      // No pool: the connection ends with its reply, so that an idle one sends nothing after unlock.
      agent: false,
      headers: { 'content-type': 'application/json', accept: 'application/json', 'content-length': body.length },
      ...(address.ca === null ? {} : { ca: address.ca }),
      minVersion: 'TLSv1.2',
      signal: controller.signal,
    });
    const fail = (error: unknown): void => {
      failure ??= controller.signal.aborted ? controller.signal.reason : describe(error, address);
      request.destroy();
    };
    request.on('error', fail);
    request.on('response', (response) => {
      readReply(response, address, limits.maxReplyBytes).then((reply) => {
        outcome = reply;
      }, fail);
    });
    request.on('close', () => {
      clearTimeout(timer);
      limits.signal?.removeEventListener('abort', onAbort);
      // A reply that ended in the same tick as its connection.
      setImmediate(() => {
        if (outcome !== null) resolve(outcome);
        else reject(failure ?? describe(new Error('the connection was closed before the reply was complete'), address));
      });
    });
    request.end(body);
  });
}

async function readReply(response: IncomingMessage, { host }: ServiceAddress, most: number): Promise<HttpReply> {
  const status = response.statusCode ?? 0;
  if (status >= 300 && status < 400) {
    const message = `the licence service ${host} answered with a redirect, which is never followed; give its final address as licence_service`;
    throw new ProtocolError('service-redirect', message, { service: host, status });
  }
  const chunks: Buffer[] = [];
  let size = 0;
  for await (const chunk of response as AsyncIterable<Buffer>) {
    size += chunk.length;
    if (size > most) {
      const message = `the licence service ${host} answered with more than ${most} bytes; that is no reply of a licence service`;
      throw new ProtocolError('service-reply-size', message, { service: host, most });
    }
    chunks.push(chunk);
  }
  return { status, body: Buffer.concat(chunks) };
}

function describe(error: unknown, { host }: ServiceAddress): unknown {
  if (error instanceof ProtocolError) return error;
  const code = (error as NodeJS.ErrnoException).code ?? '';
  if (CERTIFICATE.test(code)) {
    const message = `the certificate of the licence service ${host} does not hold (${code}); it is not the service it should be, or needs --service_ca`;
    return new VerificationError('service-certificate', message, { service: host, reason: code }, error);
  }
  const reason = code === '' ? (error as Error).message : code;
  const message = `the licence service ${host} cannot be reached (${reason}); check the network and licence_service, then try again`;
  return new EnvironmentError('service-unreachable', message, { service: host, reason }, error);
}
