// The enclave's only door: frames over a Unix socket, answered one by one. Zone: trusted.
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

function serve(socket: Socket, options: ServerOptions): void {
  const decoder = new FrameDecoder(REQUEST_LIMITS);
  function answer(frame: Frame): void {
    if (socket.destroyed) return;
    socket.write(encodeFrame(options.enclave.handle(frame)));
    if (socket.writableLength > HIGH_WATER_BYTES) socket.pause();
  }
  async function unlock(frame: Frame): Promise<void> {
    answer({ ...frame, body: await options.opener.open(frame.body, options.bundleId) });
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
    for (const frame of frames) {
      if (frame.type === REQUEST.unlock) void unlock(frame);
      else answer(frame);
    }
  });
}

/** Listens on `path`; rejects with Node's error when the socket cannot be made. */
export function startServer(path: string, options: ServerOptions): Promise<Server> {
  const server = createServer((socket) => serve(socket, options));
  return new Promise((resolve, reject) => {
    server.once('error', reject);
    server.listen(path, () => resolve(server));
  });
}
