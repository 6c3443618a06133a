// The licence service of a bundle, remembered beside the enclave's state once it has granted: later verbs need it for leases and receipt.
// Zone: edge. Not inside the state folder, where the sandboxed enclave program could write another address.
import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { describeFileError, writeFileAtomic } from '../../model/files.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import { parseServiceAddress, readCertificates, type ServiceAddress } from './address.js';

/** As in the settings. */
export interface ServiceChoice {
  readonly licenceService: string | null;
  /** File of PEM certificates. */
  readonly serviceCa: string | null;
  readonly insecureHttp: boolean;
}

const schema = z.strictObject({ url: z.string(), ca: z.string().nullable(), insecureHttp: z.boolean() });

function fileOf(stateDir: string): string {
  return `${stateDir}.service.json`;
}

/** The service that the settings name, else the one that granted before; null when there is neither. */
export async function chooseService(stateDir: string, choice: ServiceChoice): Promise<ServiceAddress | null> {
  if (choice.licenceService === null) return pinnedService(stateDir);
  const ca = choice.serviceCa === null ? null : await readCertificates(choice.serviceCa);
  return parseServiceAddress(choice.licenceService, { ca, insecureHttp: choice.insecureHttp });
}

/** Throws MalformedError('service-file') when the file was damaged. */
export async function pinnedService(stateDir: string): Promise<ServiceAddress | null> {
  const file = fileOf(stateDir);
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return null;
    throw describeFileError(error, file, 'read');
  }
  try {
    const { url, ca, insecureHttp } = schema.parse(JSON.parse(text));
    return parseServiceAddress(url, { ca, insecureHttp });
  } catch (cause) {
    const message = `${file} does not name a licence service any more; give --licence_service`;
    throw new MalformedError('service-file', message, { file }, cause);
  }
}

export async function pinService(stateDir: string, { base, ca, insecureHttp }: ServiceAddress): Promise<void> {
  await writeFileAtomic(fileOf(stateDir), `${JSON.stringify({ url: base, ca, insecureHttp })}\n`);
}
