// A bundle and its enclave, as every verb of the edge opens them: state folder by bundle, owner's key given or pinned,
// egress ledger beside the state folder, licence service given or remembered.
import type { Config } from '../edge/config.js';
import { type EnclaveChoice, enclaveChoice } from '../edge/enclave/choice.js';
import { keptReceipt } from '../edge/enclave/erase.js';
import { stateFolder } from '../edge/enclave/state-folder.js';
import { EgressLedger } from '../edge/licence/ledger.js';
import { ledgerFileOf } from '../edge/licence/ledger-file.js';
import { obtainGrant } from '../edge/licence/obtain-grant.js';
import { chooseService, pinService, type ServiceChoice } from '../edge/licence/pinned-service.js';
import { LicenceService } from '../edge/licence/service.js';
import { pinnedOwnerKey, pinOwnerKey } from '../edge/owner-key.js';
import { type LockedTeacher, openLockedTeacher } from '../edge/teacher/locked-teacher.js';
import { PolicyError } from '../trusted/wire/errors.js';
import type { EnclaveStatus } from '../trusted/wire/status.js';
import { activationCodeOf } from './service-flags.js';
import type { Context } from './verb.js';

export interface TeacherChoice {
  readonly bundle: string;
  /** Owner's public key file; null or undefined: the pinned one. */
  readonly ownerKey: string | null | undefined;
  /** `enclave_state_dir`; each bundle has a folder in it. */
  readonly enclaveStateDir: string;
  readonly threads?: number | null;
  /** Trusted memory in MB; the enclave's default when absent. */
  readonly teeMemoryMb?: number | undefined;
  /** The simulated enclave when absent. */
  readonly enclave?: EnclaveChoice;
  /** Absent: the service that granted before, if one did. */
  readonly service?: ServiceChoice;
}

export interface OpenedTeacher extends LockedTeacher {
  readonly stateDir: string;
  /** Raw Ed25519 public key of the owner. */
  readonly ownerKey: Uint8Array;
  readonly service: LicenceService | null;
}

type Surroundings = Pick<Context, 'note' | 'signal'>;

/**
 * Close it in `finally`: that ends the enclave which was started here. The enclave's SIMULATED notice goes to stderr.
 * Throws PolicyError('enclave-destroyed') when there is nothing to open any more.
 */
export async function openTeacher(choice: TeacherChoice, context: Surroundings): Promise<OpenedTeacher> {
  const stateDir = await stateFolder(choice.enclaveStateDir, choice.bundle);
  if ((await keptReceipt(stateDir)) !== null) {
    const message = `the teacher was destroyed on this device, and its keys with it (${stateDir}.receipt.jws); this is final`;
    throw new PolicyError('enclave-destroyed', message, { state: 'destroyed' });
  }
  const ownerKey = await pinnedOwnerKey(stateDir, choice.ownerKey ?? null);
  const service = await openService(stateDir, choice.service, context);
  const teacher = await openLockedTeacher({
    bundleDir: choice.bundle,
    ownerKey,
    stateDir,
    onNotice: context.note,
    ledger: service.ledger,
    service: service.client,
    ...(choice.threads == null ? {} : { threads: choice.threads }),
    ...(choice.enclave === undefined ? {} : { enclave: choice.enclave }),
    ...(choice.teeMemoryMb === undefined ? {} : { teeMemoryMb: choice.teeMemoryMb }),
  });
  return { ...teacher, stateDir, ownerKey, service: service.client };
}

const NO_CHOICE: ServiceChoice = { licenceService: null, serviceCa: null, insecureHttp: false };

/** The ledger of a state folder, and the licence service in use there, which writes to it. */
export async function openService(
  stateDir: string,
  choice: ServiceChoice = NO_CHOICE,
  { note, signal }: Surroundings,
): Promise<{ ledger: EgressLedger; client: LicenceService | null }> {
  const ledger = await EgressLedger.open(ledgerFileOf(stateDir), note);
  const address = await chooseService(stateDir, choice);
  return { ledger, client: address && new LicenceService({ address, ledger, signal, onNotice: note }) };
}

/** Unlocks with a new licence from the service and remembers both owner and service. */
export async function activate(
  { client, stateDir, ownerKey, service }: OpenedTeacher,
  activationCode: string,
  { note }: Surroundings,
): Promise<EnclaveStatus> {
  if (service === null) {
    const message = 'an activation code is for a licence service; give its address as --licence_service';
    throw new PolicyError('service-missing', message);
  }
  await pinOwnerKey(stateDir, ownerKey);
  const { status } = await obtainGrant({ client, service, activationCode, onNotice: note });
  await pinService(stateDir, service.address);
  note(`unlocked with a licence from ${service.address.host}`);
  return status;
}

/** The teacher that a configuration names; an enclave without a licence gets one when the configuration has an activation code. */
export async function openConfiguredTeacher(config: Config, context: Surroundings): Promise<OpenedTeacher> {
  const {
    teacher_model_name_or_path: bundle,
    owner_key: ownerKey,
    enclave_state_dir: enclaveStateDir,
    tee_memory: teeMemoryMb,
    licence_service: licenceService,
    service_ca: serviceCa,
    insecure_http: insecureHttp,
    threads,
  } = config;
  const service = { licenceService, serviceCa, insecureHttp };
  const enclave = enclaveChoice(config);
  const chosen = { bundle, ownerKey, enclaveStateDir, threads, teeMemoryMb, enclave, service };
  const teacher = await openTeacher(chosen, context);
  try {
    const code = activationCodeOf(config.activation_code);
    // A code works once: later runs with the same configuration find the enclave unlocked and leave the code alone.
    const { licence } = await teacher.client.status();
    if (licence === null && code !== null) await activate(teacher, code, context);
    return teacher;
  } catch (error) {
    await teacher.close();
    throw error;
  }
}
