// distillock enclave: starts the enclave of a bundle, hands out its evidence, unlocks it with the licence, shows its state.
// Run by the data owner, once per bundle; later verbs start the enclave from its sealed state themselves.
import { randomBytes } from 'node:crypto';
import { existsSync } from 'node:fs';
import { readFile, stat } from 'node:fs/promises';
import { setTimeout as delay } from 'node:timers/promises';
import type { Command } from 'commander';
import { decodeEvidence } from '../../attest/evidence/decode-evidence.js';
import { CONFIG_KEYS } from '../../edge/config.js';
import { BY_FILE } from '../../edge/licence/ledger.js';
import type { ServiceChoice } from '../../edge/licence/pinned-service.js';
import { writeFileAtomic } from '../../model/files.js';
import { encodeBase64url } from '../../trusted/wire/base64url.js';
import { EnvironmentError, MalformedError, PolicyError, ProtocolError } from '../../trusted/wire/errors.js';
import type { EnclaveStatus } from '../../trusted/wire/status.js';
import { addEnclaveFlags, type EnclaveFlags, readEnclaveFlags } from '../enclave-flags.js';
import { InterruptedError, UsageError } from '../errors.js';
import { encodeEvidenceFile, type LicenceFile, readLicenceFile } from '../exchange-files.js';
import type { OpenedTeacher } from '../open-teacher.js';
import { nonceBytes } from '../options.js';
import { activationCodeOf, addServiceFlags, type ServiceFlags, serviceChoiceOf } from '../service-flags.js';
import { renderPairs } from '../table.js';
import { formatNumber } from '../terminal.js';
import type { Context, Verb, VerbHelp } from '../verb.js';

export interface EnclaveVerbOptions extends EnclaveFlags {
  readonly bundle: string;
  /** Owner's public key; undefined: the pinned one. */
  readonly ownerKey: string | undefined;
  /** Where to write evidence for the owner, and the licence to wait for; null: only show the state. */
  readonly exchange: {
    readonly evidence: string;
    readonly licence: string;
    /** 32 bytes that the owner chose; undefined: random. */
    readonly nonce: Uint8Array | undefined;
  } | null;
  readonly service: ServiceChoice;
  /** Get a licence from the service with this code; null: do not. */
  readonly activationCode: string | null;
}

interface Raw extends ServiceFlags {
  readonly bundle: string;
  readonly owner_key: string | undefined;
  readonly evidence: string | undefined;
  readonly licence: string | undefined;
  readonly nonce: Uint8Array | undefined;
  readonly activation_code: string | undefined;
}

export const enclaveHelp: VerbHelp<EnclaveVerbOptions> = {
  name: 'enclave',
  summary: 'start the enclave of a bundle: evidence, licence, state (edge)',
  examples: [
    [
      'distillock enclave --bundle t.lock --owner_key t.keys.pub --evidence alice.evidence --licence alice.licence',
      'write evidence, wait until the owner has sent the licence, unlock',
    ],
    [
      'distillock enclave --bundle t.lock --owner_key t.keys.pub --licence_service https://licence.example --activation_code CODE',
      "the same through the owner's licence service",
    ],
    ['distillock enclave --bundle t.lock', 'state and budget left'],
    [
      'distillock enclave --bundle t.lock --platform snp --enclave_socket /run/distillock/enclave.sock --evidence a.evidence',
      'the enclave runs in a confidential VM',
    ],
  ],
  define(command: Command): void {
    command
      .requiredOption('--bundle <folder>', "the owner's bundle")
      .option('--owner_key <file>', "owner's public key, kept the first time; the enclave obeys nobody else")
      .option('--evidence <file>', 'write evidence for the owner here, then wait for the licence')
      .option('--licence <file>', 'unlock with this licence as soon as it is there (default: beside the evidence)')
      .option('--nonce <hex>', '32 bytes that the owner chose for this evidence, in hex (default: random)', nonceBytes)
      .option('--activation_code <code>', CONFIG_KEYS.activation_code.description);
    addEnclaveFlags(command);
    addServiceFlags(command);
  },
  parse(command: Command): EnclaveVerbOptions {
    const raw = command.opts<Raw>();
    const { bundle, owner_key, evidence, licence, nonce, activation_code } = raw;
    if (evidence !== undefined && activation_code !== undefined)
      throw new UsageError(
        'usage',
        'a licence comes by file (--evidence) or from a service (--activation_code), not both',
      );
    const common = {
      bundle,
      ownerKey: owner_key,
      ...readEnclaveFlags(command),
      service: serviceChoiceOf(raw),
      activationCode: activation_code ?? null,
    };
    if (evidence !== undefined) {
      const beside = `${evidence.replace(/\.evidence$/, '')}.licence`;
      return { ...common, exchange: { evidence, licence: licence ?? beside, nonce } };
    }
    if (licence !== undefined) {
      const reason = 'a licence is sealed to the run of `distillock enclave` that wrote the evidence';
      throw new UsageError('usage', `--licence needs --evidence: ${reason}`);
    }
    if (nonce !== undefined) throw new UsageError('usage', '--nonce needs --evidence');
    return { ...common, exchange: null };
  },
};

export const enclave: Verb<EnclaveVerbOptions> = { ...enclaveHelp, run: runEnclave };

/** What --json prints. */
type EnclaveResult = EnclaveStatus & {
  readonly stateDir: string;
  readonly simulated: boolean;
  /** What a licence service must pin to accept this enclave's evidence; null on hardware and when nothing was started. */
  readonly simulatedRoot: string | null;
};

async function runEnclave(options: EnclaveVerbOptions, context: Context): Promise<EnclaveResult> {
  const { openTeacher } = await import('../open-teacher.js');
  const { pinOwnerKey } = await import('../../edge/owner-key.js');
  const destroyed = await destroyedStatus(options);
  if (destroyed !== null && (options.exchange !== null || options.activationCode !== null)) throw destroyedError();
  if (destroyed !== null) {
    showStatus(destroyed, destroyed.stateDir, null, options, context);
    return { ...destroyed, simulated: true, simulatedRoot: null };
  }
  const teacher = await openTeacher(options, context);
  try {
    // The bundle's signature has been checked with it.
    await pinOwnerKey(teacher.stateDir, teacher.ownerKey);
    if (options.exchange !== null) await exchange(options.exchange, teacher, context);
    await activateIfAsked(teacher, options, context);
    const status = await teacher.client.status();
    const simulated = teacher.platform === 'simulated';
    const root = simulated && teacher.process !== null ? encodeBase64url(teacher.process.simulatedRoot) : null;
    showStatus(status, teacher.stateDir, root, options, context);
    return { ...status, stateDir: teacher.stateDir, simulated, simulatedRoot: root };
  } finally {
    await teacher.close();
  }
}

/** What is left to say once the enclave was destroyed and its state erased; null while it was not. */
async function destroyedStatus({
  bundle,
  enclaveStateDir,
}: EnclaveVerbOptions): Promise<(EnclaveStatus & { readonly stateDir: string }) | null> {
  const { keptReceipt } = await import('../../edge/enclave/erase.js');
  const { stateFolder } = await import('../../edge/enclave/state-folder.js');
  const { readReceipt } = await import('../receipt-file.js');
  const stateDir = await stateFolder(enclaveStateDir, bundle);
  const receipt = await keptReceipt(stateDir);
  if (receipt === null) return null;
  return { state: 'destroyed', bundleId: readReceipt(receipt).bundleId, licence: null, leasedTokens: null, stateDir };
}

function destroyedError(): PolicyError {
  return new PolicyError('destroyed', 'the teacher was destroyed in this enclave; this is final');
}

/** A code that was given is used now; one in the environment only by an enclave that is not unlocked: looking at the state spends none. */
async function activateIfAsked(
  teacher: OpenedTeacher,
  { activationCode, exchange: byFile }: EnclaveVerbOptions,
  context: Context,
): Promise<void> {
  const { activate } = await import('../open-teacher.js');
  const { state, licence } = await teacher.client.status();
  const waiting = byFile === null && state !== 'unlocked' && teacher.service !== null;
  const code = activationCode ?? (waiting ? activationCodeOf(null) : null);
  if (code === null) return;
  if (state === 'unlocked') {
    const left = formatNumber(licence?.remainingTokens ?? 0);
    context.note(`the enclave is unlocked, ${left} tokens left; a new licence takes their place`);
  }
  await activate(teacher, code, context);
}

async function exchange(
  { evidence: file, licence: licenceFile, nonce: chosen }: NonNullable<EnclaveVerbOptions['exchange']>,
  { client, platform, process: started }: OpenedTeacher,
  context: Context,
): Promise<void> {
  const { state, licence } = await client.status();
  if (state === 'destroyed') throw destroyedError();
  if (state === 'unlocked') {
    const left = formatNumber(licence?.remainingTokens ?? 0);
    context.note(`the enclave is unlocked, ${left} tokens left; a new licence takes their place`);
  }
  if (platform === 'simulated' && started === null) {
    const message = 'another distillock process runs the enclave of this bundle; stop it, then ask for evidence';
    throw new EnvironmentError('enclave-running', message);
  }
  if (existsSync(licenceFile)) {
    const message = `${licenceFile} exists, but a licence fits only evidence written before it; remove it or choose another --licence`;
    throw new EnvironmentError('licence-exists', message, { file: licenceFile });
  }
  const nonce = chosen ?? new Uint8Array(randomBytes(32));
  const evidence = await client.attest(nonce);
  const { kind } = decodeEvidence(evidence).claims;
  if (kind !== platform)
    throw new ProtocolError('enclave-platform', `the enclave's evidence is of kind ${kind}, not ${platform}`, { kind });
  const simulatedRoot = platform === 'simulated' && started !== null ? started.simulatedRoot : null;
  const message = encodeEvidenceFile({ evidence, nonce, simulatedRoot });
  await client.ledger.record({ direction: 'out', purpose: 'evidence', host: BY_FILE, message });
  await writeFileAtomic(file, message);
  context.note(`evidence written to ${file}: send it to the owner, who runs \`distillock grant\``);
  if (chosen === undefined) context.note('the owner chose no --nonce, so the evidence does not prove that it is fresh');
  context.note(`waiting for ${licenceFile}; keep this running, its key ends with it (Ctrl-C stops)`);
  const { grant } = await waitForLicence(licenceFile, context.signal);
  const received = await readFile(licenceFile);
  await client.ledger.record({ direction: 'in', purpose: 'grant', host: BY_FILE, message: received });
  await client.unlock(grant);
  context.note('unlocked');
}

const POLL_MS = 250;
const SETTLED_MS = 2000;

/** A file that does not parse may still be on its way: it counts as wrong only when nobody has written to it for a while. */
async function waitForLicence(file: string, signal: AbortSignal): Promise<LicenceFile> {
  while (!signal.aborted) {
    const found = await stat(file).catch(() => null);
    if (found !== null) {
      try {
        return await readLicenceFile(file);
      } catch (error) {
        if (!(error instanceof MalformedError) || Date.now() - found.ctimeMs > SETTLED_MS) throw error;
      }
    }
    await delay(POLL_MS, undefined, { signal }).catch(() => undefined);
  }
  throw new InterruptedError(
    'The enclave was not unlocked. Start again for new evidence; a licence for the old one is void.',
  );
}

const PLATFORM_NAMES: Readonly<Record<EnclaveFlags['enclave']['platform'], string>> = {
  simulated: 'SIMULATED: no hardware protects this enclave',
  sgx: "Intel SGX, if the owner's verifier agrees",
  tdx: "Intel TDX, if the owner's verifier agrees",
  snp: "AMD SEV-SNP, if the owner's verifier agrees",
};

function showStatus(
  { state, bundleId, licence }: EnclaveStatus,
  stateDir: string,
  simulatedRoot: string | null,
  options: EnclaveVerbOptions,
  context: Context,
): void {
  const terms: [string, string][] =
    licence === null
      ? []
      : [
          ['licence', licence.licenceId],
          ['budget', `${formatNumber(licence.budgetTokens)} tokens, ${formatNumber(licence.remainingTokens)} left`],
          ['top-k', formatNumber(licence.topK)],
          ['precision', licence.precision],
          ['temperature', `${licence.temperature.min} to ${licence.temperature.max}`],
          ['expires', new Date(licence.expires * 1000).toISOString().replace('.000', '')],
        ];
  const rows: [string, string][] = [
    ['state', state],
    ['platform', PLATFORM_NAMES[options.enclave.platform]],
    ...(simulatedRoot === null ? [] : ([['simulated root', simulatedRoot]] as [string, string][])),
    ['bundle', options.bundle],
    ['bundle id', bundleId],
    ...terms,
    ['sealed state', stateDir],
  ];
  context.print(renderPairs(rows, context.colour));
  if (state === 'fresh')
    context.print(
      'No licence yet: run again with --licence_service and --activation_code, or with --evidence FILE for the owner.',
    );
}
