// Sockets of the licence service: HTTP or TLS, with limits on slow and idle clients, and an end that lets requests finish. Zone: owner.
import { createServer as createHttp, type Server } from 'node:http';
import { createServer as createHttps } from 'node:https';
import type { AddressInfo } from 'node:net';
import { createAdaptorServer } from '@hono/node-server';
import { EnvironmentError } from '../../trusted/wire/errors.js';

export interface ListenOptions {
  readonly fetch: (request: Request) => Response | Promise<Response>;
  readonly host: string;
  /** 0: any free one. */
  readonly port: number;
  /** PEM; absent: plain HTTP. */
  readonly tls?: { readonly cert: string | Buffer; readonly key: string | Buffer };
  /** All of a request must be here within this time; half of it for its header. */
  readonly requestTimeoutMs?: number;
  /** Open connections at most; further ones are closed at once. */
  readonly maxConnections?: number;
}

export interface Listening {
  readonly url: string;
  readonly port: number;
  /** Takes no further requests, lets those under way finish, cuts off what is left after `graceMs`. */
  stop(graceMs?: number): Promise<void>;
}

const REQUEST_TIMEOUT_MS = 20_000;
const MAX_CONNECTIONS = 1_000;
/** Longer than clients keep idle connections, so that it is they who close them and none is closed under a request. */
const KEEP_ALIVE_MS = 65_000;
const MAX_HEADER_BYTES = 8_192;

/** Throws EnvironmentError('listen' | 'tls') when the address is taken or the certificate does not work. */
export async function listen(options: ListenOptions): Promise<Listening> {
  const { fetch, host, port, tls, requestTimeoutMs = REQUEST_TIMEOUT_MS, maxConnections = MAX_CONNECTIONS } = options;
  const limits = {
    maxHeaderSize: MAX_HEADER_BYTES,
    requestTimeout: requestTimeoutMs,
    headersTimeout: requestTimeoutMs / 2,
    keepAliveTimeout: KEEP_ALIVE_MS,
    // How often the two timeouts above are looked at.
    connectionsCheckingInterval: Math.min(1_000, requestTimeoutMs / 4),
  };
  const server = build();
  server.maxConnections = maxConnections;
  // A TLS handshake that never ends has no request yet that could time out.
  if ('handshakeTimeout' in server) server.setTimeout(requestTimeoutMs * 2);
  await new Promise<void>((resolve, reject) => {
    server.once('error', (cause: NodeJS.ErrnoException) => {
      const why = cause.code === 'EADDRINUSE' ? 'the address is in use; choose another --listen' : cause.message;
      reject(new EnvironmentError('listen', `cannot listen on ${host}:${port}: ${why}`, { host, port }, cause));
    });
    server.listen(port, host, resolve);
  });
  const address = server.address() as AddressInfo;
  const shown = address.family === 'IPv6' ? `[${address.address}]` : address.address;
  return {
    url: `${tls === undefined ? 'http' : 'https'}://${shown}:${address.port}`,
    port: address.port,
    async stop(graceMs = 10_000) {
      const closed = new Promise<void>((resolve) => server.close(() => resolve()));
      server.closeIdleConnections();
      const late = setTimeout(() => server.closeAllConnections(), graceMs);
      await closed;
      clearTimeout(late);
    },
  };

  function build(): Server {
    if (tls === undefined)
      return createAdaptorServer({ fetch, serverOptions: limits, createServer: createHttp }) as Server;
    const secure = {
      ...limits,
      cert: tls.cert,
      key: tls.key,
      minVersion: 'TLSv1.2',
      handshakeTimeout: requestTimeoutMs,
    };
    try {
      return createAdaptorServer({ fetch, serverOptions: secure as object, createServer: createHttps }) as Server;
    } catch (cause) {
      throw new EnvironmentError(
        'tls',
        'certificate and key do not make a TLS server; give PEM files that belong together',
        {},
        cause,
      );
    }
  }
}
