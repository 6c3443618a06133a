// The model owner's side: `distillock/owner`.
export { type Grant, grantLicence, type LicenceTerms } from './grant.js';
export { type LockedBundle, type LockOptions, lockModel } from './lock-checkpoint.js';
export { createOwnerKeys, loadOwnerKeys, type OwnerKeys, saveOwnerKeys, saveOwnerPublicKey } from './owner-keys.js';
