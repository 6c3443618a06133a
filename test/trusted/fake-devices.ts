// The kernel's attestation files, played: configfs-tsm as drivers/virt/coco/tsm.c and fs/configfs/file.c behave, and Gramine's
// /dev/attestation as libos/src/fs/dev/attestation.c does. Not a test itself.
import type { DeviceFiles } from '../../src/trusted/platform/device-files.js';

export const TSM = '/tsm';
export const DCAP = '/attestation';
const LAST_GENERATION = 2n ** 64n - 1n;

/** What Node throws for a system call that failed. */
export function kernelError(code: string): Error {
  return Object.assign(new Error(`${code}: the kernel refuses`), { code });
}

interface ReportFolder {
  writeGeneration: bigint;
  readGeneration: bigint;
  inblob: Uint8Array;
  privlevel: number;
  outblob: Uint8Array | null;
  auxblob: Uint8Array;
}

export interface FakeTsmOptions {
  /** Null: no driver has registered. */
  readonly provider: 'tdx_guest' | 'sev_guest' | null;
  readonly floor?: number;
  /** Generation that new folders start with; in the kernel always 0. */
  readonly generation?: bigint;
  readonly readGeneration?: bigint;
  readonly certificates?: Uint8Array;
  report?(inblob: Uint8Array, privlevel: number): Uint8Array;
  /** Runs before an operation on `name` of a report folder, as another process might. */
  before?(operation: 'read' | 'write', name: string, folder: string, tsm: FakeTsm): void;
}

/** A TDX quote of version 4 or 5, empty but for version and report data. */
export function tdxQuote(reportData: Uint8Array, version: 4 | 5 = 4): Uint8Array {
  const quote = new Uint8Array(version === 4 ? 4000 : 4006);
  quote[0] = version;
  quote.set(reportData, version === 4 ? 568 : 574);
  return quote;
}

/** An SEV-SNP report, empty but for version, VMPL and report data. */
export function snpReport(reportData: Uint8Array, vmpl: number): Uint8Array {
  const report = new Uint8Array(1184);
  report[0] = 2;
  report[0x30] = vmpl;
  report.set(reportData, 0x50);
  return report;
}

export class FakeTsm implements DeviceFiles {
  readonly folders: Map<string, ReportFolder> = new Map();
  /** Every folder that was ever made. */
  readonly made: string[] = [];
  readonly #options: FakeTsmOptions;

  constructor(options: FakeTsmOptions) {
    this.#options = options;
  }

  makeDir(path: string): void {
    if (!path.startsWith(`${TSM}/`)) throw kernelError('ENOENT');
    if (this.#options.provider === null) throw kernelError('ENXIO');
    if (this.folders.has(path)) throw kernelError('EEXIST');
    const { generation = 0n, readGeneration = generation } = this.#options;
    const fresh = { inblob: new Uint8Array(0), privlevel: 0, outblob: null, auxblob: new Uint8Array(0) };
    this.folders.set(path, { ...fresh, writeGeneration: generation, readGeneration });
    this.made.push(path);
  }

  removeDir(path: string): void {
    if (!this.folders.delete(path)) throw kernelError('ENOENT');
  }

  read(path: string): Uint8Array {
    const [folderPath, name] = split(path);
    this.#options.before?.('read', name, folderPath, this);
    const folder = this.#folder(folderPath);
    const { provider, floor = 0 } = this.#options;
    switch (name) {
      case 'provider':
        return Buffer.from(`${provider}\n`);
      case 'generation':
        return Buffer.from(`${folder.writeGeneration}\n`);
      case 'privlevel_floor':
        this.#snpOnly();
        return Buffer.from(`${floor}\n`);
      case 'outblob':
        this.#generate(folder);
        return folder.outblob!.slice();
      case 'auxblob':
        this.#snpOnly();
        this.#generate(folder);
        return folder.auxblob.slice();
      case 'inblob':
      case 'privlevel':
        throw kernelError('EACCES');
      default:
        throw kernelError('ENOENT');
    }
  }

  write(path: string, bytes: Uint8Array): void {
    const [folderPath, name] = split(path);
    this.#options.before?.('write', name, folderPath, this);
    const folder = this.#folder(folderPath);
    if (name === 'inblob') {
      if (bytes.length > 64) throw kernelError('EFBIG');
      // Binary attributes are stored when the file is closed, and configfs ignores what that says.
      if (advance(folder)) folder.inblob = bytes.slice();
    } else if (name === 'privlevel') {
      this.#snpOnly();
      const text = Buffer.from(bytes).toString();
      if (!/^\d+\n?$/.test(text)) throw kernelError('EINVAL');
      const level = Number(text);
      if (level < (this.#options.floor ?? 0) || level > 3) throw kernelError('EINVAL');
      if (!advance(folder)) throw kernelError('EBUSY');
      folder.privlevel = level;
    } else throw kernelError(['provider', 'generation', 'outblob'].includes(name) ? 'EACCES' : 'ENOENT');
  }

  #folder(path: string): ReportFolder {
    const folder = this.folders.get(path);
    if (folder === undefined) throw kernelError('ENOENT');
    return folder;
  }

  /** TDX has no privilege levels and no certificate table: those files do not exist. */
  #snpOnly(): void {
    if (this.#options.provider !== 'sev_guest') throw kernelError('ENOENT');
  }

  #generate(folder: ReportFolder): void {
    if (folder.inblob.length === 0) throw kernelError('EINVAL');
    if (folder.outblob !== null && folder.readGeneration === folder.writeGeneration) return;
    const { provider, report, certificates = new Uint8Array(0) } = this.#options;
    const data = new Uint8Array(64);
    data.set(folder.inblob);
    const usual = provider === 'tdx_guest' ? tdxQuote(data) : snpReport(data, folder.privlevel);
    folder.outblob = report?.(data, folder.privlevel) ?? usual;
    folder.auxblob = certificates;
    folder.readGeneration = folder.writeGeneration;
  }
}

/** False: as many writes without a read as an unsigned long can count. */
function advance(folder: ReportFolder): boolean {
  if (folder.writeGeneration === BigInt.asUintN(64, folder.readGeneration - 1n)) return false;
  folder.writeGeneration = folder.writeGeneration === LAST_GENERATION ? 0n : folder.writeGeneration + 1n;
  return true;
}

function split(path: string): [folder: string, name: string] {
  const at = path.lastIndexOf('/');
  return [path.slice(0, at), path.slice(at + 1)];
}

export interface FakeGramineOptions {
  /** Null: not under Gramine on SGX. */
  readonly type: 'dcap' | 'epid' | 'none' | null;
  /** Empty: the key is not set. */
  readonly key?: Uint8Array;
  /** Runs before the quote is read. */
  beforeQuote?(gramine: DeviceFiles): void;
}

/** A quote v3, empty but for version and report data. */
export function sgxQuote(reportData: Uint8Array): Uint8Array {
  const quote = new Uint8Array(4600);
  quote[0] = 3;
  quote.set(reportData, 368);
  return quote;
}

export function fakeGramine(options: FakeGramineOptions): DeviceFiles {
  const { type, key = new Uint8Array(16).fill(3) } = options;
  const reportData = new Uint8Array(64);
  const refuse = (): never => {
    throw kernelError('EACCES');
  };
  const files: DeviceFiles = {
    read: (path) => {
      if (type === null) throw kernelError('ENOENT');
      if (path === `${DCAP}/attestation_type`) return Buffer.from(type);
      if (path === `${DCAP}/keys/_sgx_mrenclave`) return key.slice();
      if (path === `${DCAP}/quote` && type !== 'none') {
        options.beforeQuote?.(files);
        return sgxQuote(reportData);
      }
      throw kernelError('ENOENT');
    },
    write: (path, bytes) => {
      if (path !== `${DCAP}/user_report_data`) throw kernelError('EACCES');
      // Gramine takes 64 bytes at most and fills the rest with zeros.
      reportData.fill(0);
      reportData.set(bytes.subarray(0, 64));
    },
    makeDir: refuse,
    removeDir: refuse,
  };
  return files;
}
