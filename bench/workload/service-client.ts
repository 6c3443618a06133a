// The licence service's JSON over connections that stay open: what a client measures, without a client's own cleverness.
import { Agent, request } from 'node:http';
import { decodeBase64url, encodeBase64url } from '../../src/trusted/wire/base64url.js';
import { ProtocolError } from '../../src/trusted/wire/errors.js';

export interface ServiceReply {
  readonly status: number;
  readonly text: string;
}

export interface ServiceClient {
  post(path: string, body: string): Promise<ServiceReply>;
  challenge(bundleId: string): Promise<Uint8Array>;
  close(): void;
}

export function grantBody(nonce: Uint8Array, evidence: Uint8Array, activationCode: string): string {
  return JSON.stringify({ nonce: encodeBase64url(nonce), evidence: encodeBase64url(evidence), activationCode });
}

/** Replies of any status resolve; a connection that breaks rejects. */
export function createServiceClient(url: string): ServiceClient {
  const agent = new Agent({ keepAlive: true, maxSockets: 256 });
  const post = (path: string, body: string): Promise<ServiceReply> =>
    new Promise((resolve, reject) => {
      const headers = { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) };
      const sent = request(`${url}${path}`, { method: 'POST', agent, headers }, (reply) => {
        const chunks: Buffer[] = [];
        reply.on('data', (chunk: Buffer) => chunks.push(chunk));
        reply.on('error', reject);
        reply.on('end', () => resolve({ status: reply.statusCode ?? 0, text: Buffer.concat(chunks).toString('utf8') }));
      });
      sent.on('error', reject);
      sent.end(body);
    });
  return {
    post,
    async challenge(bundleId) {
      const { status, text } = await post('/v1/challenges', JSON.stringify({ bundleId }));
      if (status !== 200) throw new ProtocolError('challenge', `no challenge: ${text}`);
      return decodeBase64url((JSON.parse(text) as { nonce: string }).nonce);
    },
    close: () => agent.destroy(),
  };
}
