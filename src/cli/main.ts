#!/usr/bin/env node
// The `distillock` command.
import { readFileSync } from 'node:fs';
import { runProgram } from './program.js';
import { GROUPS, VERBS } from './verbs/table.js';

// A reader that went away (`| head`) is no error.
process.stdout.on('error', (error: NodeJS.ErrnoException) => {
  if (error.code === 'EPIPE') process.exit(0);
  throw error;
});

const packageJson = new URL('../../../package.json', import.meta.url);
const { version } = JSON.parse(readFileSync(packageJson, 'utf8')) as { version: string };

process.exitCode = await runProgram(process.argv.slice(2), {
  version,
  verbs: VERBS,
  groups: GROUPS,
  stdout: process.stdout,
  stderr: process.stderr,
  env: process.env,
  exit: (code) => {
    // The progress bar hides the cursor.
    if (process.stderr.isTTY) process.stderr.write('\u001b[?25h');
    process.exit(code);
  },
});
