// A locked teacher, ready to use: the checked bundle, its enclave process and the accelerator that runs its segments.
// Zone: edge. DESIGN sections 5 and 6.
import { join } from 'node:path';
import { type Bundle, openBundle } from '../bundle.js';
import { type EnclaveChoice, type Platform, SIMULATED } from '../enclave/choice.js';
import { EnclaveClient } from '../enclave/client.js';
import { type EnclaveProcess, launchEnclave } from '../enclave/launch.js';
import type { EgressLedger } from '../licence/ledger.js';
import type { LicenceService } from '../licence/service.js';
import { Accelerator } from './accelerator.js';
import type { Gate } from './gate.js';

export interface LockedTeacherOptions {
  readonly bundleDir: string;
  /** Raw Ed25519 public key of the owner, pinned. */
  readonly ownerKey: Uint8Array;
  /** Where the enclave keeps its sealed state. */
  readonly stateDir: string;
  readonly threads?: number;
  /** Trusted memory for enclave-held parts. */
  readonly teeMemoryMb?: number;
  /** Which enclave; the simulated one when absent. */
  readonly enclave?: EnclaveChoice;
  /** Where everything that leaves is recorded; in memory when absent. */
  readonly ledger?: EgressLedger;
  /** Gives leases, where the licence needs them. */
  readonly service?: LicenceService | null;
  /** Receives the enclave's SIMULATED notice; stderr when absent. */
  readonly onNotice?: (line: string) => void;
}

export interface LockedTeacher {
  readonly bundle: Bundle;
  readonly client: EnclaveClient;
  /** What the enclave was asked to run on; only evidence shows what it does run on. */
  readonly platform: Platform;
  /** Null when an enclave that was already running on the state folder is used. */
  readonly process: EnclaveProcess | null;
  /** Loads the segments at the first call, and at the first after `unload`. */
  accelerator(): Promise<Accelerator>;
  /** Gives the accelerator's memory back, e.g. before training. */
  unload(): Promise<void>;
  /** A session of the enclave. Throws PolicyError when the licence does not allow it. */
  gate(session: { readonly topK: number; readonly temperature: number }): Promise<Gate>;
  close(): Promise<void>;
}

/** Checks the bundle, then connects to the enclave of `stateDir`, starting it when none answers. */
export async function openLockedTeacher(options: LockedTeacherOptions): Promise<LockedTeacher> {
  const bundle = await openBundle(options.bundleDir, { ownerKey: options.ownerKey });
  const { platform, socketPath, gramineApp } = options.enclave ?? SIMULATED;
  const running =
    socketPath === null
      ? await connectTo(join(options.stateDir, 'enclave.sock'), options.ledger).catch(() => null)
      : await connectTo(socketPath, options.ledger);
  const process = running
    ? null
    : await launchEnclave({
        bundleDir: options.bundleDir,
        stateDir: options.stateDir,
        ...(platform === 'sgx' && gramineApp !== null ? { platform, gramineApp } : {}),
        ownerPublicKey: options.ownerKey,
        ...(options.onNotice ? { onNotice: options.onNotice } : {}),
        ...(options.teeMemoryMb === undefined ? {} : { teeMemoryMb: options.teeMemoryMb }),
      });
  const client =
    running ??
    (await connectTo(process!.socketPath, options.ledger).catch(async (error: unknown) => {
      await process!.stop();
      throw error;
    }));
  const { service } = options;
  if (service) client.fetchLease = (request) => service.lease(request);
  let loaded: Promise<Accelerator> | null = null;
  async function unload(): Promise<void> {
    const accelerator = await loaded?.catch(() => null);
    loaded = null;
    await accelerator?.close();
  }
  return {
    bundle,
    client,
    platform,
    process,
    accelerator: () => {
      const settings = options.threads === undefined ? {} : { threads: options.threads };
      loaded ??= Accelerator.open(bundle.segments, bundle.config, settings);
      return loaded;
    },
    unload,
    gate: (session) => enclaveGate(client, session),
    close: async () => {
      await unload();
      await client.close();
      await process?.stop();
    },
  };
}

async function connectTo(socketPath: string, ledger?: EgressLedger): Promise<EnclaveClient> {
  const client = await EnclaveClient.connect(socketPath, ledger);
  // Unlocked in an earlier process: whatever is relayed from now on left after unlock.
  const { licence } = await client.status();
  if (licence !== null) client.ledger.markUnlocked();
  return client;
}

/** A session of the enclave behind `client`. Throws PolicyError when the licence does not allow it. */
export async function enclaveGate(
  client: EnclaveClient,
  options: { topK: number; temperature: number },
): Promise<Gate> {
  const session = await client.begin(options);
  return {
    authorise: (ids) => session.authorise(ids),
    release: ({ rows, k, ids, logprobs }) => session.release({ rows, k, lockedIds: ids, logprobs }),
    embed: (ids, layout) => session.embed(ids, layout),
    block: (segment, hidden, layout) => session.block(segment, hidden, layout),
    head: (rows, k) => session.head(rows, k),
  };
}
