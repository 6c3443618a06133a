// A licence service as a process of its own in a network namespace of its own. One line of JSON on stdin says what to serve; one on stdout
// gives address and activation code. It ends with stdin. Not a test itself.
import { execFileSync } from 'node:child_process';
import { createInterface } from 'node:readline';
import { simulatedPolicy } from '../../src/attest/policy/policy.js';
import { appraiserOf } from '../../src/owner/service/appraiser.js';
import { issueLicence } from '../../src/owner/service/licences.js';
import { runLicenceService } from '../../src/owner/service/run.js';
import { openDatabase } from '../../src/owner/store/database.js';
import { decodeBase64url } from '../../src/trusted/wire/base64url.js';

export interface ServiceOrder {
  /** Commands that set up this side of the network, with their arguments. */
  readonly setup: readonly (readonly string[])[];
  readonly host: string;
  readonly folder: string;
  readonly bundleId: string;
  readonly budgetTokens: number;
  readonly leaseTokens: number;
  /** Base64url. */
  readonly simulatedRoot: string;
  readonly keys: Readonly<Record<'signingSecret' | 'signingKey' | 'bundleKey' | 'lockSeed', string>>;
}

async function serve(order: ServiceOrder): Promise<void> {
  for (const [command = '', ...words] of order.setup) execFileSync(command, words);
  const keys = {
    signingSecret: decodeBase64url(order.keys.signingSecret),
    signingKey: decodeBase64url(order.keys.signingKey),
    bundleKey: decodeBase64url(order.keys.bundleKey),
    lockSeed: decodeBase64url(order.keys.lockSeed),
  };
  const database = await openDatabase(order.folder);
  const now = Math.floor(Date.now() / 1000);
  const { activationCode } = await issueLicence(
    database,
    {
      bundleId: order.bundleId,
      label: 'network namespace',
      budgetTokens: order.budgetTokens,
      leaseTokens: order.leaseTokens,
      topK: 64,
      precision: 'float32',
      temperature: { min: 0.5, max: 2 },
      expires: now + 3600,
      maxDevices: 1,
    },
    now,
  );
  const policy = simulatedPolicy(order.bundleId, decodeBase64url(order.simulatedRoot));
  const appraiser = appraiserOf({ policy, collateral: {} });
  const { url } = await runLicenceService({ database, keys: [keys], appraiser, host: order.host, port: 0 });
  process.stdout.write(`${JSON.stringify({ url, activationCode })}\n`);
}

createInterface({ input: process.stdin })
  .once('line', (line) => {
    serve(JSON.parse(line) as ServiceOrder).catch((error: unknown) => {
      process.stderr.write(`${error instanceof Error ? error.stack : error}\n`);
      process.exit(1);
    });
  })
  .once('close', () => process.exit(0));
