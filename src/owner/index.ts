// The model owner's side: `distillock/owner`.
export { type Grant, grantLicence, type LicenceTerms } from './grant.js';
export { type LockedBundle, type LockOptions, lockModel } from './lock-checkpoint.js';
export { createOwnerKeys, loadOwnerKeys, type OwnerKeys, saveOwnerKeys, saveOwnerPublicKey } from './owner-keys.js';
export { type Appraiser, appraiserOf, freshAppraiser, type Reference } from './service/appraiser.js';
export { issueLicence, type LicenceOrder, revokeLicence, showLicence } from './service/licences.js';
export { type RunningService, type RunOptions, runLicenceService } from './service/run.js';
export { createLicenceService, type LicenceService } from './service/service.js';
export { type Database, openDatabase } from './store/database.js';
