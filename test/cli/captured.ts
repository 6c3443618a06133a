// An output stream for tests that keeps what is written.
import type { OutputStream } from '../../src/cli/terminal.js';

export interface Captured extends OutputStream {
  text: string;
}

export function captured(isTTY = false): Captured {
  const stream: Captured = {
    text: '',
    isTTY,
    columns: 80,
    write(text) {
      stream.text += text;
      return true;
    },
  };
  return stream;
}
