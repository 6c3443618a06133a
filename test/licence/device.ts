// A data owner's device for tests of the verbs: a tiny bundle, the owner's public key, a state folder, a licence service. Not a test itself.
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { saveOwnerPublicKey } from '../../src/owner/owner-keys.js';
import { decodeBase64url } from '../../src/trusted/wire/base64url.js';
import { json } from '../cli/command-line.js';
import { lockTiny, type TinyBundle, type terms } from '../enclave/licensed-enclave.js';
import { type FakeService, startFakeService } from './fake-service.js';

export interface Device {
  readonly bundle: TinyBundle;
  readonly service: FakeService;
  readonly state: string;
  /** Of the one bundle in it. */
  readonly stateDir: string;
  /** `--bundle … --enclave_state_dir …` */
  readonly where: readonly string[];
  /** The verb `enclave` with the service and an activation code. */
  // biome-ignore lint/suspicious/noExplicitAny: each test knows what it asked for.
  activate(code?: string): Promise<any>;
}

/** The platform's root, as the enclave wrote it at its first start. */
export function simulatedRootOf(stateDir: string): Uint8Array {
  const platform = readdirSync(stateDir).find((name) => name === 'simulated-platform.json')!;
  return decodeBase64url((JSON.parse(readFileSync(join(stateDir, platform), 'utf8')) as { root: string }).root);
}

export async function openDevice(
  t: TestContext,
  options: Parameters<typeof lockTiny>[1] = {},
  changes: Parameters<typeof terms>[0] = {},
): Promise<Device> {
  const bundle = await lockTiny(t, options);
  const owner = join(bundle.folder, 'owner.json');
  await saveOwnerPublicKey(owner, bundle.keys);
  const state = join(bundle.folder, 'device');
  const stateDir = join(state, bundle.bundleId.slice(0, 16));
  const service = await startFakeService(t, bundle, () => simulatedRootOf(stateDir), changes);
  const where = ['--bundle', bundle.bundleDir, '--enclave_state_dir', state];
  const activate = (code = service.code) =>
    json('enclave', ...where, '--owner_key', owner, '--licence_service', service.url, '--activation_code', code);
  return { bundle, service, state, stateDir, where, activate };
}
