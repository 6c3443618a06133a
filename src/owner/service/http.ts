// The service's HTTP interface: JSON in and out, bytes as base64url, errors as {error: {code, message}}. Zone: owner.
// It decides nothing: it reads a request within hard limits, asks the service, and writes down how it went.
import { Hono } from 'hono';
import { bodyLimit } from 'hono/body-limit';
import type { ContentfulStatusCode } from 'hono/utils/http-status';
import { z } from 'zod';
import { MalformedError } from '../../trusted/wire/errors.js';
import { MAX_EVIDENCE_BYTES, MAX_LICENCE_BYTES, MAX_RECEIPT_BYTES, NONCE_BYTES } from '../../trusted/wire/limits.js';
import { describeRefusal, refusal } from './refusals.js';
import type { LicenceService } from './service.js';

/** A line of the request log; never a body, a code or an address. */
export interface RequestLog {
  readonly method: string;
  readonly path: string;
  readonly status: number;
  readonly milliseconds: number;
  /** Why it was refused. */
  readonly code?: string;
  /** The verifier's or the policy's own code. */
  readonly reason?: string;
}

export interface HttpOptions {
  readonly service: LicenceService;
  readonly onRequest?: (request: RequestLog) => void;
  /** What the client is not told: defects, an unreachable database. */
  readonly onFailure?: (error: unknown) => void;
}

/** base64url and JSON around the largest evidence. */
export const MAX_BODY_BYTES: number = Math.ceil((MAX_EVIDENCE_BYTES * 4) / 3) + 4096;

const text = (most: number): z.ZodString => z.string().min(1).max(most);
/** base64url of a JWS whose payload has so many bytes. */
const jws = (most: number): z.ZodString => text(Math.ceil((most * 4) / 3) + 512);
const challengeBody = z.strictObject({ bundleId: z.string().regex(/^[0-9a-f]{64}$/) });
const grantBody = z.strictObject({
  nonce: z.string().length(43),
  evidence: text(Math.ceil((MAX_EVIDENCE_BYTES * 4) / 3)),
  activationCode: text(64),
});
const leaseBody = z.strictObject({ request: jws(MAX_LICENCE_BYTES) });
const receiptBody = z.strictObject({ receipt: jws(MAX_RECEIPT_BYTES) });

interface Env {
  Variables: { refused: { readonly code: string; readonly reason?: string } };
}

export function createHttpApp({ service, onRequest, onFailure }: HttpOptions): Hono<Env> {
  const app = new Hono<Env>();
  app.use(async (context, next) => {
    const started = performance.now();
    await next();
    const { method, path } = context.req;
    const milliseconds = Math.round((performance.now() - started) * 10) / 10;
    // An unknown path is the client's text: it stays out of the log.
    const known = context.res.status === 404 && context.get('refused')?.code === 'not-found' ? '(unknown)' : path;
    onRequest?.({ method, path: known, status: context.res.status, milliseconds, ...context.get('refused') });
  });
  app.use(
    bodyLimit({
      maxSize: MAX_BODY_BYTES,
      onError: () => {
        throw new MalformedError('body-too-large', `the request is larger than ${MAX_BODY_BYTES} bytes`);
      },
    }),
  );
  app.onError((error, context) => {
    const { status, error: refused } = describeRefusal(error);
    if (status >= 500) onFailure?.(error);
    const { code, reason } = refused;
    context.set('refused', reason === undefined ? { code } : { code, reason });
    return context.json({ error: refused }, status as ContentfulStatusCode);
  });
  app.notFound(() => {
    throw refusal('not-found');
  });

  app.get('/v1/healthz', (context) => context.json({ ok: true }));
  app.post('/v1/challenges', async (context) => {
    const { bundleId } = await read(context.req, challengeBody);
    const { nonce, expires } = await service.challenge(bundleId);
    return context.json({ nonce: base64url(nonce), expires });
  });
  app.post('/v1/grants', async (context) => {
    const { nonce, evidence, activationCode } = await read(context.req, grantBody);
    const question = { nonce: nonceOf(nonce), evidence: bytesOf(evidence), activationCode };
    const { grant, licence } = await service.grant(question);
    return context.json({ grant: base64url(grant), licence });
  });
  app.post('/v1/leases', async (context) => {
    const { request } = await read(context.req, leaseBody);
    return context.json({ lease: await service.lease(request) });
  });
  app.post('/v1/receipts', async (context) => {
    const { receipt } = await read(context.req, receiptBody);
    return context.json({ licences: await service.receipt(receipt) });
  });
  return app;
}

function base64url(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('base64url');
}

/** As strict as trusted code's own reader (one text per byte string), and quick for a quote with its certificates. */
function bytesOf(text: string): Uint8Array {
  const bytes = Buffer.from(text, 'base64url');
  if (bytes.toString('base64url') === text) return new Uint8Array(bytes);
  throw new MalformedError('malformed', 'bytes are not base64url without padding');
}

function nonceOf(text: string): Uint8Array {
  const nonce = bytesOf(text);
  if (nonce.length !== NONCE_BYTES) throw new MalformedError('malformed', `a nonce has ${NONCE_BYTES} bytes`);
  return nonce;
}

async function read<T>(request: { text(): Promise<string> }, schema: z.ZodType<T>): Promise<T> {
  let value: unknown;
  try {
    value = JSON.parse(await request.text());
  } catch {
    throw new MalformedError('malformed', 'the request is not JSON');
  }
  const parsed = schema.safeParse(value);
  if (parsed.success) return parsed.data;
  const issue = parsed.error.issues[0];
  // Only the field's name and what it should be: the value is the client's, and may be a secret.
  const field = issue?.path.join('.') || 'body';
  throw new MalformedError('malformed', `${field}: ${issue?.message ?? 'invalid'}`);
}
