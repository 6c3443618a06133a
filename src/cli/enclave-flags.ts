// The flags that name an enclave, the same in every verb that uses one: state folder, memory, platform, socket, Gramine's manifest.
import { resolve } from 'node:path';
import { type Command, Option } from 'commander';
import { CONFIG_KEYS } from '../edge/config.js';
import { type EnclaveChoice, enclaveChoice, PLATFORMS, type Platform } from '../edge/enclave/choice.js';
import { wholeNumber } from './options.js';

export interface EnclaveFlags {
  readonly enclaveStateDir: string;
  readonly teeMemoryMb: number;
  readonly enclave: EnclaveChoice;
}

interface Raw {
  readonly enclave_state_dir: string;
  readonly tee_memory: number;
  readonly platform: Platform;
  readonly enclave_socket: string | undefined;
  readonly gramine_app: string | undefined;
}

/** `before` opens every description, where the flags concern some uses of the verb only. */
export function addEnclaveFlags(command: Command, before = ''): void {
  const keys = CONFIG_KEYS;
  const { enclave_state_dir: state, tee_memory: memory, platform } = keys;
  command
    .option('--enclave_state_dir <folder>', before + state.description, state.fallback)
    .option('--tee_memory <MB>', before + memory.description, wholeNumber(64), memory.fallback)
    .addOption(
      new Option('--platform <name>', before + platform.description).choices(PLATFORMS).default(platform.fallback),
    )
    .option('--enclave_socket <path>', before + keys.enclave_socket.description)
    .option('--gramine_app <path>', before + keys.gramine_app.description);
}

/** Throws MalformedError('enclave-choice') for flags that do not belong together. */
export function readEnclaveFlags(command: Command): EnclaveFlags {
  const raw = command.opts<Raw>();
  const path = (given: string | undefined): string | null => (given === undefined ? null : resolve(given));
  return {
    enclaveStateDir: raw.enclave_state_dir,
    teeMemoryMb: raw.tee_memory,
    enclave: enclaveChoice({
      platform: raw.platform,
      enclave_socket: path(raw.enclave_socket),
      gramine_app: path(raw.gramine_app),
    }),
  };
}
