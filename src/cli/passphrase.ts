// The passphrase of an encrypted key file: from the environment, or typed without echo on a terminal. Zone: owner.
// Never an option: command lines are visible to every user of the machine.
import { EnvironmentError, MalformedError } from '../trusted/wire/errors.js';
import { InterruptedError } from './errors.js';

export const PASSPHRASE_VARIABLE = 'DISTILLOCK_PASSPHRASE';
export const NEW_PASSPHRASE_VARIABLE = 'DISTILLOCK_NEW_PASSPHRASE';

/** null when it is not set, or empty. */
export function passphraseFromEnvironment(variable: string = PASSPHRASE_VARIABLE): string | null {
  return process.env[variable] || null;
}

/** Opens an existing file. Throws EnvironmentError('passphrase-missing') when nobody can be asked. */
export async function askPassphrase(): Promise<string> {
  return passphraseFromEnvironment() ?? (await typed('passphrase: ', PASSPHRASE_VARIABLE));
}

/** For a file to be written: typed twice. Throws MalformedError('passphrase') when the two differ. */
export async function askNewPassphrase(variable: string = PASSPHRASE_VARIABLE): Promise<string> {
  const given = passphraseFromEnvironment(variable);
  if (given !== null) return given;
  const first = await typed('new passphrase: ', variable);
  if (first === (await typed('the same again: ', variable))) return first;
  throw new MalformedError('passphrase', 'the two passphrases differ; nothing was written');
}

async function typed(question: string, variable: string): Promise<string> {
  const { stdin, stderr } = process;
  if (!stdin.isTTY || !stderr.isTTY) {
    const message = `the key file needs a passphrase: set ${variable}, or run on a terminal`;
    throw new EnvironmentError('passphrase-missing', message, { variable });
  }
  stderr.write(question);
  stdin.setRawMode(true);
  stdin.setEncoding('utf8');
  stdin.resume();
  try {
    return await readLine(stdin);
  } finally {
    stdin.setRawMode(false);
    stdin.pause();
    stderr.write('\n');
  }
}

/** Raw mode delivers control characters as text: Return ends, Backspace takes back, Ctrl-C and Ctrl-D give up. */
export function readLine(input: NodeJS.EventEmitter): Promise<string> {
  return new Promise((resolve, reject) => {
    let line = '';
    const onData = (chunk: string): void => {
      for (const char of chunk) {
        if (char === '\r' || char === '\n' || char === '\u0003' || char === '\u0004') {
          input.off('data', onData);
          if (char === '\r' || char === '\n') resolve(line);
          else reject(new InterruptedError(null));
          return;
        }
        if (char === '\u007f' || char === '\b') line = [...line].slice(0, -1).join('');
        else if (char >= ' ') line += char;
      }
    };
    input.on('data', onData);
  });
}
