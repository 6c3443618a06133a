// Opens the licences for the verbs that change or show them, and closes them again.
import type { Command } from 'commander';
import type { LicenceAdmin } from '../owner/service/admin.js';

export const DATABASE_FALLBACK = './licences';

export function databaseOption(command: Command): Command {
  return command.option(
    '--database <folder|url>',
    'licences: a folder (embedded, one process) or postgres://… (a fleet)',
    DATABASE_FALLBACK,
  );
}

/** `work` on the database itself, or through the running service that has the folder. */
export async function withLicences<T>(location: string, work: (admin: LicenceAdmin) => Promise<T>): Promise<T> {
  const { openAdmin } = await import('../owner/service/admin-socket.js');
  const { admin, close } = await openAdmin(location);
  try {
    return await work(admin);
  } finally {
    await close();
  }
}
