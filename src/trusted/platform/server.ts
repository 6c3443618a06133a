// The enclave's only door: frames over a Unix socket, answered one by one. Zone: trusted.
// Under Gramine a Unix socket ends inside the enclave, so there the door is a port of the loopback interface.
// Several connections share one enclave and one budget; a connection that breaks the framing is answered `malformed` and closed.
import { createServer, type Server, type Socket } from 'node:net';
import type { Enclave } from '../enclave/enclave.js';
import { encodeFrame, type Frame, FrameDecoder } from '../wire/frame.js';
import { ERROR_REPLY, encodeError, REQUEST, REQUEST_LIMITS } from '../wire/messages.js';
import type { GrantOpener } from './hpke.js';

/** Unsent reply bytes above which a connection is not read any further. */
const HIGH_WATER_BYTES: number = 64 * 1024 * 1024;
const MALFORMED = { type: ERROR_REPLY, id: 0, body: encodeError({ refusal: 'malformed', numbers: [0, 0] }) };

export interface ServerOptions {
  readonly enclave: Enclave;
  readonly opener: GrantOpener;
  readonly bundleId: string;
}

/** Runs one task after the other, those of all connections. */
type Queue = (task: () => Promise<void>) => void;

function createQueue(): Queue {
  let last: Promise<void> = Promise.resolve();
  return (task) => {
    last = last.then(task);
  };
}

function serve(socket: Socket, options: ServerOptions, queue: Queue): void {
  const decoder = new FrameDecoder(REQUEST_LIMITS);
  async function answer(frame: Frame): Promise<void> {
    if (socket.destroyed) return;
    const opened = frame.type === REQUEST.unlock;
    const body = opened ? await options.opener.open(frame.body, options.bundleId) : frame.body;
    const reply = await options.enclave.handle({ ...frame, body });
    if (socket.destroyed) return;
    socket.write(encodeFrame(reply));
    if (socket.writableLength > HIGH_WATER_BYTES) socket.pause();
  }
  socket.on('drain', () => socket.resume());
  socket.on('error', () => socket.destroy());
  socket.on('data', (chunk: Buffer) => {
    let frames: Frame[];
    try {
      frames = decoder.push(chunk);
    } catch {
      socket.removeAllListeners('data').resume().end(encodeFrame(MALFORMED));
      return;
    }
    for (const frame of frames) queue(() => answer(frame));
  });
}

/**
 * Listens on `address`: a socket's path, or `tcp:PORT` on the loopback interface, 0 for a free one. Returns the address in full.
 * Rejects with Node's error when the socket cannot be made.
 */
export function startServer(address: string, options: ServerOptions): Promise<{ server: Server; address: string }> {
  const queue = createQueue();
  const server = createServer((socket) => serve(socket, options, queue));
  const port = /^tcp:(\d{1,5})$/.exec(address)?.[1];
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(port === undefined ? { path: address } : { host: '127.0.0.1', port: Number(port) }, () => {
      const bound = server.address();
      resolve({ server, address: bound === null || typeof bound === 'string' ? address : `tcp:${bound.port}` });
    });
  });
}
