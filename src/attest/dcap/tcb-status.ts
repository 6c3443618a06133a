// How the states of platform, TDX module and quoting enclave become one. Zone: owner (verifier).
// Follows Intel's quote verification library (SGX-TDX-DCAP-QuoteVerificationLibrary: TcbLevelCheck, TdxModuleCheck, TDRelaunchCheck).

/** What a level of the TCB info may say. */
export const PLATFORM_STATUSES = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
  'Revoked',
] as const;
/** What a level of the TDX module or of the quoting enclave may say. */
export const ENCLAVE_STATUSES = ['UpToDate', 'OutOfDate', 'Revoked'] as const;
/** What a verified quote may have; `Revoked` is refused before. The last two only with TD reports 1.5. */
export const DCAP_STATUSES = [
  'UpToDate',
  'SWHardeningNeeded',
  'ConfigurationNeeded',
  'ConfigurationAndSWHardeningNeeded',
  'OutOfDate',
  'OutOfDateConfigurationNeeded',
  'TDRelaunchAdvised',
  'TDRelaunchAdvisedConfigurationNeeded',
] as const;

export type PlatformStatus = (typeof PLATFORM_STATUSES)[number];
export type EnclaveStatus = (typeof ENCLAVE_STATUSES)[number];
export type TcbStatus = PlatformStatus | (typeof DCAP_STATUSES)[number];

/** Merges the module's or the quoting enclave's status into the platform's. */
export function mergeStatus<Status extends TcbStatus>(
  platform: Status,
  enclave: EnclaveStatus,
): Status | 'OutOfDate' | 'OutOfDateConfigurationNeeded' | 'Revoked' {
  if (enclave === 'Revoked') return 'Revoked';
  if (enclave === 'UpToDate') return platform;
  switch (platform) {
    case 'UpToDate':
    case 'SWHardeningNeeded':
      return 'OutOfDate';
    case 'ConfigurationNeeded':
    case 'ConfigurationAndSWHardeningNeeded':
      return 'OutOfDateConfigurationNeeded';
    default:
      return platform;
  }
}

function needsConfiguration(status: PlatformStatus): boolean {
  return status.includes('Configuration');
}

export interface RelaunchInput {
  /** Of the first level that the SGX components reach. */
  readonly sgx: PlatformStatus;
  /** Of the level that SGX and TDX components reach, merged with `module`. */
  readonly tdx: PlatformStatus;
  readonly module: EnclaveStatus;
  readonly qe: EnclaveStatus;
  /** Whether the TDX module running now (TEE_TCB_SVN2) reaches the newest level; asked only where it matters. */
  readonly currentModuleIsLatest: () => boolean;
}

/**
 * A TD launched under an old module that has since been updated beneath it: relaunching the TD is all it takes.
 * Any other platform keeps `tdx`.
 */
export function adviseRelaunch(input: RelaunchInput): TcbStatus {
  const { sgx, tdx, module, qe, currentModuleIsLatest } = input;
  const outdated = tdx === 'OutOfDate' || tdx === 'OutOfDateConfigurationNeeded';
  const onlyTheModule =
    qe === 'UpToDate' && module === 'OutOfDate' && !sgx.startsWith('OutOfDate') && sgx !== 'Revoked';
  if (!outdated || !onlyTheModule || !currentModuleIsLatest()) return tdx;
  return needsConfiguration(sgx) || needsConfiguration(tdx)
    ? 'TDRelaunchAdvisedConfigurationNeeded'
    : 'TDRelaunchAdvised';
}
