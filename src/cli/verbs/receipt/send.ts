// distillock receipt send: delivers a receipt that `destroy` could not deliver; until then the licence is open at the service.
import { join } from 'node:path';
import type { Command } from 'commander';
import { CONFIG_KEYS } from '../../../edge/config.js';
import type { ServiceChoice } from '../../../edge/licence/pinned-service.js';
import type { ClosedLicence } from '../../../edge/licence/service.js';
import { UsageError } from '../../errors.js';
import { readReceipt, readReceiptFile } from '../../receipt-file.js';
import { addServiceFlags, type ServiceFlags, serviceChoiceOf } from '../../service-flags.js';
import type { Context, Verb, VerbHelp } from '../../verb.js';
import { sendReceipt } from '../destroy.js';

export interface ReceiptSendOptions {
  readonly receipt: string;
  readonly enclaveStateDir: string;
  readonly service: ServiceChoice;
}

export const receiptSendHelp: VerbHelp<ReceiptSendOptions> = {
  name: 'receipt send',
  summary: 'deliver a receipt to the licence service, which closes the licence (edge)',
  examples: [['distillock receipt send t.receipt', 'to the service that granted the licence']],
  define(command: Command): void {
    const state = CONFIG_KEYS.enclave_state_dir;
    command
      .argument('<receipt>', 'receipt of `distillock destroy`')
      .option('--enclave_state_dir <folder>', state.description, state.fallback);
    addServiceFlags(command);
  },
  parse(command: Command): ReceiptSendOptions {
    const raw = command.opts<ServiceFlags & { enclave_state_dir: string }>();
    return { receipt: command.args[0]!, enclaveStateDir: raw.enclave_state_dir, service: serviceChoiceOf(raw) };
  },
};

export const receiptSend: Verb<ReceiptSendOptions> = { ...receiptSendHelp, run: runReceiptSend };

/** What --json prints. */
interface ReceiptSendResult {
  readonly closed: readonly ClosedLicence[];
}

async function runReceiptSend(options: ReceiptSendOptions, context: Context): Promise<ReceiptSendResult> {
  const { openService } = await import('../../open-teacher.js');
  const jws = await readReceiptFile(options.receipt);
  const { bundleId } = readReceipt(jws);
  const stateDir = join(options.enclaveStateDir, bundleId.slice(0, 16));
  const { ledger, client } = await openService(stateDir, options.service, context);
  if (client === null)
    throw new UsageError('usage', 'no licence service is known for this bundle; give --licence_service');
  ledger.markUnlocked();
  return { closed: await sendReceipt(client, jws, context) };
}
