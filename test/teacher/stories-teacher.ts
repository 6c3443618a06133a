// The bundled teacher three ways: unlocked on the accelerator, locked without a licence, locked and licensed. Not a test itself.
import { join } from 'node:path';
import type { TestContext } from 'node:test';
import { type Licensed, type LockedHere, licenseHere, lockHere } from '../../src/cli/experiment/on-one-machine.js';
import { Accelerator } from '../../src/edge/teacher/accelerator.js';
import { type LockedTeacher, openLockedTeacher } from '../../src/edge/teacher/locked-teacher.js';
import { segmentsIn } from '../../src/edge/teacher/unlocked-model.js';
import type { Checkpoint } from '../../src/model/checkpoint/hf-directory.js';
import { openCheckpoint } from '../../src/model/checkpoint/open.js';
import { readSegmentWeight, writeSegments } from '../../src/model/segment-weights.js';
import { buildSegments } from '../../src/model/segments.js';
import type { LicenceTerms } from '../../src/owner/grant.js';

export const storiesFolder = 'assets/stories260k';

/** A checkpoint's own segments, nothing locked, written to `folder` and loaded. */
export async function openUnlocked(t: TestContext, checkpoint: Checkpoint, folder: string): Promise<Accelerator> {
  const weightOf = (weight: Parameters<typeof readSegmentWeight>[1]): Promise<Float32Array> =>
    readSegmentWeight(checkpoint.tensors, weight);
  await writeSegments(folder, buildSegments(checkpoint.config), weightOf);
  const accelerator = await Accelerator.open(segmentsIn(folder, 2), checkpoint.config);
  t.after(() => accelerator.close());
  return accelerator;
}

/** stories260K locked into `<folder>/stories.lock`. */
export async function lockStories(folder: string, options: Parameters<typeof lockHere>[3] = {}): Promise<LockedHere> {
  const checkpoint = await openCheckpoint(storiesFolder);
  try {
    return await lockHere(checkpoint, folder, 'stories', options);
  } finally {
    await checkpoint.tensors.close();
  }
}

/** Starts an enclave on `stateDir`, or connects to the one that runs there; it is stopped when the test ends. */
export async function openStories(
  t: TestContext,
  locked: LockedHere,
  stateDir: string,
  teeMemoryMb?: number,
): Promise<LockedTeacher> {
  const teacher = await openLockedTeacher({
    bundleDir: locked.bundleDir,
    ownerKey: locked.keys.signingKey,
    stateDir,
    onNotice: () => undefined,
    ...(teeMemoryMb === undefined ? {} : { teeMemoryMb }),
  });
  t.after(() => teacher.close());
  return teacher;
}

export function licence(changes: Partial<LicenceTerms> = {}): LicenceTerms {
  const now = Math.floor(Date.now() / 1000);
  return {
    budgetTokens: 100_000,
    topK: 64,
    precision: 'float32',
    temperature: { min: 0.5, max: 2 },
    notBefore: now - 60,
    expires: now + 3600,
    ...changes,
  };
}

/** Locked, started and licensed, in `folder`. */
export async function openLicensed(
  t: TestContext,
  folder: string,
  changes: Partial<LicenceTerms> = {},
): Promise<{ locked: LockedHere; teacher: LockedTeacher; granted: Licensed }> {
  const locked = await lockStories(folder);
  const teacher = await openStories(t, locked, join(folder, 'state'));
  return { locked, teacher, granted: await licenseHere(locked, teacher, licence(changes)) };
}

/** Tokens charged so far to the licence in force. */
export async function charged(teacher: LockedTeacher): Promise<number> {
  return (await teacher.client.status()).licence?.chargedTokens ?? 0;
}
