// Intel's TCB info: which firmware levels of a platform family are known, and what Intel says of each. Zone: owner (verifier).
// Intel PCS API version 4, TCB info version 3. Matching as in Intel's quote verification library (TcbLevelCheck, TdxModuleCheck):
// levels stand newest first, the first that every component reaches counts.
import { encodeHex, equalBytes } from '../../trusted/wire/bytes.js';
import type { JsonValue } from '../../trusted/wire/canonical-json.js';
import { MalformedError, VerificationError } from '../../trusted/wire/errors.js';
import { Fields } from '../../trusted/wire/fields.js';
import type { PckFacts } from './pck-extension.js';
import type { TdReport } from './reports.js';
import { advisories, hexField, optionalList, readSignedText, timeField } from './signed-json.js';
import { ENCLAVE_STATUSES, type EnclaveStatus, PLATFORM_STATUSES, type PlatformStatus } from './tcb-status.js';

const COMPONENTS = 16;
const MAX_LEVELS = 256;

export interface TcbLevel {
  readonly sgx: readonly number[];
  /** null in a TCB info for SGX. */
  readonly tdx: readonly number[] | null;
  readonly pceSvn: number;
  readonly status: PlatformStatus;
  readonly advisories: readonly string[];
}

/** A level of a TDX module or of a quoting enclave: everything from `isvSvn` up. */
export interface EnclaveLevel {
  readonly isvSvn: number;
  readonly status: EnclaveStatus;
  readonly advisories: readonly string[];
}

export interface ModuleIdentity {
  readonly mrsigner: Uint8Array;
  readonly attributes: Uint8Array;
  readonly attributesMask: Uint8Array;
}

export type ModuleLevels = ModuleIdentity & { readonly levels: readonly EnclaveLevel[] };

export interface TcbInfo {
  readonly id: 'SGX' | 'TDX';
  /** Unix seconds. */
  readonly issued: number;
  readonly nextUpdate: number;
  /** Hex, lower case. */
  readonly fmspc: string;
  readonly pceId: string;
  readonly evaluationNumber: number;
  readonly levels: readonly TcbLevel[];
  /** The module of TEE_TCB_SVN[1] = 0; null in a TCB info for SGX. */
  readonly module: ModuleIdentity | null;
  /** Id like TDX_01 → module of that major version. */
  readonly modules: ReadonlyMap<string, ModuleLevels>;
}

function components(tcb: Fields, key: string): number[] {
  const list = tcb.list(key, COMPONENTS);
  if (list.length !== COMPONENTS) throw new MalformedError('collateral', `${key}: expected ${COMPONENTS} components`);
  return list.map((component) => new Fields(component, key).integer('svn', 0, 255));
}

function readLevel(value: JsonValue, tdx: boolean): TcbLevel {
  const level = new Fields(value, 'tcbLevel');
  const tcb = level.record('tcb');
  return {
    sgx: components(tcb, 'sgxtcbcomponents'),
    tdx: tdx ? components(tcb, 'tdxtcbcomponents') : null,
    pceSvn: tcb.integer('pcesvn', 0, 65_535),
    status: level.choice('tcbStatus', PLATFORM_STATUSES),
    advisories: advisories(value),
  };
}

export function readEnclaveLevel(value: JsonValue): EnclaveLevel {
  const level = new Fields(value, 'tcbLevel');
  return {
    isvSvn: level.record('tcb').integer('isvsvn', 0, 65_535),
    status: level.choice('tcbStatus', ENCLAVE_STATUSES),
    advisories: advisories(value),
  };
}

function readModule(fields: Fields): ModuleIdentity {
  return {
    mrsigner: hexField(fields, 'mrsigner', 48),
    attributes: hexField(fields, 'attributes', 8),
    attributesMask: hexField(fields, 'attributesMask', 8),
  };
}

function readModules(value: JsonValue): TcbInfo['modules'] {
  const modules = new Map<string, ModuleLevels>();
  for (const item of optionalList(value, 'tdxModuleIdentities', MAX_LEVELS)) {
    const fields = new Fields(item, 'tdxModuleIdentity');
    const id = fields.text('id', /^TDX_[0-9A-Fa-f]{2}$/).toUpperCase();
    if (modules.has(id)) throw new MalformedError('collateral', `tdxModuleIdentities: ${id} comes twice`);
    modules.set(id, { ...readModule(fields), levels: fields.list('tcbLevels', MAX_LEVELS).map(readEnclaveLevel) });
  }
  return modules;
}

/** Throws MalformedError. The signature over `text` must have been verified. */
export function parseTcbInfo(text: string): TcbInfo {
  const value = readSignedText(text, 'tcb_info');
  const fields = new Fields(value, 'tcb_info');
  const id = fields.choice('id', ['SGX', 'TDX']);
  fields.integer('version', 3, 3);
  fields.integer('tcbType', 0, 0); // 0: levels are compared component by component.
  return {
    id,
    issued: timeField(fields, 'issueDate'),
    nextUpdate: timeField(fields, 'nextUpdate'),
    fmspc: encodeHex(hexField(fields, 'fmspc', 6)),
    pceId: encodeHex(hexField(fields, 'pceId', 2)),
    evaluationNumber: fields.integer('tcbEvaluationDataNumber', 0, 1_000_000),
    levels: fields.list('tcbLevels', MAX_LEVELS).map((level) => readLevel(level, id === 'TDX')),
    module: id === 'TDX' ? readModule(fields.record('tdxModule')) : null,
    modules: readModules(value),
  };
}

function reaches(actual: ArrayLike<number>, needed: readonly number[], from = 0): boolean {
  for (let i = from; i < COMPONENTS; i++) if (actual[i]! < needed[i]!) return false;
  return true;
}

function unsupported(what: string): never {
  throw new VerificationError('tcb-level', `${what}: below everything that Intel supports, or unknown to it`);
}

export interface PlatformMatch {
  /** The first level that the SGX components and the PCE reach. */
  readonly sgx: TcbLevel;
  /** For TDX, the first that the TDX components reach too; otherwise the same. */
  readonly matched: TcbLevel;
}

/** `tdSvn` is TEE_TCB_SVN, null for SGX. Throws VerificationError ('tcb-level') when no level matches. */
export function matchPlatform(info: TcbInfo, pck: PckFacts, tdSvn: Uint8Array | null): PlatformMatch {
  const reached = info.levels.filter((level) => reaches(pck.components, level.sgx) && pck.pceSvn >= level.pceSvn);
  const sgx = reached[0] ?? unsupported('the platform');
  if (tdSvn === null) return { sgx, matched: sgx };
  // With a major version in [1], [0] and [1] are the module's, which has levels of its own.
  const from = tdSvn[1]! > 0 ? 2 : 0;
  const matched =
    reached.find((level) => reaches(tdSvn, level.tdx!, from)) ?? unsupported("the platform's TDX components");
  return { sgx, matched };
}

/** The first level at or below `isvSvn`. Throws VerificationError ('tcb-level') when there is none. */
export function matchEnclave(levels: readonly EnclaveLevel[], isvSvn: number, what: string): EnclaveLevel {
  return levels.find((level) => isvSvn >= level.isvSvn) ?? unsupported(what);
}

function moduleOf(info: TcbInfo, major: number): ModuleLevels {
  const id = `TDX_${major.toString(16).padStart(2, '0').toUpperCase()}`;
  const found = info.modules.get(id);
  if (found === undefined) throw new VerificationError('tdx-module', `the TCB info knows no TDX module ${id}`, { id });
  return found;
}

/** The module's level; null where TEE_TCB_SVN names no major version and the platform's level covers the module. */
export function matchModule(info: TcbInfo, report: TdReport): EnclaveLevel | null {
  const [svn, major] = report.tcbSvn as unknown as [number, number];
  const identity = major > 0 ? moduleOf(info, major) : info.module;
  const { mrSignerSeam, seamAttributes } = report;
  const masked = identity && seamAttributes.map((byte, i) => byte & identity.attributesMask[i]!);
  if (
    !identity ||
    !masked ||
    !equalBytes(mrSignerSeam, identity.mrsigner) ||
    !equalBytes(masked, identity.attributes) ||
    seamAttributes.some((byte) => byte !== 0)
  ) {
    throw new VerificationError('tdx-module', "the TDX module's signer or attributes are not those that Intel names");
  }
  return major > 0 ? matchEnclave(moduleOf(info, major).levels, svn, 'the TDX module') : null;
}

/** Whether the module running now (TEE_TCB_SVN2) reaches the newest level. Throws VerificationError ('tdx-module'). */
export function currentModuleIsLatest(info: TcbInfo, tcbSvn2: Uint8Array): boolean {
  const [svn, major, third] = tcbSvn2 as unknown as [number, number, number];
  const latest = info.levels[0]!;
  const needed = major > 0 ? moduleOf(info, major).levels[0]?.isvSvn : latest.tdx![0]!;
  if (needed === undefined) unsupported('the TDX module running now');
  return svn >= needed && third >= latest.tdx![2]!;
}
