// Which enclave the edge uses: one that it starts here, or one that runs in a confidential VM and is reached over a socket. Zone: edge.
import { MalformedError } from '../../trusted/wire/errors.js';

export const PLATFORMS = ['simulated', 'sgx', 'tdx', 'snp'] as const;
export type Platform = (typeof PLATFORMS)[number];

export interface EnclaveChoice {
  readonly platform: Platform;
  /** Socket of an enclave that somebody else started; null: it is started here. */
  readonly socketPath: string | null;
  /** SGX: `PATH` of Gramine's `PATH.manifest.sgx`; null where no enclave of Gramine's is started here. */
  readonly gramineApp: string | null;
}

export const SIMULATED: EnclaveChoice = { platform: 'simulated', socketPath: null, gramineApp: null };

/** Throws MalformedError('enclave-choice') for settings that do not belong together. */
export function enclaveChoice(settings: {
  readonly platform: Platform;
  readonly enclave_socket: string | null;
  readonly gramine_app: string | null;
}): EnclaveChoice {
  const { platform, enclave_socket: socketPath, gramine_app: gramineApp } = settings;
  const wrong = (reason: string): MalformedError => new MalformedError('enclave-choice', reason, { platform });
  if ((platform === 'tdx' || platform === 'snp') && socketPath === null)
    throw wrong(
      `platform ${platform}: the enclave is started inside its confidential VM; name its socket, enclave_socket`,
    );
  if (platform === 'sgx' && (socketPath === null) === (gramineApp === null))
    throw wrong(
      'platform sgx: give either gramine_app, to start the enclave here, or the enclave_socket of a running one',
    );
  if (platform !== 'sgx' && gramineApp !== null) throw wrong(`gramine_app belongs to platform sgx, not ${platform}`);
  return { platform, socketPath, gramineApp };
}
