// A bundle and its enclave, as every verb of the edge opens them: state folder by bundle, owner's key given or pinned.
import type { Config } from '../edge/config.js';
import { type EnclaveChoice, enclaveChoice } from '../edge/enclave/choice.js';
import { stateFolder } from '../edge/enclave/state-folder.js';
import { pinnedOwnerKey } from '../edge/owner-key.js';
import { type LockedTeacher, openLockedTeacher } from '../edge/teacher/locked-teacher.js';
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
}

export interface OpenedTeacher extends LockedTeacher {
  readonly stateDir: string;
  /** Raw Ed25519 public key of the owner. */
  readonly ownerKey: Uint8Array;
}

/** Close it in `finally`: that ends the enclave which was started here. The enclave's SIMULATED notice goes to stderr. */
export async function openTeacher(choice: TeacherChoice, context: Pick<Context, 'note'>): Promise<OpenedTeacher> {
  const stateDir = await stateFolder(choice.enclaveStateDir, choice.bundle);
  const ownerKey = await pinnedOwnerKey(stateDir, choice.ownerKey ?? null);
  const teacher = await openLockedTeacher({
    bundleDir: choice.bundle,
    ownerKey,
    stateDir,
    onNotice: context.note,
    ...(choice.threads == null ? {} : { threads: choice.threads }),
    ...(choice.enclave === undefined ? {} : { enclave: choice.enclave }),
    ...(choice.teeMemoryMb === undefined ? {} : { teeMemoryMb: choice.teeMemoryMb }),
  });
  return { ...teacher, stateDir, ownerKey };
}

/** The teacher that a configuration names. */
export function openConfiguredTeacher(config: Config, context: Pick<Context, 'note'>): Promise<OpenedTeacher> {
  const {
    teacher_model_name_or_path: bundle,
    owner_key: ownerKey,
    enclave_state_dir: enclaveStateDir,
    tee_memory: teeMemoryMb,
    threads,
  } = config;
  const enclave = enclaveChoice(config);
  return openTeacher({ bundle, ownerKey, enclaveStateDir, threads, teeMemoryMb, enclave }, context);
}
