// distillock destroy: the enclave forgets the teacher for good and signs a receipt, which closes the licence at the service.
// Whatever step it is stopped at, running it again goes on from there and gives the same receipt.
import type { Command } from 'commander';
import type { ServiceChoice } from '../../edge/licence/pinned-service.js';
import type { ClosedLicence, LicenceService } from '../../edge/licence/service.js';
import { writeFileAtomic } from '../../model/files.js';
import { DistillockError } from '../../trusted/wire/errors.js';
import type { Manifest } from '../../trusted/wire/manifest.js';
import type { Receipt } from '../../trusted/wire/receipt.js';
import { addEnclaveFlags, type EnclaveFlags, readEnclaveFlags } from '../enclave-flags.js';
import { UsageError } from '../errors.js';
import { readReceipt, renderReceipt } from '../receipt-file.js';
import { addServiceFlags, type ServiceFlags, serviceChoiceOf } from '../service-flags.js';
import type { Context, Verb, VerbHelp } from '../verb.js';

export interface DestroyVerbOptions extends EnclaveFlags {
  readonly bundle: string;
  /** Owner's public key; undefined: the pinned one. */
  readonly ownerKey: string | undefined;
  readonly receipt: string;
  /** Also delete the bundle's other files. */
  readonly deleteBundle: boolean;
  readonly service: ServiceChoice;
  /** Do not send the receipt. */
  readonly offline: boolean;
}

interface Raw extends ServiceFlags {
  readonly bundle: string;
  readonly owner_key: string | undefined;
  readonly receipt: string;
  readonly deleteBundle?: true;
  readonly offline?: true;
  readonly yes?: true;
}

export const destroyHelp: VerbHelp<DestroyVerbOptions> = {
  name: 'destroy',
  summary: 'destroy the teacher in the enclave and get a signed receipt (edge)',
  examples: [['distillock destroy --bundle t.lock --receipt t.receipt --yes', 'cannot be undone']],
  define(command: Command): void {
    command
      .requiredOption('--bundle <folder>', 'bundle whose teacher is destroyed: its sealed part is removed')
      .option('--owner_key <file>', "owner's public key (default: the one that `distillock enclave` pinned)")
      .requiredOption('--receipt <file>', 'receipt to write')
      .option('--delete-bundle', "also delete the bundle's other files")
      .option('--offline', 'do not send the receipt to the licence service; `distillock receipt send` does it later')
      .option('--yes', 'really do it: what is left of the budget is lost');
    addEnclaveFlags(command);
    addServiceFlags(command);
  },
  parse(command: Command): DestroyVerbOptions {
    const raw = command.opts<Raw>();
    const { bundle, owner_key, receipt, deleteBundle, offline, yes } = raw;
    if (yes !== true) throw new UsageError('usage', 'destroying a teacher cannot be undone; add --yes if you mean it');
    const options = { bundle, ownerKey: owner_key, ...readEnclaveFlags(command), receipt };
    return {
      ...options,
      deleteBundle: deleteBundle === true,
      service: serviceChoiceOf(raw),
      offline: offline === true,
    };
  },
};

export const destroy: Verb<DestroyVerbOptions> = { ...destroyHelp, run: runDestroy };

/** What --json prints. */
interface DestroyResult {
  readonly receipt: Receipt;
  readonly file: string;
  /** What the service answered; null when the receipt was not sent. */
  readonly closed: readonly ClosedLicence[] | null;
  readonly bundleDeleted: boolean;
}

async function runDestroy(options: DestroyVerbOptions, context: Context): Promise<DestroyResult> {
  const { deleteBundle, eraseSealedPart, eraseState, keepReceipt, keptReceipt } = await import(
    '../../edge/enclave/erase.js'
  );
  const { stateFolder } = await import('../../edge/enclave/state-folder.js');
  const stateDir = await stateFolder(options.enclaveStateDir, options.bundle);
  const manifest = await ownManifest(options, stateDir);
  let jws = await keptReceipt(stateDir);
  if (jws === null) {
    jws = await askEnclave(options, context);
    // From here on every verb calls the teacher destroyed, whatever becomes of the steps below.
    await keepReceipt(stateDir, jws);
  }
  await writeFileAtomic(options.receipt, jws, '\n');
  await eraseState(stateDir);
  await eraseSealedPart(options.bundle, manifest);
  if (options.deleteBundle) await deleteBundle(options.bundle, manifest);
  const receipt = readReceipt(jws);
  context.print(renderReceipt(receipt, context.colour));
  context.print(
    options.deleteBundle
      ? `Erased: sealed state, keys and all files of ${options.bundle}.`
      : `Erased: sealed state, keys, and the sealed part of ${options.bundle}.`,
  );
  const closed = await report(jws, stateDir, options, context);
  return { receipt, file: options.receipt, closed, bundleDeleted: options.deleteBundle };
}

/** Only files that the owner's signed manifest lists are ever deleted. */
async function ownManifest({ bundle, ownerKey }: DestroyVerbOptions, stateDir: string): Promise<Manifest> {
  const { readManifest } = await import('../../edge/bundle.js');
  const { pinnedOwnerKey } = await import('../../edge/owner-key.js');
  return (await readManifest(bundle, await pinnedOwnerKey(stateDir, ownerKey ?? null))).manifest;
}

async function askEnclave(options: DestroyVerbOptions, context: Context): Promise<Uint8Array> {
  const { openTeacher } = await import('../open-teacher.js');
  const { pinOwnerKey } = await import('../../edge/owner-key.js');
  const teacher = await openTeacher(options, context);
  try {
    // Running again after a crash needs the key once more.
    await pinOwnerKey(teacher.stateDir, teacher.ownerKey);
    return await teacher.client.destroy();
  } finally {
    await teacher.close();
  }
}

/** Sends the receipt where a service is known. Failing to is said and undoes nothing. */
async function report(
  jws: Uint8Array,
  stateDir: string,
  options: DestroyVerbOptions,
  context: Context,
): Promise<readonly ClosedLicence[] | null> {
  const { openService } = await import('../open-teacher.js');
  const later = `distillock receipt send ${options.receipt}`;
  if (options.offline) {
    context.print(`Receipt signed by the enclave: ${options.receipt}. Not sent (--offline); later: ${later}`);
    return null;
  }
  const { ledger, client } = await openService(stateDir, options.service, context);
  if (client === null) {
    context.print(
      `Receipt signed by the enclave: ${options.receipt}. Send it to the owner, who has the key in the evidence.`,
    );
    return null;
  }
  ledger.markUnlocked();
  try {
    return await sendReceipt(client, jws, context);
  } catch (error) {
    if (!(error instanceof DistillockError)) throw error;
    context.print(`The receipt is in ${options.receipt}, but was not delivered: ${error.message}`);
    context.print(`The licence stays open at the service until then. Later: ${later}`);
    return null;
  }
}

/** Shared with `receipt send`. */
export async function sendReceipt(
  service: LicenceService,
  jws: Uint8Array,
  context: Context,
): Promise<readonly ClosedLicence[]> {
  const closed = await service.receipt(jws);
  const states = closed.map(({ licenceId, state }) => `${licenceId} ${state}`);
  context.print(
    `Receipt delivered to ${service.address.host}: ${states.length === 0 ? 'it names no licence' : states.join(', ')}.`,
  );
  return closed;
}
