// distillock receipt verify: whether a receipt was signed by the enclave that the owner attested, and what it says. Offline.
import type { Command } from 'commander';
import { decodeEvidence } from '../../../attest/evidence/decode-evidence.js';
import { verifyReceipt } from '../../../attest/receipt.js';
import { decodeBase64url } from '../../../trusted/wire/base64url.js';
import { MalformedError, VerificationError } from '../../../trusted/wire/errors.js';
import { keyId } from '../../../trusted/wire/jws.js';
import type { Receipt } from '../../../trusted/wire/receipt.js';
import { UsageError } from '../../errors.js';
import { readEvidenceFile } from '../../exchange-files.js';
import { readReceiptFile, renderReceipt } from '../../receipt-file.js';
import type { Context, Verb, VerbHelp } from '../../verb.js';

export interface ReceiptVerifyOptions {
  readonly receipt: string;
  /** Evidence file that names the enclave's key; undefined when the key itself is given. */
  readonly evidence: string | undefined;
  /** Raw Ed25519 public key in base64url. */
  readonly enclaveKey: string | undefined;
}

export const receiptVerifyHelp: VerbHelp<ReceiptVerifyOptions> = {
  name: 'receipt verify',
  summary: "check a receipt's signature and print what it says",
  examples: [
    ['distillock receipt verify t.receipt --evidence alice.evidence', 'signed by the enclave that was attested?'],
    ['distillock receipt verify t.receipt --enclave_key KEY', 'the key as the licence service lists it'],
  ],
  define(command: Command): void {
    command
      .argument('<receipt>', 'receipt of `distillock destroy`')
      .option('--evidence <file>', "the enclave's evidence, from `distillock enclave`")
      .option('--enclave_key <key>', "the enclave's signing key: 32 bytes in base64url");
  },
  parse(command: Command): ReceiptVerifyOptions {
    const { evidence, enclave_key } = command.opts<{ evidence?: string; enclave_key?: string }>();
    if ((evidence === undefined) === (enclave_key === undefined))
      throw new UsageError('usage', 'give the key that must have signed: either --evidence or --enclave_key');
    return { receipt: command.args[0]!, evidence, enclaveKey: enclave_key };
  },
};

export const receiptVerify: Verb<ReceiptVerifyOptions> = { ...receiptVerifyHelp, run: runReceiptVerify };

/** What --json prints. */
interface ReceiptVerifyResult {
  readonly signature: 'verified';
  readonly receipt: Receipt;
}

/** Throws VerificationError('signature' | 'receipt-key') when another key signed it, or it was altered. */
async function runReceiptVerify(options: ReceiptVerifyOptions, context: Context): Promise<ReceiptVerifyResult> {
  const jws = await readReceiptFile(options.receipt);
  const key = await expectedKey(options);
  const receipt = verifyReceipt(jws, key);
  if (receipt.enclaveKeyId !== keyId(key)) {
    const message = `${options.receipt} names another enclave key than the one that signed it`;
    throw new VerificationError('receipt-key', message, { file: options.receipt });
  }
  context.print(renderReceipt(receipt, context.colour));
  context.print(
    options.evidence === undefined
      ? 'Signature verified with the key given.'
      : `Signature verified with the key in ${options.evidence}; the evidence itself is checked by \`distillock attest verify\`.`,
  );
  return { signature: 'verified', receipt };
}

async function expectedKey({ evidence: file, enclaveKey }: ReceiptVerifyOptions): Promise<Uint8Array> {
  if (file === undefined) {
    if (enclaveKey !== undefined && /^[A-Za-z0-9_-]{43}$/.test(enclaveKey)) return decodeBase64url(enclaveKey);
    throw new UsageError('usage', '--enclave_key is 32 bytes in base64url, 43 characters');
  }
  const { evidence } = await readEvidenceFile(file);
  try {
    return decodeEvidence(evidence).claims.signingKey;
  } catch (cause) {
    const message = `${file} holds no evidence of an enclave; ask for it again`;
    throw new MalformedError('evidence-file', message, { file }, cause);
  }
}
