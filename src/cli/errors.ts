// What the user sees when something goes wrong: code, message, what to do; exit codes that scripts can rely on.
// Exit codes: 0 done, 1 failure, 2 wrong usage or configuration, 130 interrupted.
import { DistillockError, MalformedError, ProtocolError } from '../trusted/wire/errors.js';

/** Flags or arguments that do not make sense. */
export class UsageError extends MalformedError {}

/** The reason of the abort signal after Ctrl-C: `signal.throwIfAborted()` throws it. */
export class InterruptedError extends ProtocolError {
  readonly hint: string | null;

  /** `hint` says how to go on; null when there is nothing to say. */
  constructor(hint: string | null = RESUME) {
    super('interrupted', 'interrupted');
    this.hint = hint;
  }
}

const RESUME = 'Nothing is lost: run the same command with --resume_from_checkpoint true to go on.';

export interface ErrorReport {
  readonly code: string;
  readonly kind: string;
  readonly message: string;
  readonly hint: string | null;
  readonly details: Readonly<Record<string, string | number | boolean>>;
  readonly exitCode: number;
}

/** null: the message says it all, and the hint of its kind would mislead. */
const HINTS_BY_CODE: Readonly<Record<string, string | null>> = {
  interrupted: RESUME,
  'run-locked': 'Two runs in one folder would overwrite each other.',
  'owner-key-missing': 'The owner of the teacher hands it out with the bundle (<keys>.pub of `distillock lock`).',
  'owner-key-changed': 'A key that changes without notice may mean that somebody else made this bundle.',
  'grant-unreadable':
    'A licence fits only the run of `distillock enclave` that wrote its evidence: start again from there.',
  'lock-differs': 'Do not hand this bundle out: lock the model again, and report a difference that stays.',
  'lock-keys': null,
  'not-unlocked': 'Run `distillock enclave` with --evidence and --licence first.',
  'lease-needed': 'The licence is renewed in small steps by its service: name it with --licence_service.',
  'service-certificate': null,
  'service-insecure': null,
  'service-missing': null,
  'service-redirect': null,
  'service-reply': null,
  'service-reply-size': null,
  'service-timeout': null,
  'activation-code': null,
  'licence-closed': null,
  'licence-revoked': null,
  'evidence-rejected': null,
  'ledger-chain': null,
  'receipt-key': null,
  'enclave-fresh': null,
  'enclave-attested': null,
  destroyed: null,
  'enclave-destroyed': null,
  'evidence-nonce': null,
  'evidence-bundle': null,
  'evidence-owner': null,
  'collateral-missing': null,
  'simulated-root': 'Pin the root in the policy, under simulated: roots.',
};
const HINTS_BY_KIND: Readonly<Record<string, string>> = {
  verification: 'Do not use this file; get it again from where it came from.',
  policy: 'Ask the owner of the teacher for a licence that allows this.',
  protocol: 'Run the same command with --resume_from_checkpoint true to go on from the last checkpoint.',
};

export function describeError(error: unknown): ErrorReport {
  if (error instanceof DistillockError) {
    const { code, kind, message, details } = error;
    const usage = error instanceof UsageError || code.startsWith('setting-') || code.startsWith('policy-');
    const known = Object.hasOwn(HINTS_BY_CODE, code) ? HINTS_BY_CODE[code] : HINTS_BY_KIND[kind];
    const hint = error instanceof InterruptedError ? error.hint : (known ?? null);
    return { code, kind, message, hint, details, exitCode: code === 'interrupted' ? 130 : usage ? 2 : 1 };
  }
  const message = error instanceof Error ? error.message : String(error);
  const hint = 'This is a defect of distillock: please report it with the output of DISTILLOCK_DEBUG=1.';
  return { code: 'internal', kind: 'internal', message, hint, details: {}, exitCode: 1 };
}

/** Lines for the terminal, or one line of JSON. The stack is shown with `debug` only. */
export function formatError(error: unknown, format: { readonly json: boolean; readonly debug: boolean }): string {
  const { exitCode, ...report } = describeError(error);
  const stack = format.debug && error instanceof Error ? stackOf(error) : null;
  if (format.json)
    return `${JSON.stringify({ error: { ...report, exitCode, ...(stack === null ? {} : { stack }) } })}\n`;
  const lines = report.code === 'interrupted' ? ['interrupted'] : [`error [${report.code}]: ${report.message}`];
  if (report.hint !== null) lines.push(report.hint);
  if (stack !== null) lines.push(stack);
  return `${lines.join('\n')}\n`;
}

function stackOf(error: Error): string {
  const cause = error.cause instanceof Error ? `\ncaused by ${stackOf(error.cause)}` : '';
  return `${error.stack ?? error.message}${cause}`;
}
