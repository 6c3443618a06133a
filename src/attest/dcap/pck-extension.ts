// The SGX extension of a PCK certificate: which platform family and firmware level the certificate is for. Zone: owner (verifier).
// Intel SGX PCK Certificate and CRL Profile Specification, revision 1.5, section 1.3.5 (id 1.2.840.113741.1.13.1).
import { encodeHex } from '../../trusted/wire/bytes.js';
import { MalformedError } from '../../trusted/wire/errors.js';
import type { Certificate } from './certificates.js';
import { DerReader, malformedDer, TAG } from './der.js';

/** 1.2.840.113741.1.13.1; its fields append their number. */
const SGX = '2a864886f84d010d01';
const COMPONENTS = 16;

export interface PckFacts {
  /** Security version numbers of the platform's 16 SGX components. */
  readonly components: readonly number[];
  readonly pceSvn: number;
  /** Hex, 2 bytes. */
  readonly pceId: string;
  /** Hex, 6 bytes: family, model, stepping, platform type and custom SKU. */
  readonly fmspc: string;
}

/** Reads { id, value } pairs of known ids; each at most once. */
function readFields(fields: DerReader, readers: ReadonlyMap<string, (value: DerReader) => void>): Set<string> {
  const seen = new Set<string>();
  while (!fields.done) {
    const pair = fields.into();
    const id = pair.objectId();
    const read = readers.get(id);
    if (read === undefined || seen.has(id)) malformedDer(`an unknown or repeated field of the SGX extension (${id})`);
    seen.add(id);
    read(pair);
    pair.end();
  }
  return seen;
}

/** Throws MalformedError when the certificate has no such extension or one of another shape. */
export function readPckExtension(certificate: Certificate): PckFacts {
  const content = certificate.extensions.get(SGX);
  if (content === undefined) {
    throw new MalformedError('pck-extension', 'the PCK certificate has no SGX extension');
  }
  return parsePckExtension(content);
}

export function parsePckExtension(content: Uint8Array): PckFacts {
  const components: number[] = [];
  let pceSvn = 0;
  let pceId = '';
  let fmspc = '';
  const tcbReaders = new Map<string, (value: DerReader) => void>();
  for (let i = 0; i < COMPONENTS; i++) {
    const id = `${SGX}02${(i + 1).toString(16).padStart(2, '0')}`;
    tcbReaders.set(id, (value) => {
      components[i] = value.integer(255);
    });
  }
  tcbReaders.set(`${SGX}0211`, (value) => {
    pceSvn = value.integer(65_535);
  });
  tcbReaders.set(`${SGX}0212`, (value) => {
    value.octets(16); // CPUSVN: the raw form of the components above, which are what is compared.
  });
  const whole = new DerReader(content);
  const fields = whole.into();
  whole.end();
  const seen = readFields(
    fields,
    new Map<string, (value: DerReader) => void>([
      [`${SGX}01`, (value) => void value.octets(16)], // PPID
      [
        `${SGX}02`,
        (value) => {
          if (readFields(value.into(), tcbReaders).size !== tcbReaders.size)
            malformedDer('a TCB without all its fields');
        },
      ],
      [`${SGX}03`, (value) => (pceId = encodeHex(value.octets(2)))],
      [`${SGX}04`, (value) => (fmspc = encodeHex(value.octets(6)))],
      [`${SGX}05`, (value) => void value.next(TAG.enumerated)], // SGX type
      [`${SGX}06`, (value) => void value.octets(16)], // platform instance
      [`${SGX}07`, (value) => void value.next(TAG.sequence)], // configuration
    ]),
  );
  for (const field of ['01', '02', '03', '04', '05']) {
    if (!seen.has(`${SGX}${field}`)) malformedDer(`an SGX extension without its field ${Number(field)}`);
  }
  return { components, pceSvn, pceId, fmspc };
}
