// The data owner's side: `distillock/edge`.
export { type Bundle, openBundle } from './bundle.js';
export { openTeacherCache, type TeacherCache } from './cache/teacher-cache.js';
export { type Config, createConfig, loadConfig } from './config.js';
export { createBatches } from './data/batches.js';
export { readDataset } from './data/read.js';
export { type DistillEvents, type DistillOptions, type DistillOutcome, distill, distillFrom } from './distill.js';
export { EnclaveClient, EnclaveSession } from './enclave/client.js';
export { type EnclaveProcess, launchEnclave } from './enclave/launch.js';
export { loadOwnerPublicKey } from './owner-key.js';
export { Accelerator } from './teacher/accelerator.js';
export { captureTeacher } from './teacher/capture.js';
export { generate } from './teacher/generate.js';
export { type LockedTeacher, openLockedTeacher } from './teacher/locked-teacher.js';
export { Evaluator } from './train/evaluate.js';
export { openStudent, randomStudent, type Student, saveStudent } from './train/student.js';
export { train } from './train/trainer.js';
