// The edge's half of an SGX enclave: Gramine's command, and a Unix socket in front of the enclave's loopback port. Zone: edge.
// Gramine keeps Unix sockets inside the enclave, so the enclave listens on a port; whoever speaks to it gains nothing but answers
// that the licence allows, yet every local user can reach a port. Not run on hardware.
import { connect, createServer, type Server } from 'node:net';
import { basename, dirname } from 'node:path';
import { EnvironmentError, ProtocolError } from '../../trusted/wire/errors.js';

/** `gramine-sgx` finds `<name>.manifest.sgx` in its working folder; everything else stands in that measured file. */
export function gramineCommand(app: string): { command: readonly string[]; cwd: string } {
  return { command: ['gramine-sgx', basename(app)], cwd: dirname(app) };
}

/** Throws EnvironmentError('enclave-running') when somebody answers on `socketPath`: the enclave itself would not notice. */
export async function refuseRunning(socketPath: string): Promise<void> {
  const answered = await new Promise<boolean>((resolve) => {
    const probe = connect(socketPath, () => resolve(true)).on('error', () => resolve(false));
    probe.once('connect', () => probe.destroy());
  });
  if (answered) throw new EnvironmentError('enclave-running', 'an enclave already runs on this state folder; stop it');
}

/** Passes every connection to `socketPath` on to `address`, `tcp:PORT`. Throws ProtocolError('enclave-address') for another form. */
export function relay(socketPath: string, address: string): Promise<Server> {
  const port = Number(/^tcp:(\d{1,5})$/.exec(address)?.[1] ?? 0);
  if (port === 0) throw new ProtocolError('enclave-address', `the enclave names no port: ${address}`, { address });
  const server = createServer({ allowHalfOpen: true }, (near) => {
    const far = connect({ port, host: '127.0.0.1', allowHalfOpen: true });
    for (const [from, to] of [
      [near, far],
      [far, near],
    ] as const) {
      from.pipe(to);
      from.on('error', () => to.destroy());
      from.on('close', () => to.destroySoon()); // What was read is still written.
    }
  });
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(socketPath, () => resolve(server.unref()));
  });
}
