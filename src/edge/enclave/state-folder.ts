// Where the enclave of a bundle keeps its sealed state: one folder for each bundle, found again by the bundle's id. Zone: edge.
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { MalformedError } from '../../trusted/wire/errors.js';
import { bundleId } from '../../trusted/wire/manifest.js';

/** `<enclaveStateDir>/<first 16 digits of the bundle's id>`. Throws MalformedError('manifest-missing') for what is no bundle. */
export async function stateFolder(enclaveStateDir: string, bundleDir: string): Promise<string> {
  const file = join(bundleDir, 'manifest.json');
  const bytes = await readFile(file).catch((cause: unknown) => {
    const message = `${file} cannot be read: ${bundleDir} is not a bundle, or incomplete`;
    throw new MalformedError('manifest-missing', message, { file }, cause);
  });
  return join(enclaveStateDir, bundleId(bytes).slice(0, 16));
}
