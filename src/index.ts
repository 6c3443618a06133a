// The library: errors, and everything a program needs to lock, license, distil and measure. Rooms have their own subpaths.

export { type Bundle, openBundle } from './edge/bundle.js';
export { type Config, createConfig, loadConfig } from './edge/config.js';
export { type DistillEvents, type DistillOptions, type DistillOutcome, distill } from './edge/distill.js';
export { type LockedTeacher, type LockedTeacherOptions, openLockedTeacher } from './edge/teacher/locked-teacher.js';
export type { Checkpoint } from './model/checkpoint/hf-directory.js';
export { openCheckpoint } from './model/checkpoint/open.js';
export { grantLicence, type LicenceTerms } from './owner/grant.js';
export { type LockOptions, lockModel } from './owner/lock-checkpoint.js';
export * from './trusted/wire/errors.js';
